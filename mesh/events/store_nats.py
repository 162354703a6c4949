"""The event store on JetStream: pipelined, resent after every interruption, fenced against a second writer.

Each event is published with the sequence that the stream must have reached (``Nats-Expected-Last-Sequence``), so
an event is stored exactly at its position or not at all, and an acknowledgement of one proves all before it. Hence
only some ask for one. After anything unexpected (a lost connection, a refusal) the stream is asked where it ends:
what it holds must be ours, and the rest is sent again. The first event after a pause goes alone: where two write,
one of them is refused before any of its events has others behind it.

What nobody waits for yet lingers for a moment. What somebody waits for goes at once, or while something is on its way
with the next acknowledgement: so what belongs together is written, stored and read together. Each write wakes the
server and every reader.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Literal

import structlog

from mesh.errors import BrokerError, JournalBroken, JournalError, JournalFenced
from mesh.events import jetstream
from mesh.events.broker import BrokerAddress
from mesh.events.codec import MAX_PAYLOAD_BYTES
from mesh.events.connection import Connection, connect
from mesh.events.envelope import Record
from mesh.events.outbox import HEADER_BYTES, Outbox, written
from mesh.events.publishing import Refusal, publisher_for, read_acknowledgement
from mesh.events.reader_nats import NatsEventReader
from mesh.events.refusals import WRONG_LAST_SEQUENCE, explain, is_final
from mesh.events.store import Head
from mesh.events.stored import to_record
from mesh.events.stream import StreamSettings, open_stream
from mesh.events.tail import verify_tail
from mesh.events.waiters import Waiters
from mesh.events.wire import Message

_ACKS_SID = 2
_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 2.0
_REFUSALS = 8  # without progress, each after a pause: about five seconds
_SILENCE_S = 5.0
_SILENCE_ALONE_S = 2.0
_LISTEN_S = 1.0
_BEHIND = 20  # tries, two seconds apart in the end
_LINGER_S = 0.003
_ENOUGH = 64  # events that do not linger
_PAUSE_S = 0.1
log = structlog.get_logger(__name__)


class NatsEventStore:
    """See `mesh.events.store.EventStore`. ``known`` is an end that the journal had reached before.

    While the server is away events are queued, up to ``max_backlog_bytes``; over that the store fails for good, as
    it does when it is fenced, full, or finds acknowledged events gone. ``complaint`` tells what the server's own log
    last complained of (`Broker.complaint`), for what it does not answer.
    """

    def __init__(
        self,
        address: BrokerAddress,
        owner: str,
        *,
        durability: Literal["process", "power"] = "process",
        max_bytes: int = 0,
        replicas: int = 1,
        known: Head | None = None,
        max_backlog_bytes: int = 256 << 20,
        flush_s: float = 10.0,
        complaint: Callable[[], str] = lambda: "",
    ) -> None:
        self._address = address
        self._owner = owner
        self._settings = StreamSettings(max_bytes, replicas)
        self._publisher = publisher_for(durability)
        self._known = known
        self._max_backlog_bytes = max_backlog_bytes
        self._flush_s = flush_s
        self._complaint = complaint
        self._reader = NatsEventReader(address)
        self._connection: Connection | None = None
        self._outbox = Outbox()
        self._waiters = Waiters()
        self._due: asyncio.Handle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._flowing = False
        self._heard_at = 0.0
        self._recovering = False
        self._generation = 0
        self._refusal: Refusal | None = None
        self._refused_alone = False
        self._refusals = 0
        self._behind = 0
        self._interrupted = asyncio.Event()
        self._failed = asyncio.Event()
        self._error: JournalError | None = None
        self._keeper: asyncio.Task[None] | None = None

    # The port.

    async def open(self) -> Head:
        """See `EventStore.open`. Raises BrokerError when the server cannot be used."""
        connection = await self._connect()
        try:
            state = await open_stream(connection, self._settings)
            head, record = await verify_tail(self._reader, self._owner, state.last, self._known)
        except BaseException:
            connection.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(head.position, record)
        self._connection = connection
        self._keeper = asyncio.create_task(self._keep(), name="journal writer")
        return head

    def append(self, record: Record) -> None:
        """See `EventStore.append`."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        outbox = self._outbox
        if record.position != outbox.given + 1:
            raise JournalFenced(f"position {record.position} was given out, the store expects {outbox.given + 1}")
        if outbox.bytes > self._max_backlog_bytes:
            self._fail(_overflow(self.backlog, self._max_backlog_bytes))
            assert self._error is not None
            raise self._error
        outbox.add(record)
        if outbox.waiting >= _ENOUGH:
            self._pump_soon()
        elif self._lingering is None:
            self._lingering = self._loop.call_later(_LINGER_S, self._pump)

    @property
    def stored_position(self) -> int:
        """See `EventStore.stored_position`."""
        return self._outbox.stored

    @property
    def backlog(self) -> int:
        """See `EventStore.backlog`."""
        return self._outbox.given - self._outbox.stored

    async def wait_stored(self, position: int) -> None:
        """See `EventStore.wait_stored`."""
        if position <= self._outbox.stored:
            return
        if self._error is not None:
            raise self._error.with_traceback(None)
        if position > self._outbox.sent and not self._outbox.in_flight:
            self._pump_soon()
        await self._waiters.add(position)

    async def failure(self) -> JournalError:
        """See `EventStore.failure`."""
        await self._failed.wait()
        assert self._error is not None
        return self._error

    async def last_position(self) -> int:
        """See `EventReader.last_position`."""
        return await self._reader.last_position()

    def read(self, first: int = 1, last: int | None = None) -> AsyncIterator[list[Record]]:
        """See `EventReader.read`."""
        return self._reader.read(first, last)

    def follow(self, first: int = 1) -> AsyncIterator[list[Record]]:
        """See `EventReader.follow`."""
        return self._reader.follow(first)

    def scan(self, first: int = 1) -> AsyncIterator[list[Record]]:
        """See `EventReader.scan`."""
        return self._reader.scan(first)

    def give_up(self, reason: str) -> None:
        """Wait for nothing that is not stored by now: whoever does is told so."""
        self._fail(JournalError(reason, remedy="Start the node again once its broker serves."))

    async def close(self) -> None:
        """See `EventStore.close`. Waits no longer than ``flush_s``."""
        try:
            async with asyncio.timeout(self._flush_s):
                await self.wait_stored(self._outbox.given)
        except (TimeoutError, JournalError) as error:
            log.warning("events were not stored before the journal closed", events=self.backlog, error=str(error))
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._error = self._error or JournalError("the journal is closed")
        self._waiters.fail(self._error)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Sending.

    def _pump_soon(self) -> None:
        if self._due is None:
            self._due = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._due = None
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        connection = self._connection
        if connection is None or self._recovering or self._error is not None:
            return
        while connection.writable and (records := self._outbox.take(self._room())):
            connection.write(self._publisher.encode(records, f"{connection.inbox}.a.{self._generation}."))

    def _room(self) -> int:
        in_flight = self._outbox.in_flight
        if in_flight == 0 and self._publisher.probes and self._loop.time() - self._heard_at > _PAUSE_S:
            self._flowing = False
        return self._publisher.room(in_flight) if self._flowing else int(in_flight == 0)

    # What comes back.

    def _on_messages(self, messages: list[Message]) -> None:
        highest = 0
        for message in messages:
            _, generation, position = message[1].rsplit(b".", 2)
            if int(generation) != self._generation:
                continue
            acknowledgement = read_acknowledgement(message)
            if acknowledgement.error is not None:
                self._refused(acknowledgement.error)
                break
            if acknowledgement.seq != int(position):
                self._fail(_fenced(int(position), f"was stored as number {acknowledgement.seq}"))
                break
            highest = acknowledgement.seq
        if highest:
            self._flowing = True
            self._heard_at = self._loop.time()
            self._refusals = 0
            self._acknowledge(highest)
            self._pump()

    def _acknowledge(self, position: int) -> None:
        self._outbox.acknowledge(position)
        self._waiters.advance(position)

    def _refused(self, refusal: Refusal) -> None:
        if refusal.err_code not in WRONG_LAST_SEQUENCE or self._refusal is None:
            self._refusal = refusal
        self._refused_alone = not self._flowing
        self._interrupt()

    def _on_lost(self, error: Exception) -> None:
        log.warning("the journal lost its broker", error=str(error), backlog=self.backlog)
        self._connection = None
        self._interrupt()

    def _interrupt(self) -> None:
        self._recovering = True
        self._generation += 1  # what still comes for earlier ones says nothing any more
        self._interrupted.set()

    def _fail(self, error: JournalError) -> None:
        if self._error is None:
            log.error("the journal has failed", error=str(error), backlog=self.backlog)
            self._error = error
            self._waiters.fail(error)
            self._failed.set()

    # Recovering.

    async def _keep(self) -> None:
        try:
            while True:
                await self._interruption()
                await self._recover()
        except JournalError as error:
            self._fail(error)
        except Exception as error:  # the node must hear that nothing is stored any more
            log.exception("the journal's writer broke")
            self._fail(
                JournalError(f"the journal's writer broke: {error!r}", remedy="This is a bug: please report it.")
            )

    async def _interruption(self) -> None:
        """Return when there is one; silence of the server about what it was sent is one too."""
        silent_s = 0.0
        while not self._interrupted.is_set():
            stored, owed = self._outbox.stored, self._outbox.in_flight
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LISTEN_S):
                    await self._interrupted.wait()
                return
            silent_s = silent_s + _LISTEN_S if owed and stored == self._outbox.stored else 0.0
            full = silent_s > 0 and is_final(Refusal(), self._complaint())
            if full or silent_s >= (_SILENCE_S if self._flowing else _SILENCE_ALONE_S):
                self._flowing = self._flowing and not full
                self._refused(Refusal(description=f"no answer for {silent_s:g} s"))

    async def _recover(self) -> None:
        refusal, self._refusal = self._refusal, None
        pause = _RETRY_MIN_S * 2.0**self._refusals
        while self._recovering:
            self._interrupted.clear()
            try:
                if self._refusals:
                    await asyncio.sleep(min(pause, _RETRY_MAX_S))
                if self._connection is None:
                    self._connection = await self._connect()
                await self._reconcile(self._connection)
                self._recovering = False
            except BrokerError as error:
                log.debug("the broker is still away", error=str(error))
                await asyncio.sleep(min(pause, _RETRY_MAX_S))
                pause *= 2
        if refusal is not None:
            self._judge(refusal)
        self._pump()

    async def _reconcile(self, connection: Connection) -> None:
        """Take what the stream holds as acknowledged, if it is ours, and queue the rest again."""
        last = await self._last_stored(connection)
        if last > 0:
            await self._require_ours(connection, last)
        self._acknowledge(last)
        self._outbox.requeue()
        self._flowing = False

    async def _last_stored(self, connection: Connection) -> int:
        """Where the stream ends. In a cluster, one that has just elected a leader may be behind for a moment."""
        try:
            last = (await jetstream.stream_state(connection)).last
        except jetstream.JetStreamError as error:
            if error.code != jetstream.STREAM_NOT_FOUND:
                raise
            last = 0
        if last >= self._outbox.stored:
            self._behind = 0
            return last
        self._behind += 1
        if self._settings.replicas > 1 and self._behind <= _BEHIND:
            raise BrokerError(f"the stream ends at {last}, {self._outbox.stored} was acknowledged")
        raise _gone(last, self._outbox.stored)

    def _judge(self, refusal: Refusal) -> None:
        """The server is there and takes no events. It says nothing of one that it cannot write: its log may."""
        self._refusals += refusal.code > 0  # mere slowness ends one day
        complaint = self._complaint() if self._refused_alone else ""
        if (self._refused_alone and is_final(refusal, complaint)) or self._refusals > _REFUSALS:
            raise explain(refusal, max_bytes=self._settings.max_bytes, backlog=self.backlog, complaint=complaint)

    async def _require_ours(self, connection: Connection, position: int) -> None:
        ours = self._outbox.written_at(position)
        message = await jetstream.message_at(connection, position)
        if message is None:
            raise JournalBroken(f"the event at position {position} is missing from the store", position=position)
        found = to_record(position, message.subject.encode(), message.headers, message.payload)
        if written(found) != ours:
            raise _fenced(position, f"holds event {found.id or 'without an id'}, which this process did not write")

    async def _connect(self) -> Connection:
        connection = await connect(self._address, name="mesh journal")
        limit = connection.info.get("max_payload", 0)
        if limit < MAX_PAYLOAD_BYTES + HEADER_BYTES:
            connection.close()
            raise BrokerError(
                f"the NATS server at {self._address.url} takes messages of at most {limit} bytes",
                remedy=f"Set max_payload there to {2 * MAX_PAYLOAD_BYTES} or more.",
            )
        connection.on_messages = self._on_messages
        connection.on_lost = self._on_lost
        connection.on_writable = self._pump
        connection.subscribe(f"{connection.inbox}.a.*.*", _ACKS_SID)
        return connection


def _fenced(position: int, what: str) -> JournalFenced:
    return JournalFenced(
        f"another process writes to this journal: position {position} {what}",
        remedy="Stop the other node on this store or account; this one has stopped writing.",
    )


def _gone(last: int, stored: int) -> JournalBroken:
    return JournalBroken(
        f"the stream ends at position {last}, but {stored} was acknowledged: stored events are gone",
        position=last + 1,
        remedy="The store was replaced or lost. Restore it from a backup.",
    )


def _overflow(backlog: int, limit: int) -> JournalError:
    return JournalError(
        f"{backlog} events wait to be stored, over the limit of {limit} bytes",
        remedy="The broker is away or too slow: look into its log, then start the node again.",
    )
