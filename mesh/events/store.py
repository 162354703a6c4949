"""The port behind the journal: an append-only store of records, written by one process.

Adapters: `mesh.events.store_nats` (JetStream) and `mesh.events.store_memory` (fast tests). Both pass
``tests/contracts/test_event_store.py``.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from mesh.errors import JournalError
from mesh.events.envelope import Record


class Head(NamedTuple):
    """Where a stored journal ends: its last position (0 when empty) and that event's chain link."""

    position: int
    link: bytes


class EventReader(Protocol):
    """Reads stored records, in order and without gaps."""

    async def last_position(self) -> int:
        """The last stored position, 0 when there is none."""
        ...

    def read(self, first: int = 1, last: int | None = None) -> AsyncIterator[list[Record]]:
        """Yield batches of records from ``first`` to ``last`` (default: what is stored now), contiguous.

        Raises JournalBroken when a position in between is missing.
        """
        ...

    def follow(self, first: int = 1) -> AsyncIterator[list[Record]]:
        """Yield batches of records from ``first`` on, then new ones as soon as they are stored; never ends.

        Raises JournalBroken when a position is missing, or ``first`` lies beyond the next one.
        """
        ...

    def scan(self, first: int = 1) -> AsyncIterator[list[Record]]:
        """As `read` from ``first``, but what is missing is left out instead of being an error: for the audit."""
        ...


class EventStore(EventReader, Protocol):
    """Takes records in the order of their positions and says when they are stored."""

    async def open(self) -> Head:
        """Connect, verify the tail of what is there, and say where it ends. Raises JournalError."""
        ...

    def append(self, record: Record) -> None:
        """Queue a record; never blocks. Raises JournalError once the store has failed."""
        ...

    @property
    def stored_position(self) -> int:
        """Every position up to this one has been acknowledged."""
        ...

    @property
    def backlog(self) -> int:
        """How many records are queued or unacknowledged."""
        ...

    async def wait_stored(self, position: int) -> None:
        """Return once every record up to ``position`` is acknowledged. Raises JournalError if that fails."""
        ...

    async def failure(self) -> JournalError:
        """Return the error once the store has failed for good; until then wait. Who owns the store watches it."""
        ...

    async def close(self) -> None:
        """Flush what is queued, as far as the store still takes it, and let go."""
        ...
