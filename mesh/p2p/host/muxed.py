"""A secured connection of many streams, whatever makes it: Yamux over bytes, or a transport that has streams itself."""

from abc import abstractmethod

import trio
from libp2p.abc import IMuxedConn

from mesh.p2p.host.admission import Refusal
from mesh.p2p.host.wires import Wire


class MuxedConnection(IMuxedConn):
    """What a connection must do besides py-libp2p's `IMuxedConn`.

    ``event_shutting_down`` is set once it is over. ``overflowed``: the peer ignored the windows it was given.
    ``fault`` says what else of it could not be borne, where that ended it.
    ``refusal`` is set when it was given up because all peers together sent too much (see `ReceiveBudget`).
    Its streams have, besides `IMuxedStream`'s, ``send_window`` (how much `write` takes at once, at most), ``closed``
    (for writing) and ``reset_received``; and `read` raises MuxedStreamEOF at the end.
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
