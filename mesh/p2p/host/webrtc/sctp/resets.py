"""Closing of data channels: stream resets of RFC 6525. Pure."""

import struct
from collections.abc import Callable, Iterable

from mesh.p2p.host.webrtc.sctp.packets import RE_CONFIG, SctpFault, after, before, chunk, parameter, parameters

_OUTGOING, _INCOMING, _RESPONSE = 13, 14, 16
_ADD_OUTGOING, _ADD_INCOMING = 17, 18
_NOTHING_TO_DO, _PERFORMED, _DENIED, _IN_PROGRESS = 0, 1, 2, 6
_AGAIN_S = 0.5
_MOST_STREAMS = 128


class Resets:
    """Both sides' resets. One request of ours is under way at a time, and said again until it is answered."""

    def __init__(self, tsn: int, on_reset: Callable[[int], None]) -> None:
        self._number = tsn
        self._theirs = 0
        self._on_reset = on_reset
        self._wanted: dict[int, None] = {}
        self._asked: bytes = b""
        self._asking: tuple[int, ...] = ()
        self._answers: list[bytes] = []
        self._last_answer: tuple[int, int] | None = None
        self.at: float | None = None

    def begin(self, tsn: int) -> None:
        """The peer's first TSN, which is also its first request."""
        self._theirs = tsn

    def want(self, stream: int) -> None:
        """Reset our side of a stream, once all of it was sent."""
        self._wanted[stream] = None

    def chunks(self, now: float, last_tsn: int, is_through: Callable[[int], bool]) -> bytes:
        """What is to be said now."""
        said = b"".join(chunk(RE_CONFIG, one) for one in self._answers)
        self._answers.clear()
        if not self._asked and (ready := [one for one in self._wanted if is_through(one)][:_MOST_STREAMS]):
            self._asking = tuple(ready)
            for stream in ready:
                del self._wanted[stream]
            head = struct.pack(">III", self._number, after(self._theirs, -1), last_tsn)
            self._asked = parameter(_OUTGOING, head + struct.pack(f">{len(ready)}H", *ready))
            self.at = now
        if self._asked and self.at is not None and now >= self.at:
            said += chunk(RE_CONFIG, self._asked)
            self.at = now + _AGAIN_S
        return said

    def receive(self, body: bytes, cumulative: int) -> Iterable[int]:
        """A RE-CONFIG of the peer; the streams whose reset on our side it has done. Raises SctpFault."""
        done: tuple[int, ...] = ()
        for kind, value in parameters(body):
            if kind == _RESPONSE:
                done += self._answered(value)
            elif kind == _OUTGOING:
                self._answer_reset(value, cumulative)
            elif kind in (_INCOMING, _ADD_OUTGOING, _ADD_INCOMING):
                self._answer(_number_in(value), lambda: _DENIED)
        return done

    def _answered(self, value: bytes) -> tuple[int, ...]:
        if len(value) < 8:
            raise SctpFault("a response that is too short")
        number, result = struct.unpack_from(">II", value)
        if not self._asked or number != self._number or result == _IN_PROGRESS:
            return ()
        done, self._asking, self._asked, self.at = self._asking, (), b"", None
        self._number = after(self._number)
        return done

    def _answer_reset(self, value: bytes, cumulative: int) -> None:
        if len(value) < 12 or len(value) % 2:
            raise SctpFault("a reset that is too short")
        number, _, last = struct.unpack_from(">III", value)
        streams = struct.unpack_from(f">{(len(value) - 12) // 2}H", value, 12)

        def perform() -> int:
            if before(cumulative, last):
                return _IN_PROGRESS
            for stream in streams:
                self._on_reset(stream)
            return _PERFORMED

        self._answer(number, perform)

    def _answer(self, number: int, perform: Callable[[], int]) -> None:
        """Once for each request; a repetition gets the same answer."""
        if self._last_answer is not None and number == self._last_answer[0]:
            result = self._last_answer[1]
        elif number != self._theirs:
            return
        elif (result := perform()) != _IN_PROGRESS:
            self._theirs = after(self._theirs)
            self._last_answer = number, result
        if len(self._answers) < _MOST_STREAMS:
            self._answers.append(parameter(_RESPONSE, struct.pack(">II", number, result)))


def _number_in(value: bytes) -> int:
    if len(value) < 4:
        raise SctpFault("a request that is too short")
    return int.from_bytes(value[:4], "big")
