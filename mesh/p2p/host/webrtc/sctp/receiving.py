"""What comes: chunks put in order and messages put together, never more than a window of them. Pure."""

from collections.abc import Callable

from mesh.p2p.host.webrtc.sctp.packets import AT_ONCE, BEGIN, END, Data, Sack, SctpFault, after, before

# RFC 9260, section 6.2: at least every second packet is acknowledged, and any within 200 ms.
_DELAY_S = 0.1
_MAX_GAPS = 64
# What is on its way when the window closes is still taken.
_GRACE_BYTES = 1 << 16


class Receiver:
    """The inbound half of an association.

    ``on_message`` gets stream, payload protocol and bytes. ``held`` has to be kept by the user: bytes of messages that
    it was given and nobody has taken; they narrow the window that the peer is told, until it stops sending.
    """

    def __init__(
        self, window_bytes: int, max_message_bytes: int, on_message: Callable[[int, int, bytes], None]
    ) -> None:
        self.window_bytes = window_bytes
        self.held = 0
        self.cumulative = 0
        self._max_message_bytes = max_message_bytes
        self._on_message = on_message
        self._ahead: dict[int, Data] = {}
        self._ahead_bytes = 0
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._told = window_bytes
        self._packets = 0
        self.sack_at: float | None = None

    def begin(self, tsn: int) -> None:
        """The peer's first TSN."""
        self.cumulative = after(tsn, -1)

    @property
    def window(self) -> int:
        """How many bytes more may come."""
        return max(0, self.window_bytes - self._unread)

    @property
    def _unread(self) -> int:
        return self.held + self._ahead_bytes + self._pieces_bytes

    def packet(self, chunks: list[Data], now: float) -> None:
        """All data of one packet. Raises SctpFault."""
        at_once = any([self._take(one) or one.flags & AT_ONCE for one in chunks])  # noqa: C419 - each is taken
        self._packets += 1
        if at_once or self._packets >= 2 or self._ahead:
            self.sack_at = now
        elif self.sack_at is None:
            self.sack_at = now + _DELAY_S

    def _take(self, one: Data) -> bool:
        """Whether the peer should know at once: it was a repetition, or did not fit."""
        if not before(self.cumulative, one.tsn) or one.tsn in self._ahead:
            return True
        if self._unread + len(one.payload) > self.window_bytes + _GRACE_BYTES:
            return True  # it was told; and has to send it again
        if one.tsn != after(self.cumulative):
            self._ahead[one.tsn] = one
            self._ahead_bytes += len(one.payload)
            return True
        self._deliver(one)
        while (following := self._ahead.pop(after(self.cumulative), None)) is not None:
            self._ahead_bytes -= len(following.payload)
            self._deliver(following)
        return False

    def _deliver(self, one: Data) -> None:
        self.cumulative = one.tsn
        if bool(one.flags & BEGIN) == bool(self._pieces):
            raise SctpFault("a piece of a message where there is none, or another begins")
        self._pieces.append(one.payload)
        self._pieces_bytes += len(one.payload)
        if self._pieces_bytes > self._max_message_bytes:
            raise SctpFault(f"a message of more than {self._max_message_bytes} bytes")
        if one.flags & END:
            message = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces, self._pieces_bytes = [], 0
            self._on_message(one.stream, one.protocol, message)

    def taken(self, now: float) -> None:
        """Less is held than before: where it matters to the peer, it is told."""
        if self.window - self._told >= self.window_bytes // 2:
            self.sack_at = now

    def sack(self) -> Sack:
        """What is to be told, and was told then."""
        self._packets, self.sack_at, self._told = 0, None, self.window
        return Sack(self.cumulative, self._told, self._gaps())

    def _gaps(self) -> tuple[tuple[int, int], ...]:
        gaps: list[tuple[int, int]] = []
        for offset in sorted((tsn - self.cumulative) & 0xFFFFFFFF for tsn in self._ahead):
            if offset > 0xFFFF:
                break
            if gaps and gaps[-1][1] == offset - 1:
                gaps[-1] = (gaps[-1][0], offset)
            elif len(gaps) == _MAX_GAPS:
                break
            else:
                gaps.append((offset, offset))
        return tuple(gaps)
