"""The node's journal: every fact gets its position, its hash and its place in the live state, in one step."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from mesh.clock import Clock, rfc3339
from mesh.errors import JournalBroken, JournalError
from mesh.events.chain import genesis, link
from mesh.events.codec import decode, decode_payload, encode
from mesh.events.envelope import Event, Fact, Record
from mesh.events.store import EventStore, Head
from mesh.events.subjects import subject_of
from mesh.ids import new_id

Fold = Callable[[Event], None]
Listener = Callable[[Event], None]


class Resumed(NamedTuple):
    """Up to which position the folds know the journal already, and the count of the node's own events there."""

    position: int = 0
    origin_seq: int = 0


# Brings the folds forward to some position of a journal that ends at the one given.
Resume = Callable[[EventStore, int], Awaitable[Resumed]]


class Emission(msgspec.Struct, frozen=True, gc=False):
    """An event that has its place in the journal, and the promise that it will be stored."""

    event: Event
    store: EventStore

    async def stored(self) -> None:
        """Return once the event and all before it are acknowledged. Raises JournalError if that fails."""
        await self.store.wait_stored(self.event.position)


class Journal:
    """One writer, one order.

    ``folds`` are live states (routing, health): each sees every event exactly once, in order, before `emit`
    returns, and on `open` everything that was stored before. ``listeners`` hear of new events only, after
    the folds, and may emit in turn.
    """

    def __init__(
        self,
        origin: str,
        store: EventStore,
        clock: Clock,
        *,
        folds: Iterable[Fold] = (),
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self.origin = origin
        self._store = store
        self._clock = clock
        self._folds = tuple(folds)
        self._make_id = make_id
        self._listeners: list[Listener] = []
        self._unheard: deque[Event] = deque()
        self._position = 0
        self._origin_seq = 0
        self._prev = genesis(origin)

    async def open(self, resume: Resume | None = None) -> int:
        """Open the store, fold what it holds, and return the last position (0 for a new journal).

        ``resume`` may bring the folds forward by other means: only what follows is then folded.
        """
        head = await self._store.open()
        resumed = Resumed() if resume is None else await resume(self._store, head.position)
        self._origin_seq = resumed.origin_seq
        async for batch in self._store.read(resumed.position + 1, head.position):
            for record in batch:
                event = _decoded(record)
                if event.origin == self.origin:
                    self._origin_seq = event.origin_seq
                for fold in self._folds:
                    fold(event)
        self._position, self._prev = head
        return head.position

    @property
    def position(self) -> int:
        """The position of the last event, stored or still on its way."""
        return self._position

    @property
    def origin_seq(self) -> int:
        """How many events this node has recorded itself."""
        return self._origin_seq

    @property
    def stored_position(self) -> int:
        """Every position up to this one is stored."""
        return self._store.stored_position

    @property
    def backlog(self) -> int:
        """How many events are still on their way to the store."""
        return self._store.backlog

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with every event from now on."""
        self._listeners.append(listener)

    def emit(self, fact: Fact, *, subject: str = "", correlation: str = "", causation: str = "") -> Emission:
        """Record a fact: position, hash, live state, and off to the store, without waiting.

        Raises JournalError when the store has failed or the event is too large; then nothing has changed.
        """
        position, prev = self._position + 1, self._prev
        event = Event(
            position=position,
            prev=prev,
            id=self._make_id(),
            time=rfc3339(self._clock.now()),
            origin=self.origin,
            origin_seq=self._origin_seq + 1,
            subject=subject,
            correlation=correlation,
            causation=causation,
            fact=fact,
        )
        record = encode(event)
        self._store.append(record)
        self._position = position
        self._origin_seq += 1
        self._prev = link(prev, position, record.payload)
        for fold in self._folds:
            fold(event)
        if self._listeners:
            self._tell(event)
        return Emission(event, self._store)

    def admit(self, receipt: Fact, payloads: Sequence[bytes], *, subject: str) -> Emission:
        """Record ``receipt``, and behind it the events of another node, byte for byte, with nothing in between.

        They are the journal's from then on: chained, folded and stored as our own. Who calls this has verified their
        origin's signature. Raises ValueError when a payload is no event of another node, and JournalError as `emit`;
        after a ValueError nothing has changed.
        """
        events = [decode_payload(0, b"", payload) for payload in payloads]
        if any(event.origin == self.origin for event in events):
            raise ValueError("an event of this node's own does not come from outside")
        listeners, self._listeners = self._listeners, []
        try:
            emission = self.emit(receipt, subject=subject)
            placed = [self._place(event, payload) for event, payload in zip(events, payloads, strict=True)]
        finally:
            self._listeners = listeners
        busy = bool(self._unheard)
        self._unheard.extend((emission.event, *placed))
        if not busy:
            self._tell_unheard()
        return Emission(placed[-1] if placed else emission.event, self._store)

    def _place(self, event: Event, payload: bytes) -> Event:
        """An event that another node made, at the end of this journal."""
        position, prev = self._position + 1, self._prev
        placed = msgspec.structs.replace(event, position=position, prev=prev)
        self._store.append(Record(position, prev, event.id, subject_of(event.origin, event.type), payload))
        self._position = position
        self._prev = link(prev, position, payload)
        for fold in self._folds:
            fold(placed)
        return placed

    def _tell(self, event: Event) -> None:
        """Listeners hear events in journal order, also those that another listener emits meanwhile."""
        self._unheard.append(event)
        if len(self._unheard) == 1:
            self._tell_unheard()

    def _tell_unheard(self) -> None:
        while self._unheard:
            for listener in self._listeners:
                listener(self._unheard[0])
            self._unheard.popleft()

    async def stored(self, position: int | None = None) -> None:
        """Return once everything up to ``position`` (default: all emitted so far) is acknowledged."""
        await self._store.wait_stored(self._position if position is None else position)

    @property
    def head(self) -> Head:
        """The last position and its chain link, stored or still on its way."""
        return Head(self._position, self._prev)

    async def failure(self) -> JournalError:
        """Return the error once the store has failed for good; until then wait. The node stops on it."""
        return await self._store.failure()

    async def close(self) -> None:
        """Flush and close the store."""
        await self._store.close()


def _decoded(record: Record) -> Event:
    try:
        return decode(record)
    except ValueError as error:
        raise JournalBroken(
            f"what is stored at position {record.position} is not an event: {error}",
            position=record.position,
            remedy="`mesh audit verify` lists all damage; restore the store from a backup.",
        ) from error
