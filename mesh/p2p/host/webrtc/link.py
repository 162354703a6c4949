"""Datagrams of one peer: DTLS, and SCTP inside it. Everything is done as it comes, so that nobody waits for anybody.

`run` keeps the time: what was not answered is said again, and the path is kept open.
"""

import os
from collections.abc import Callable

import trio

from mesh.p2p.host.doubt import Doubt
from mesh.p2p.host.webrtc import stun
from mesh.p2p.host.webrtc.channels import ChannelFault
from mesh.p2p.host.webrtc.dtls import Dtls, DtlsClosed, DtlsFault
from mesh.p2p.host.webrtc.framing import MAX_FRAME_BYTES, FrameFault
from mesh.p2p.host.webrtc.noise import NoiseFault
from mesh.p2p.host.webrtc.sctp.association import Association, SctpClosed
from mesh.p2p.host.webrtc.sctp.packets import SctpFault
from mesh.p2p.host.wires import Wire

# A stranger's, and that of who has proved who it is.
STRANGER_WINDOW_BYTES = 1 << 16
WINDOW_BYTES = 1 << 20
FAULTS = (DtlsFault, SctpFault, FrameFault, ChannelFault, NoiseFault)
_CLOSED = (DtlsClosed, SctpClosed)
# Consent of RFC 7675 is asked for every 5 s; NATs forget a UDP port after 30 s and more.
_KEEP_EVERY_S = 5.0


class Link:
    """``send`` sends a datagram at once or drops it; ``ufrag`` is known to the side that dials.

    ``on_message`` and ``on_reset`` are `Association`'s; ``on_tick`` is called every few seconds.
    """

    def __init__(
        self,
        wire: Wire,
        dtls: Dtls,
        send: Callable[[bytes], None],
        *,
        on_message: Callable[[int, int, bytes], None],
        on_reset: Callable[[int], None],
        on_tick: Callable[[], None],
        ufrag: bytes = b"",
    ) -> None:
        self.wire = wire
        self.dtls = dtls
        self.is_up = trio.Event()
        self.is_answered = False
        self.association: Association | None = None
        self._send = send
        self._on_message = on_message
        self._on_reset = on_reset
        self._on_tick = on_tick
        self._ufrag = ufrag
        self._due: float | None = None
        self._doubt = Doubt()
        self._sooner = trio.Event()

    # --- what comes ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Say hello, or answer the one that the DTLS connection began with; `flush` must follow."""
        with Blamed(self.wire):
            self.dtls.proceed()

    def receive(self, datagram: bytes) -> None:
        """A datagram of DTLS. Whatever is wrong with it ends the wire; `flush` must follow."""
        with Blamed(self.wire):
            self.is_answered = True
            for packet in self.dtls.receive(datagram):
                now = self.wire.heard_at = trio.current_time()
                self._begun().receive(packet, now)
            if self.dtls.is_up:
                self._begun()
            if self.association is not None and self.association.is_up:
                self.is_up.set()

    def _begun(self) -> Association:
        """Once DTLS is up, the side that dialled begins with SCTP."""
        if self.association is None:
            self.association = Association(
                packet_bytes=self.dtls.packet_bytes & ~3,
                window_bytes=STRANGER_WINDOW_BYTES,
                max_message_bytes=2 * MAX_FRAME_BYTES,
                on_message=self._on_message,
                on_reset=self._on_reset,
            )
            if not self.wire.inbound:
                self.association.connect(trio.current_time())
        return self.association

    def trust(self) -> None:
        """It has proved who it is: it may send more at once."""
        assert self.association is not None
        self.association.receiver.window_bytes = WINDOW_BYTES
        self.association.receiver.taken(trio.current_time())

    # --- what goes -----------------------------------------------------------------------------------------------

    def put(self, channel: int, protocol: int, message: bytes) -> None:
        """Send a message of a channel; `flush` must follow."""
        assert self.association is not None
        self.association.sender.put(channel, protocol, message)

    def flush(self) -> None:
        """Send all that can be sent now."""
        if self.wire.closed.is_set():
            return
        with Blamed(self.wire):
            self._flush()

    def _flush(self) -> None:
        now = trio.current_time()
        if self.association is not None:
            for packet in self.association.packets(now):
                self.dtls.send(packet)
        for datagram in self.dtls.take():
            self._send(datagram)
        due = self._next_due(now)
        if due is not None and (self._due is None or due < self._due):
            self._sooner.set()

    def goodbye(self) -> None:
        """Say that it is over, as far as that can be said at once."""
        self._sooner.set()
        try:
            if self.association is not None:
                self.association.abort()
                for packet in self.association.packets(trio.current_time()):
                    self.dtls.send(packet)
            self.dtls.close()
            for datagram in self.dtls.take():
                self._send(datagram)
        except FAULTS:
            return

    # --- time ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the time until the wire is closed."""
        keep_at = trio.current_time() + _KEEP_EVERY_S
        while not self.wire.closed.is_set():
            due = self._next_due(trio.current_time())
            self._due = keep_at if due is None else min(due, keep_at)
            self._sooner = trio.Event()
            with trio.move_on_at(self._due):
                await self._sooner.wait()
            with Blamed(self.wire):
                if trio.current_time() >= keep_at:
                    keep_at = trio.current_time() + _KEEP_EVERY_S
                    self._keep()
                self._tick()
            self.flush()

    def _keep(self) -> None:
        if self._ufrag:
            self._send(stun.request(self._ufrag, os.urandom(12), int.from_bytes(os.urandom(8), "big")))
        self._on_tick()

    def doubt(self) -> None:
        """Somebody says that nobody listens there any more, as anybody could: ask the peer. `flush` must follow."""
        asks = self._doubt.raise_at(trio.current_time())
        if asks and self.association is not None and self.association.is_up:
            self.association.ask_for_life()

    def _tick(self) -> None:
        now = trio.current_time()
        if self._doubt.is_confirmed(now, self.wire.heard_at):
            raise DtlsClosed("closed by the peer")
        if not self.dtls.is_up and self.dtls.timeout_s() == 0:
            self.dtls.expire()
        if self.association is not None:
            self.association.tick(now)

    def _next_due(self, now: float) -> float | None:
        due = [self._doubt.until]
        if not self.dtls.is_up:
            wait_s = self.dtls.timeout_s()
            due.append(None if wait_s is None else now + wait_s)
        elif self.association is not None:
            due.append(self.association.deadline())
        return min((one for one in due if one is not None), default=None)


class Blamed:
    """What is the peer's fault, or its goodbye, ends its wire and nothing else."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, _CLOSED):
            self._wire.abort(str(error))
        elif isinstance(error, Exception):
            self._wire.failure = self._wire.failure or error
            self._wire.abort(str(error) if isinstance(error, FAULTS) else repr(error))
        return error is None or isinstance(error, Exception)
