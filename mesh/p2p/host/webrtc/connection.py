"""A connection of WebRTC-direct: its streams, and the handshake that tells whose it is."""

from collections.abc import Callable

import trio
from libp2p.abc import IMuxedStream
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable

from mesh.p2p.host.muxed import MuxingConnection
from mesh.p2p.host.webrtc import channels
from mesh.p2p.host.webrtc.channels import ChannelFault, Channels
from mesh.p2p.host.webrtc.dtls import Dtls
from mesh.p2p.host.webrtc.framing import Deframer, frame
from mesh.p2p.host.webrtc.link import FAULTS, Link
from mesh.p2p.host.webrtc.local import Local
from mesh.p2p.host.webrtc.noise import Handshake, NoiseFault
from mesh.p2p.host.webrtc.stream import WebRtcStream
from mesh.p2p.host.wires import Wire

TRANSPORT = "webrtc-direct"
NOISE = "/noise"
_MAX_EARLY_BYTES = 4096


class WebRtcConnection(MuxingConnection):
    """Begins as a stranger's: `handshake` makes it somebody's. It ends with its wire."""

    negotiated_security_protocol = NOISE
    negotiated_muxer_protocol = "/webrtc-direct"

    def __init__(
        self,
        remote: tuple[str, int],
        dtls: Dtls,
        send: Callable[[bytes], None],
        on_end: Callable[[], None],
        *,
        inbound: bool,
        local: Local,
        ufrag: bytes = b"",
    ) -> None:
        kind = "ip6" if ":" in remote[0] else "ip4"
        address = f"/{kind}/{remote[0]}/udp/{remote[1]}/{TRANSPORT}"
        self.wire = Wire(remote, address, inbound=inbound, transport=TRANSPORT, hang_up=self._hang_up)
        self.event_started = trio.Event()
        self.event_shutting_down = trio.Event()
        self.link = Link(
            self.wire,
            dtls,
            send,
            on_message=self._message,
            on_reset=self._was_reset,
            on_tick=self._tidy,
            ufrag=ufrag,
        )
        self.hello_random = b""
        self._on_end = on_end
        self._local = local
        self._held = 0
        self._noise: Handshake | None = None
        self._noise_frames = Deframer()
        self._early = b""
        self._proved = trio.Event()
        self._channels = Channels(
            even=not inbound,
            make=self._make_stream,
            send=self._put,
            close=self._close_channel,
            on_opened=self._opened,
        )
        self._opened_by_peer, self._to_accept = trio.open_memory_channel[IMuxedStream](channels.MAX_CHANNELS)

    # --- the handshake -------------------------------------------------------------------------------------------

    async def handshake(self, fingerprints: Callable[[], tuple[bytes, bytes]]) -> None:
        """Wait until SCTP is up and the peer has proved who it is; returns too when the wire was closed meanwhile.

        ``fingerprints``, of the dialler's certificate and the listener's, are asked for once DTLS is up.
        """
        await self._unless_closed(self.link.is_up)
        if self.wire.closed.is_set():
            return
        dialler, listener = fingerprints()
        self._noise = Handshake(self._local.identity, dialler=dialler, listener=listener, begins=self.wire.inbound)
        if self.wire.inbound:
            self._say_noise(self._noise.begin())
        elif self._early:
            self._noise_came(self._early)
        self.link.flush()
        await self._unless_closed(self._proved)

    async def _unless_closed(self, event: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_then_cancel, event, nursery.cancel_scope)
            nursery.start_soon(_then_cancel, self.wire.closed, nursery.cancel_scope)

    def _say_noise(self, message: bytes) -> None:
        if message:
            self.link.put(channels.HANDSHAKE, channels.BINARY, frame(message))

    def _handshake_message(self, message: bytes) -> None:
        if self._proved.is_set():
            return
        for payload, _ in self._noise_frames.feed(message):
            if self._noise is None:
                self._early += payload
                if len(self._early) > _MAX_EARLY_BYTES:
                    raise NoiseFault("too much before its turn")
            else:
                self._noise_came(payload)

    def _noise_came(self, payload: bytes) -> None:
        assert self._noise is not None
        self._say_noise(self._noise.feed(payload))
        if self._noise.peer_id is not None:
            self.peer_id: ID = self._noise.peer_id
            self._proved.set()
            self.link.trust()

    # --- streams -------------------------------------------------------------------------------------------------

    def _make_stream(self, channel: int) -> WebRtcStream:
        return WebRtcStream(
            self,
            channel,
            put=lambda frame_: self._put_and_flush(channel, frame_),
            unsent=lambda: self._unsent(channel),
            on_held=self._hold,
            on_over=self._channels.over,
        )

    def _message(self, channel: int, protocol: int, message: bytes) -> None:
        if protocol == channels.CONTROL:
            self._channels.control(channel, message)
        elif protocol in (channels.EMPTY, channels.EMPTY_STRING):
            return
        elif channel == channels.HANDSHAKE:
            self._handshake_message(message)
        elif (stream := self._channels.get(channel)) is not None:
            stream.feed(message)

    def _hold(self, change: int) -> None:
        """What is held narrows the peer's window, and all that is held is not to be too much for us."""
        assert self.link.association is not None
        self._held += change
        receiver = self.link.association.receiver
        receiver.held = self._held
        if change < 0:
            receiver.taken(trio.current_time())
            if receiver.sack_at is not None and receiver.sack_at <= trio.current_time():
                self.link.flush()
        elif self._proved.is_set() and not self.wire.closed.is_set():
            self._local.budget.receive(self, self._held)

    def _unsent(self, channel: int) -> int:
        association = self.link.association
        return 0 if association is None else association.sender.queued.get(channel, 0)

    def _put(self, channel: int, protocol: int, message: bytes) -> None:
        if not self.wire.closed.is_set():
            self.link.put(channel, protocol, message)

    def _put_and_flush(self, channel: int, message: bytes) -> None:
        self._put(channel, channels.BINARY, message)
        self.link.flush()

    def _close_channel(self, channel: int) -> None:
        if self.link.association is not None:
            self.link.association.resets.want(channel)

    def _was_reset(self, channel: int) -> None:
        if channel == channels.HANDSHAKE:
            self._close_channel(channel)
        else:
            self._channels.was_reset(channel)

    def _opened(self, stream: WebRtcStream) -> None:
        try:
            self._opened_by_peer.send_nowait(stream)
        except trio.WouldBlock:
            raise ChannelFault("opens streams faster than they are taken") from None

    def received(self) -> None:
        """Datagrams were given to the link: answer, and let writers go on."""
        self.link.flush()
        for stream in self._channels:
            if not stream.room.is_set() and stream.send_window > 0:
                stream.room.set()

    def unreachable(self) -> None:
        """See `Link.doubt`."""
        self.link.doubt()
        self.link.flush()

    def _tidy(self) -> None:
        for stream in self._channels:
            stream.linger()

    # --- IMuxedConn ----------------------------------------------------------------------------------------------

    @property
    def is_established(self) -> bool:
        """Whether the peer has proved who it is."""
        return self._proved.is_set()

    @property
    def is_closed(self) -> bool:
        """Whether it is over."""
        return self.wire.closed.is_set()

    async def open_stream(self) -> IMuxedStream:
        """A new stream; the peer hears of it with its first bytes. Raises MuxedConnUnavailable."""
        await trio.lowlevel.checkpoint()
        if self.is_closed:
            raise MuxedConnUnavailable("the connection is over")
        try:
            return self._channels.open()
        except ChannelFault as error:
            raise MuxedConnUnavailable(str(error)) from error

    # --- MuxedConnection -----------------------------------------------------------------------------------------

    async def ask_for_life(self) -> None:
        """See `MuxedConnection.ask_for_life`."""
        if self.link.association is not None and self.link.association.is_up:
            self.link.association.ask_for_life()
            self.link.flush()
        await trio.lowlevel.checkpoint()

    def held(self) -> int:
        """See `MuxedConnection.held`."""
        return self._held

    def _hang_up(self) -> None:
        if self.event_shutting_down.is_set():
            return
        if self.wire.settled and isinstance(self.wire.failure, FAULTS):
            self.fault = str(self.wire.failure)
        self.event_shutting_down.set()
        self.link.goodbye()
        self._on_end()
        self._local.budget.forget(self)
        self._channels.end()
        self._opened_by_peer.close()


async def _then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
