"""The answer to a part as the caller gets it: under a heading that names the part and who answered it.

Sections are handed on in their order, each as it is said once those before it have ended. What is said earlier waits;
while the caller has nothing of it, somebody else may still answer the part.
"""

import asyncio
from collections.abc import Callable

from mesh.experts.delivery import Delivery
from mesh.experts.known import Target
from mesh.experts.parts import title_of
from mesh.experts.plan import Plan
from mesh.experts.queries import QueryFailed
from mesh.experts.strategies.strategy import Result


class Section(Delivery):
    """What an expert says to a part, on its way into the ``whole`` answer; without the space around it.

    ``domain`` tells in which it is asked by now.
    """

    def __init__(self, whole: Delivery, plan: Plan, domain: Callable[[], str]) -> None:
        super().__init__(None)
        self._whole = whole
        self._plan = plan
        self._domain = domain
        self._before: str | None = None  # what precedes it, once it is its turn
        self._speaks: Target | None = None
        self._waiting: list[str] = []
        self._order = asyncio.Lock()

    @property
    def streams(self) -> bool:
        """See `Delivery`."""
        return self._whole.streams

    async def piece(self, text: str, by: Target) -> None:
        """See `Delivery`."""
        if not text or not self.streams:
            return
        async with self._order:
            self._speaks = by  # who spoke before has failed
            self._waiting.append(text)
            if not text.isspace():
                await self._hand_on()

    def unsay(self, by: Target) -> None:
        """See `Delivery`."""
        if by == self._speaks and not self.begun:
            self._speaks, self._waiting = None, []

    async def turn(self, before: str) -> None:
        """The caller has, or may have, all that is ``before`` it: what waits goes by. Raises what `piece` raises."""
        async with self._order:
            self._before = before
            await self._hand_on()

    async def _hand_on(self) -> None:
        """Space goes by with what follows it, so that none ends the section."""
        said = "".join(self._waiting) if self._before is not None else ""
        fit = said.rstrip() if self.begun else said.strip()
        if not fit or self._speaks is None:
            return
        self._waiting = [said[len(said.rstrip()) :]]
        heading = "" if self.begun else self._whole.rest_of(f"{self._before}{self._heading(self._speaks)}")
        self._has(fit, self._speaks)  # from here on nobody else is asked, also while the caller takes its time
        try:
            await self._whole.piece(heading + fit, self._speaks)
        finally:
            self.gone = self._whole.gone

    def ended(self, outcome: Result | QueryFailed) -> str:
        """All of it, of which the caller has the beginning: also where that is not what was answered in the end."""
        if isinstance(outcome, QueryFailed):
            said = f"{outcome.kind}: {outcome.message}"
            return f"{self._begun_by()}\n\n{said}" if self.begun else f"{self._heading(None)}{said}"
        said = outcome.text.strip()
        told = said.startswith(self.text)
        return f"{self._heading(outcome.winners[0])}{said}" if told else self._begun_by()

    def _begun_by(self) -> str:
        return f"{self._heading(self.by)}{self.text}"

    def _heading(self, by: Target | None) -> str:
        name = "no answer" if by is None else f"{by.expert} at {by.peer[-8:]}"
        return f"## {self._plan.part}. {title_of(self._plan.content)} ({self._domain()}, {name})\n\n"
