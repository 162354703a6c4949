"""Ending a wait as soon as the peer that is waited for is known to be gone, instead of at the deadline."""

import asyncio
from types import TracebackType

from mesh.events.envelope import Event
from mesh.events.journal import Journal
from mesh.events.vocabulary.network import PeerConfirmedDown, PeerDisconnected
from mesh.experts.calls import AttemptFailed


class Wait:
    """A wait for ``peer`` of at most ``seconds``: an async context manager.

    Raises AttemptFailed: ``disconnected`` when the peer departs, ``expired`` when the time is over.
    """

    def __init__(self, departures: "Departures", peer: str, seconds: float) -> None:
        self._departures = departures
        self._peer = peer
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._departed = ""

    async def __aenter__(self) -> "Wait":
        await self._timeout.__aenter__()
        self._departures.waits.setdefault(self._peer, set()).add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        waits = self._departures.waits[self._peer]
        waits.discard(self)
        if not waits:
            del self._departures.waits[self._peer]
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if self._departed:
                raise AttemptFailed("disconnected", self._departed) from None
            raise AttemptFailed("expired", f"no answer within {self._seconds:.3f} s") from None

    def end(self, reason: str) -> None:
        """The peer is gone: stop waiting now."""
        if not self._timeout.expired():
            self._departed = reason
            self._timeout.reschedule(asyncio.get_running_loop().time())


class Departures:
    """Hears from the journal which peers are gone."""

    def __init__(self, journal: Journal) -> None:
        self.waits: dict[str, set[Wait]] = {}
        journal.listen(self._hear)

    def wait(self, peer: str, seconds: float) -> Wait:
        """Bound a wait for ``peer``."""
        return Wait(self, peer, seconds)

    def _hear(self, event: Event) -> None:
        fact = event.fact
        if isinstance(fact, PeerConfirmedDown | PeerDisconnected):
            for wait in tuple(self.waits.get(fact.peer, ())):
                wait.end(f"the peer is gone: {fact.reason}")
