"""What goes out: streams take turns message by message, as fast as the peer and the way to it can take it. Pure.

Congestion control is that of RFC 9260, section 7, with the initial window of RFC 6928.
"""

from collections import deque
from dataclasses import dataclass

from mesh.p2p.host.webrtc.sctp.packets import (
    BEGIN,
    DATA_HEADER_BYTES,
    END,
    HEADER_BYTES,
    Data,
    Sack,
    SctpFault,
    after,
    before,
)
from mesh.p2p.host.webrtc.sctp.timing import RetransmissionTimer

_INITIAL_PACKETS = 10
_MIN_PACKETS = 4
_MAX_WINDOW_BYTES = 1 << 20
_MISSED_OFTEN = 3
_SACK_BYTES = 300  # room in a packet that other chunks may need


@dataclass(slots=True)
class _Sent:
    data: Data
    size: int
    sent_at: float
    again: bool = False
    waits: bool = False  # to be sent again
    acked: bool = False
    missed: int = 0


class Sender:
    """The outbound half of an association."""

    def __init__(self, packet_bytes: int, tsn: int) -> None:
        self._piece = (packet_bytes - HEADER_BYTES - DATA_HEADER_BYTES) & ~3
        self._packet = packet_bytes - HEADER_BYTES
        self.next_tsn = tsn
        self._acked = after(tsn, -1)
        self._sequences: dict[int, int] = {}
        self._waiting: dict[int, deque[tuple[int, bytes]]] = {}
        self._turns: deque[int] = deque()
        self._pieces: deque[tuple[int, int, int, bytes, int]] = deque()
        self._sent: dict[int, _Sent] = {}
        self._flight = 0
        self.peer_window = 0
        self._window = _INITIAL_PACKETS * packet_bytes
        self._threshold = _MAX_WINDOW_BYTES
        self._counted = 0
        self._recovering_until: int | None = None
        self.timer = RetransmissionTimer()
        self.queued: dict[int, int] = {}  # bytes by stream that the peer has not acknowledged

    def put(self, stream: int, protocol: int, message: bytes) -> None:
        """Send a message when it is its turn."""
        queue = self._waiting.get(stream)
        if queue is None:
            queue = self._waiting[stream] = deque()
            self._turns.append(stream)
        queue.append((protocol, message))
        self.queued[stream] = self.queued.get(stream, 0) + len(message)

    def is_through(self, stream: int) -> bool:
        """Whether all of a stream has a TSN."""
        return stream not in self._waiting and not any(piece[0] == stream for piece in self._pieces)

    def forget(self, stream: int) -> None:
        """The stream is reset: its numbers begin again."""
        self._sequences.pop(stream, None)

    @property
    def last_tsn(self) -> int:
        """Of what was sent last."""
        return after(self.next_tsn, -1)

    def packets(self, now: float, room: int) -> list[bytes]:
        """Chunks for each packet that may be sent; ``room`` is what other chunks take up in the first."""
        packets: list[bytes] = []
        while chunks := self._fill(self._packet - room, now):
            packets.append(chunks)
            room = 0
        return packets

    def _fill(self, room: int, now: float) -> bytes:
        chunks = b""
        while (one := self._next(room, now)) is not None:
            chunks += one.encode()
            room -= one.packed_bytes
        if chunks:
            self.timer.start(now)
        return chunks

    def _next(self, room: int, now: float) -> Data | None:
        if self._lost:
            return self._again(room, now)
        if not self._pieces and not self._cut():
            return None
        stream, sequence, protocol, payload, flags = self._pieces[0]
        size = (DATA_HEADER_BYTES + len(payload) + 3) & ~3
        if size > room or not self._may_send(len(payload)):
            return None
        self._pieces.popleft()
        data = Data(self.next_tsn, stream, sequence, protocol, payload, flags)
        self._sent[data.tsn] = _Sent(data, len(payload), now)
        self.next_tsn = after(self.next_tsn)
        self._flight += len(payload)
        return data

    def _may_send(self, size: int) -> bool:
        """A peer without room is sent one piece, so that it can say when it has some: section 6.1."""
        return not self._flight or self._flight + size <= min(self._window, self.peer_window)

    def _cut(self) -> bool:
        """The next message in turn, cut into pieces."""
        if not self._turns:
            return False
        stream = self._turns.popleft()
        queue = self._waiting[stream]
        protocol, message = queue.popleft()
        if queue:
            self._turns.append(stream)
        else:
            del self._waiting[stream]
        sequence = self._sequences.get(stream, 0)
        self._sequences[stream] = (sequence + 1) & 0xFFFF
        for at in range(0, len(message), self._piece):
            flags = (BEGIN if at == 0 else 0) | (END if at + self._piece >= len(message) else 0)
            self._pieces.append((stream, sequence, protocol, message[at : at + self._piece], flags))
        return True

    # --- acknowledgements ----------------------------------------------------------------------------------------

    _lost = 0

    def _again(self, room: int, now: float) -> Data | None:
        for sent in self._sent.values():
            if sent.waits:
                if sent.data.packed_bytes > room or (self._flight and self._flight + sent.size > self._window):
                    return None
                sent.waits, sent.again, sent.missed, sent.sent_at = False, True, 0, now
                self._lost -= 1
                self._flight += sent.size
                return sent.data
        raise AssertionError("what was lost is not there")

    def acknowledged(self, sack: Sack, now: float) -> None:
        """The peer has told what it has. Raises SctpFault when it cannot have that."""
        if before(sack.cumulative, self._acked):
            return
        if before(self.last_tsn, sack.cumulative):
            raise SctpFault("acknowledges what was not sent")
        self.timer.heard()
        gained = self._settle(sack.cumulative, now)
        if sack.gaps or gained:
            newest = self._mark(sack)
            self._count_missing(newest)
        self.peer_window = sack.window
        if gained:
            self._grow(gained)
            self.timer.answered(now, outstanding=bool(self._sent))
        elif not self._sent:
            self.timer.stop()

    def _settle(self, cumulative: int, now: float) -> int:
        gained = 0
        full = self._flight >= self._window - self._packet
        while before(self._acked, cumulative):
            self._acked = after(self._acked)
            sent = self._sent.pop(self._acked)
            gained += sent.size
            self._lower(sent)
            if not sent.again and self._acked == cumulative:
                self.timer.measured(now - sent.sent_at)
            if sent.waits:
                self._lost -= 1
            elif not sent.acked:
                self._flight -= sent.size
        self._is_full = full
        return gained

    _is_full = False

    def _lower(self, sent: _Sent) -> None:
        stream = sent.data.stream
        left = self.queued.get(stream, 0) - sent.size
        if left > 0:
            self.queued[stream] = left
        else:
            self.queued.pop(stream, None)

    def _mark(self, sack: Sack) -> int | None:
        """Note what has arrived beyond a gap; the newest of it that was not known."""
        newest = None
        for first, last in sack.gaps:
            if last < first or before(self.last_tsn, after(sack.cumulative, last)):
                raise SctpFault("acknowledges what was not sent")
            for offset in range(first, last + 1):
                sent = self._sent.get(after(sack.cumulative, offset))
                if sent is not None and not sent.acked:
                    sent.acked = True
                    newest = sent.data.tsn
                    if sent.waits:
                        sent.waits = False
                        self._lost -= 1
                    else:
                        self._flight -= sent.size
        return newest

    def _count_missing(self, newest: int | None) -> None:
        """Section 7.2.4: what three acknowledgements have passed over is lost."""
        if newest is None:
            return
        for tsn, sent in self._sent.items():
            if not before(tsn, newest):
                break
            if sent.acked or sent.waits:
                continue
            sent.missed += 1
            if sent.missed >= _MISSED_OFTEN and not sent.again:
                self._lose(sent)
                if self._recovering_until is None:
                    self._recovering_until = self.last_tsn
                    self._threshold = self._window = max(self._window // 2, _MIN_PACKETS * self._packet)
                    self._counted = 0

    def _lose(self, sent: _Sent) -> None:
        sent.waits = True
        self._lost += 1
        self._flight -= sent.size

    def _grow(self, gained: int) -> None:
        if self._recovering_until is not None:
            if before(self._acked, self._recovering_until):
                return
            self._recovering_until = None
        if not self._is_full or self._window >= _MAX_WINDOW_BYTES:
            return
        if self._window <= self._threshold:
            self._window += min(gained, 2 * self._packet)
            return
        self._counted += gained
        if self._counted >= self._window:
            self._counted -= self._window
            self._window += self._packet

    def expired(self) -> None:
        """Nothing was heard in time: all that is under way counts as lost. Section 6.3.3."""
        self._threshold = max(self._window // 2, _MIN_PACKETS * self._packet)
        self._window = self._packet
        self._recovering_until = None
        for sent in self._sent.values():
            if not sent.acked and not sent.waits:
                self._lose(sent)
