"""Pulling stored messages: several requests for the next ones under way, so that the server never waits for us."""

import asyncio
import json
import os
from collections import Counter

from mesh.errors import BrokerError
from mesh.events import jetstream
from mesh.events.connection import Connection, NoAnswer
from mesh.events.envelope import Record
from mesh.events.stored import delivered_sequence, take_records, to_record
from mesh.events.subjects import STREAM
from mesh.events.wire import Message, publication, status_of

_PULLS = 3
_CONSUMERS = 3
# What is stored is asked for in large pulls, so that the server goes on sending while a batch is folded.
_BATCH = 4000
_BATCH_WAITING = 500
_BYTES = 8 << 20
_EXPIRES_S = 30.0
_HEARTBEAT_S = 5.0
_SILENCE_S = 12.0
_FIRST_SID = 2
# Statuses that end one pull: https://docs.nats.io/reference/reference-protocols/nats_api_reference
_HEARTBEAT = 100
_NO_MESSAGES = 404
_TIMEOUT = 408
_CONFLICT = 409


class Pulls:
    """The records from one sequence on, over a connection that it owns. With ``wait`` it waits for those to come."""

    def __init__(self, connection: Connection, *, wait: bool) -> None:
        self._connection = connection
        self._wait = wait
        self._batch = _BATCH_WAITING if wait else _BATCH
        self._consumer = ""
        self._arrived: list[Record] = []
        self._due = [0] * _PULLS
        self._dry = False
        self._fed = False
        self._error: Exception | None = None
        self._news = asyncio.Event()
        connection.skim(self._skim)
        connection.on_messages = self._on_messages
        connection.on_lost = self._on_lost

    async def begin(self, first: int) -> None:
        """Start with sequence ``first``. Raises BrokerError.

        A cluster drops requests while it elects a leader, and may place a consumer on a server that has just died:
        who got no answer asks again for another one.
        """
        for others in reversed(range(_CONSUMERS)):
            self._consumer = f"mesh_{os.urandom(8).hex()}"
            try:
                await jetstream.create_reader(self._connection, self._consumer, first)
                break
            except NoAnswer:
                if not others:
                    raise
        for slot in range(_PULLS):
            self._connection.subscribe(f"{self._connection.inbox}.p.{slot}", _FIRST_SID + slot)
        self._ask()

    async def take(self) -> list[Record]:
        """What has arrived since the last call, at least one record; empty when there are no more, unless waiting.

        Raises BrokerError when the connection or the consumer is lost.
        """
        while not self._arrived:
            if self._error is not None:
                raise self._error
            if self._dry and not self._wait and not any(self._due):
                if not self._fed:
                    return []
                self._fed = self._dry = False  # a pull is also refused what another one was about to get: ask again
                self._ask()
            self._news.clear()
            try:
                async with asyncio.timeout(_SILENCE_S):
                    await self._news.wait()
            except TimeoutError:
                raise BrokerError(f"the NATS server sent neither events nor heartbeats for {_SILENCE_S:g} s") from None
        arrived, self._arrived = self._arrived, []
        self._ask()
        return arrived

    def close(self) -> None:
        """Drop the consumer and the connection."""
        if self._error is None:
            self._connection.write(publication(f"{jetstream.API}.CONSUMER.DELETE.{STREAM}.{self._consumer}", b""))
        self._connection.close()

    def _ask(self) -> None:
        if self._dry and not self._wait:
            return
        request: dict[str, object] = {"batch": self._batch, "max_bytes": _BYTES}
        if self._wait:
            request |= {"expires": int(_EXPIRES_S * 1e9), "idle_heartbeat": int(_HEARTBEAT_S * 1e9)}
        else:
            request["no_wait"] = True
        body = json.dumps(request).encode()
        subject = f"{jetstream.API}.CONSUMER.MSG.NEXT.{STREAM}.{self._consumer}"
        for slot, due in enumerate(self._due):
            if due == 0:
                self._due[slot] = self._batch
                self._connection.write(publication(subject, body, reply=f"{self._connection.inbox}.p.{slot}"))

    def _skim(self, data: bytes) -> int:
        sids: list[bytes] = []
        stop = take_records(data, self._arrived, sids)
        for sid, count in Counter(sids).items():
            self._count(int(sid), count)
        return stop

    def _on_messages(self, messages: list[Message]) -> None:
        for message in messages:
            if message[2]:
                self._arrived.append(to_record(delivered_sequence(message), message[1], *message[3:]))
                self._count(message[0], 1)
            else:
                self._on_status(message)
        self._news.set()

    def _count(self, sid: int, arrived: int) -> None:
        self._due[sid - _FIRST_SID] -= arrived
        self._fed = True
        self._news.set()

    def _on_status(self, message: Message) -> None:
        status = status_of(message[3])
        if status == _HEARTBEAT or b"Batch Completed" in message[3]:
            return
        self._due[message[0] - _FIRST_SID] = 0
        if status in (_NO_MESSAGES, _TIMEOUT):
            self._dry = True
        elif status != _CONFLICT or b"MaxBytes" not in message[3]:
            self._on_lost(BrokerError(f"the NATS server ended the reading: {message[3].decode(errors='replace')}"))
        if self._wait and self._error is None:
            self._ask()

    def _on_lost(self, error: Exception) -> None:
        self._error = error
        self._news.set()
