"""A secured connection of many streams, whatever makes it: Yamux over bytes, or a transport that has streams itself."""

from abc import abstractmethod
from types import TracebackType
from typing import Any, Self

import trio
from libp2p.abc import IMuxedConn, IMuxedStream, INetStream
from libp2p.connection_types import ConnectionType
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamReset
from multiaddr import Multiaddr

from mesh.p2p.host.admission import Refusal
from mesh.p2p.host.wires import RELAYED, Wire


class MuxedConnection(IMuxedConn):
    """What a connection must do besides py-libp2p's `IMuxedConn`.

    ``event_shutting_down`` is set once it is over. ``overflowed``: the peer ignored the windows it was given.
    ``fault`` says what else of it could not be borne, where that ended it.
    ``refusal`` is set when it was given up because all peers together sent too much (see `ReceiveBudget`).
    Its streams have, besides `IMuxedStream`'s, ``closed`` (for writing) and ``reset_received``; `read` raises
    MuxedStreamEOF at the end, and `write` waits for as long as the peer takes to read.
    """

    wire: Wire
    event_shutting_down: trio.Event
    overflowed: bool = False
    fault: str = ""
    refusal: Refusal | None = None

    @abstractmethod
    async def ask_for_life(self) -> None:
        """Have the peer answer; the answer shows in the wire's ``heard_at``."""

    @abstractmethod
    def held(self) -> int:
        """Bytes that were received on all streams and not taken."""

    def get_remote_address(self) -> tuple[str, int] | None:
        """Host and port of the peer."""
        return self.wire.get_remote_address()

    def give_up(self, refusal: Refusal) -> None:
        """All peers together sent too much, and this one the most."""
        self.refusal = refusal
        self.wire.abort(f"{refusal.rule}: {refusal.value} of {refusal.limit} bytes")


class MuxingConnection(MuxedConnection):
    """One whose streams are ours, and not py-libp2p's; it ends with its wire.

    ``_to_accept`` gives the streams that the peer opens, and is closed with it.
    """

    _to_accept: trio.MemoryReceiveChannel[IMuxedStream]

    @property
    def is_initiator(self) -> bool:
        """Whether we dialled."""
        return not self.wire.inbound

    async def start(self) -> None:
        """Return when it is over."""
        self.event_started.set()
        await self.event_shutting_down.wait()

    async def close(self) -> None:
        """End it."""
        self.wire.abort("closed by us")
        await trio.lowlevel.checkpoint()

    async def accept_stream(self) -> IMuxedStream:
        """The next stream that the peer opens. Raises MuxedConnUnavailable when it is over."""
        try:
            return await self._to_accept.receive()
        except trio.EndOfChannel:
            raise MuxedConnUnavailable("the connection is over") from None

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Of the other end."""
        return [Multiaddr(self.wire.address)]

    def get_connection_type(self) -> ConnectionType:
        """Whether it goes through a relay."""
        return ConnectionType.RELAYED if self.wire.transport == RELAYED else ConnectionType.DIRECT

    @property
    def is_closed(self) -> bool:
        """Whether it is over."""
        return self.event_shutting_down.is_set()


class MuxingStream(IMuxedStream):
    """A stream of a `MuxingConnection`; see `MuxedConnection` for what is asked of it.

    What comes is put into ``_received``; ``_ended``: the peer writes no more, ``_deaf``: nobody here reads any more.
    `_tell` wakes who waits for a change of these.
    """

    muxed_conn: MuxingConnection

    def __init__(self, connection: MuxingConnection) -> None:
        self.muxed_conn = connection
        self.closed = False  # for writing
        self.reset_received = False
        self._received = bytearray()
        self._ended = False
        self._deaf = False
        self._news = trio.Event()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    @abstractmethod
    def _taken(self, size: int) -> None:
        """So many bytes have been read."""

    async def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes, as soon as there are any. Raises MuxedStreamEOF, or MuxedStreamReset."""
        while not self._received:
            if self.reset_received:
                raise MuxedStreamReset("the stream was reset")
            if self._ended or self._deaf:
                raise MuxedStreamEOF("the stream has ended")
            await self._news.wait()
        size = len(self._received) if n is None or n < 0 else min(n, len(self._received))
        data = bytes(self._received[:size])
        del self._received[:size]
        self._taken(size)
        return data

    def set_deadline(self, ttl: int) -> None:
        """Not offered: who waits has a deadline of its own."""
        raise NotImplementedError(f"a deadline of {ttl} s: use trio.fail_after")

    def get_remote_address(self) -> tuple[str, int] | None:
        """Host and port of the peer."""
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()


def lost(stream: INetStream) -> bool:
    """Whether the stream was reset or its connection lost: py-libp2p reports both as an ordinary end."""
    muxed: Any = stream.muxed_stream  # type: ignore[attr-defined]
    return bool(muxed.reset_received or muxed.muxed_conn.event_shutting_down.is_set())
