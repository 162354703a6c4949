"""The text of an answer that something not ours makes, piece by piece, up to a limit. Pure."""

from mesh.experts.calls import MAX_PASSED, AttemptFailed, Call, Emit

MAX_ANSWER = 16 << 20


class Pieces:
    """Hands pieces over, and keeps them where the call is held. Too many are a failure: what sends them has no end."""

    def __init__(self, emit: Emit, call: Call) -> None:
        self._emit = emit
        self._held = call.held
        self._limit = MAX_ANSWER if call.held else MAX_PASSED
        self._pieces: list[str] = []
        self._length = 0

    @property
    def text(self) -> str:
        """All of them joined, or nothing."""
        return "".join(self._pieces)

    async def add(self, piece: str) -> None:
        """Hand over one more; nothing happens for an empty one. Raises AttemptFailed."""
        if not piece:
            return
        self._length += len(piece)
        if self._length > self._limit:
            raise AttemptFailed("failed", f"the answer has more than {self._limit} characters, the limit")
        if self._held:
            self._pieces.append(piece)
        await self._emit(piece)
