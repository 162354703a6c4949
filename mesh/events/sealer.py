"""Signs the history: a seal every thousand events, every minute with something new, and at the end.

Who has no access to the node's key cannot make a changed journal look whole, however they rebuild its chain.
"""

import asyncio

import structlog

from mesh.clock import Clock
from mesh.errors import JournalError
from mesh.events.audit import SEAL_EVERY, seal_bytes
from mesh.events.envelope import Event
from mesh.events.head_file import save_head
from mesh.events.journal import Emission, Journal
from mesh.events.store import Head
from mesh.events.vocabulary.journal import JournalSealed
from mesh.home import Home
from mesh.identity import Identity
from mesh.keeper import Keeper

INTERVAL_S = 60.0
# The broker syncs its files once a second (`process`), so what was acknowledged this long ago outlives a power cut.
SETTLE_S = 3.0
_STOP_S = 5.0
log = structlog.get_logger(__name__)


class Sealer:
    """Seals one journal with its owner's key, and keeps its head file. Make it once the journal is open."""

    def __init__(
        self,
        journal: Journal,
        identity: Identity,
        home: Home,
        *,
        clock: Clock,
        every: int = SEAL_EVERY,
        interval_s: float = INTERVAL_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._journal = journal
        self._identity = identity
        self._clock = clock
        self._head_file = home.journal_head
        self.keeper = Keeper("sealer")
        self._every = every
        self._interval_s = interval_s
        self._settle_s = settle_s
        self._unsealed = 0
        journal.listen(self._count)

    def seal(self) -> Emission:
        """Sign everything up to now."""
        position, link = self._journal.head
        signature = self._identity.sign(seal_bytes(self._journal.origin, position, link))
        self._unsealed = 0
        return self._journal.emit(
            JournalSealed(sealed_position=position, link=link.hex(), signature=signature.hex()),
            subject=self._journal.origin,
        )

    async def start(self) -> None:
        """Seal from now on, at every interval in which there was something new."""
        self.keeper.begin(self._run())

    async def stop(self) -> None:
        """Seal what is new and remember where the journal ends, if it still takes events. Close it afterwards."""
        await self.keeper.end()
        try:
            if self._unsealed:
                self.seal()
            async with asyncio.timeout(_STOP_S):
                head = await self._stored_head()
            save_head(self._head_file, head)
        except (JournalError, OSError, TimeoutError) as error:
            log.warning("the journal ends without a seal", error=str(error) or type(error).__name__)

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(self._interval_s)
            if self._unsealed:
                self.seal()
            head = await self._stored_head()
            await self._clock.sleep(self._settle_s)
            save_head(self._head_file, head)

    async def _stored_head(self) -> Head:
        head = self._journal.head
        await self._journal.stored(head.position)
        return head

    def _count(self, event: Event) -> None:
        if isinstance(event.fact, JournalSealed):
            return
        self._unsealed += 1
        if self._unsealed >= self._every:
            self.seal()
