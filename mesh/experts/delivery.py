"""Handing streamed text on to the caller, and knowing what the caller already has."""

from mesh.experts.calls import AttemptFailed, Emit
from mesh.experts.known import Target


class Delivery:
    """Passes every piece on at once and buffers nothing but the record of what was passed, and that only if ``held``.

    When the caller takes no more (its ``emit`` raises), `gone` keeps that error and the attempt fails as
    ``cancelled``.
    """

    def __init__(self, emit: Emit | None, *, held: bool = True) -> None:
        self._emit = emit
        self._held = held
        self._pieces: list[str] = []
        self.length = 0  # characters that the caller has
        self.by: Target | None = None  # who said them
        self.gone: Exception | None = None

    @property
    def streams(self) -> bool:
        """Whether anybody listens."""
        return self._emit is not None

    @property
    def text(self) -> str:
        """What the caller has so far; empty where it is not held."""
        return "".join(self._pieces)

    @property
    def begun(self) -> bool:
        """Whether the caller has anything at all."""
        return bool(self.length)

    async def piece(self, text: str, by: Target) -> None:
        """Pass on a piece of what ``by`` says. Raises AttemptFailed("cancelled") when the caller does not take it."""
        if self._emit is None or not text:
            return
        try:
            await self._emit(text)
        except Exception as error:
            self.gone = error
            raise AttemptFailed("cancelled", "the caller takes no more of the answer") from error
        self._has(text, by)

    def unsay(self, by: Target) -> None:
        """``by`` has failed: what it said and waits, where anything does, is not handed on any more."""

    def _has(self, text: str, by: Target) -> None:
        self.by = by
        self.length += len(text)
        if self._held:
            self._pieces.append(text)

    def rest_of(self, text: str) -> str:
        """What the caller lacks of the whole answer; empty where the pieces were not its beginning."""
        have = self.text
        return text[len(have) :] if text.startswith(have) else ""
