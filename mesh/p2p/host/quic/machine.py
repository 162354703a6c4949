"""aioquic's connection with what libp2p asks of it, and windows that open as fast as somebody reads.

aioquic doubles its windows when data has come, read or not: a peer could fill the memory of who is slow. Here a window
is what was read and a constant.
"""

import hmac
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic import connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    Limit,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.events import QuicEvent
from aioquic.quic.packet import QuicErrorCode, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream as StreamState
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID
from libp2p.security.exceptions import HandshakeFailure

from mesh.p2p.host.certificates import ALPN, identity_in, make_certificate
from mesh.p2p.host.quic.resets import TOKEN_BYTES, Resets

STREAM_WINDOW_BYTES = 1 << 20
CONNECTION_WINDOW_BYTES = 8 << 20
# What passes anywhere where IPv6 does (1,280 bytes) without its and UDP's headers.
_DATAGRAM_BYTES = 1232
_NO_ERROR = 0
# aioquic looks through all gaps of a stream with each piece of it: bytes sent here and there would stop the process.
# This many are packets lost out of one window, with others between.
_MAX_GAPS = 256

# Of messages of TLS that came before what they follow, in each connection and each of three epochs; it has no switch.
connection.MAX_PENDING_CRYPTO = 1 << 16


class Identity:
    """The settings of aioquic for a node: one certificate for the life of this process."""

    def __init__(self, key_pair: KeyPair, *, silent_s: float, max_streams: int) -> None:
        self._certificate, self._key = make_certificate(key_pair)
        self._silent_s = silent_s
        self.max_streams = max_streams

    def configuration(self, *, is_client: bool) -> QuicConfiguration:
        """For one connection; aioquic keeps things in it."""
        return QuicConfiguration(
            alpn_protocols=[ALPN],
            congestion_control_algorithm="cubic",
            idle_timeout=self._silent_s,
            is_client=is_client,
            max_data=CONNECTION_WINDOW_BYTES,
            max_datagram_size=_DATAGRAM_BYTES,
            max_stream_data=STREAM_WINDOW_BYTES,
            certificate=self._certificate,
            private_key=self._key,
            supported_versions=[QuicProtocolVersion.VERSION_1],
            verify_mode=ssl.CERT_NONE,  # no authority signs these: `peer` judges them
        )


class Machine(QuicConnection):
    """One connection without I/O."""

    def __init__(
        self,
        identity: Identity,
        resets: Resets,
        *,
        is_client: bool,
        original_cid: bytes | None = None,
        retry_cid: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=identity.configuration(is_client=is_client),
            original_destination_connection_id=original_cid,
            retry_source_connection_id=retry_cid,
        )
        _allow(self._local_max_streams_bidi, identity.max_streams)
        _allow(self._local_max_streams_uni, 0)  # libp2p has none
        self.max_streams = identity.max_streams
        self._taken = 0
        self._resets = resets
        self._name_resets()

    @property
    def has_begun(self) -> bool:
        """Whether there is somebody to send to."""
        return bool(self._network_paths)

    def peer(self, alpn: str | None, expected: str = "") -> ID:
        """Who the other side has proved to be, after a handshake that led to ``alpn``. Raises HandshakeFailure.

        Who is to be ``expected`` and is not, is told so before it hears who we are.
        """
        if alpn != ALPN:
            raise HandshakeFailure("it did not agree on libp2p by ALPN")
        shown = (self.tls._peer_certificate, *self.tls._peer_certificate_chain)  # noqa: SLF001
        peer = ID.from_pubkey(identity_in([one for one in shown if one is not None]))
        if expected not in ("", str(peer)):
            raise HandshakeFailure(f"it is {peer}, not {expected}")
        return peer

    def held(self) -> int:
        """Bytes that have come, or that room is kept for, and that nobody has taken."""
        return self._local_max_data.used - self._taken

    def taken(self, number: int, total: int, more: int) -> bool:
        """``more`` bytes of a stream need no room any more, ``total`` so far; whether the peer should hear of it."""
        self._taken += more
        everything = self._local_max_data
        everything.value = _grant(everything.value, self._taken, CONNECTION_WINDOW_BYTES)
        stream = self._streams.get(number)
        if stream is None or stream.receiver.is_finished:
            return everything.value != everything.sent
        stream.max_stream_data_local = _grant(stream.max_stream_data_local, total, STREAM_WINDOW_BYTES)
        return everything.value != everything.sent or stream.max_stream_data_local != stream.max_stream_data_local_sent

    def let_go(self, number: int) -> int:
        """How far the peer has come on a stream that it gave up, or said that it had; nothing of it is kept."""
        stream = self._streams.get(number)
        if stream is None:
            return 0
        stream.receiver._buffer.clear()  # noqa: SLF001 - what came behind a gap
        return stream.receiver.highest_offset

    def knows(self, number: int) -> bool:
        """Whether something may still be said of a stream."""
        return number in self._streams

    def unacknowledged(self, number: int) -> int:
        """Bytes written to a stream that the peer has not acknowledged."""
        stream = self._streams.get(number)
        if stream is None:
            return 0
        return stream.sender._buffer_stop - stream.sender._buffer_start  # noqa: SLF001

    def stop(self, number: int, *, writing: bool, reading: bool) -> None:
        """Tell the peer that nobody here writes to a stream any more, or reads from it, while there still is one."""
        if writing:
            self.reset_stream(number, _NO_ERROR)
        if reading and number in self._streams:
            self.stop_stream(number, _NO_ERROR)

    def is_reset_by(self, data: bytes) -> bool:
        """Whether a packet that is for none of our connection ids says that the peer has lost the connection."""
        token = self._peer_cid.stateless_reset_token
        return len(token) == TOKEN_BYTES and hmac.compare_digest(token, data[-TOKEN_BYTES:])

    def next_event(self) -> QuicEvent | None:
        """The end at once: aioquic waits until nothing more can come, and takes none of it."""
        event = super().next_event()
        if event is None and self._state in (QuicConnectionState.CLOSING, QuicConnectionState.DRAINING):
            self._close_end()
            event = super().next_event()
        return event

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> StreamState:
        return _bearable(super()._get_or_create_stream(frame_type, stream_id), frame_type)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        _bearable(self._crypto_streams[context.epoch], frame_type)
        super()._handle_crypto_frame(context, frame_type, buf)

    def _handle_new_connection_id_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_new_connection_id_frame(context, frame_type, buf)
        if not self._is_client and not self._peer_cid.stateless_reset_token:
            self.change_connection_id()  # a client that has lost the connection cannot say so of its first id

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        self._name_resets()

    def _name_resets(self) -> None:
        for one in self._host_cids:
            if not self._is_client or one.sequence_number:  # a client's first id has none
                one.stateless_reset_token = self._resets.token(one.cid)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls._request_client_certificate = not self._is_client  # noqa: SLF001

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        with _as_if_nothing_came(self._local_max_data, "used"):
            super()._write_connection_limits(builder, space)

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: StreamState) -> None:
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:  # of many streams with each packet
            with _as_if_nothing_came(stream.receiver, "highest_offset"):
                super()._write_stream_limits(builder, space, stream)

    def _write_reset_stream_frame(self, builder: QuicPacketBuilder, stream: StreamState) -> None:
        if not stream.is_blocked:  # a word of a stream that the peer does not allow yet would end the connection
            super()._write_reset_stream_frame(builder, stream)

    def _write_stop_sending_frame(self, builder: QuicPacketBuilder, stream: StreamState) -> None:
        if not stream.is_blocked:
            super()._write_stop_sending_frame(builder, stream)


def _bearable(stream: StreamState, frame_type: int) -> StreamState:
    if len(stream.receiver._ranges) > _MAX_GAPS:  # noqa: SLF001
        raise QuicConnectionError(QuicErrorCode.INTERNAL_ERROR, frame_type, "Too many gaps")
    return stream


def _allow(limit: Limit, streams: int) -> None:
    limit.value = limit.sent = streams


def _grant(granted: int, taken: int, window: int) -> int:
    """What the peer may send in all: more by half a window at a time, since each grant is a frame."""
    return taken + window if taken + window - granted >= window // 2 else granted


@contextmanager
def _as_if_nothing_came(counter: object, name: str) -> Iterator[None]:
    """aioquic doubles a window, before it tells the peer of it, by what has come."""
    came = getattr(counter, name)
    setattr(counter, name, 0)
    try:
        yield
    finally:
        setattr(counter, name, came)
