"""The asking side of a stream: many calls at a time, each with its own id, deadline and credit."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from pydantic import JsonValue

from mesh.errors import PeerMisbehaved
from mesh.p2p import messages, packing
from mesh.p2p.calls import CallFailed, OnChunk, Reply
from mesh.p2p.credit import Budget, ReceiveWindow, SmallCalls
from mesh.p2p.frames import Frame, Kind, encode
from mesh.p2p.gathering import Gathering
from mesh.p2p.messages import ErrorBody, Limits, ResultHead
from mesh.p2p.outbox import Lane
from mesh.p2p.wire import Wire

# A peer that leaves this much unread is asked nothing more.
_OWED_BYTES = 4 << 20

# What an acceptor may say next of a call, by what it said last.
_NEXT: dict[Kind | None, frozenset[Kind]] = {
    None: frozenset({Kind.ACCEPTED, Kind.CHUNK, Kind.RESULT, Kind.ERROR}),
    Kind.ACCEPTED: frozenset({Kind.CHUNK, Kind.RESULT, Kind.ERROR}),
    Kind.CHUNK: frozenset({Kind.CHUNK, Kind.RESULT, Kind.ERROR}),
    Kind.RESULT: frozenset({Kind.BODY, Kind.ERROR}),
    Kind.BODY: frozenset({Kind.BODY, Kind.ERROR}),
}


OnPong = Callable[[int, float, float], None]


class Calls(Protocol):
    """What makes calls on a stream."""

    async def call(
        self, method: str, header: Mapping[str, JsonValue], body: bytes, timeout: float, on_chunk: OnChunk | None
    ) -> Reply:
        """See `Calling.call`."""
        ...


class MadeCall:
    """One call of ours, until it has an outcome and its chunks are handed on."""

    __slots__ = (
        "body",
        "chunks",
        "deadline",
        "header",
        "id",
        "lane",
        "last",
        "missing",
        "outcome",
        "packed_from",
        "plain_bytes",
        "reserved",
        "size",
        "streams",
        "timeout",
        "waiter",
        "window",
    )

    def __init__(self, call: int, credit: int, window: int, *, streams: bool) -> None:
        self.id = call
        self.lane = Lane(call, credit)
        self.window = ReceiveWindow(window)
        self.streams = streams
        self.last: Kind | None = None
        self.chunks: deque[bytes] = deque()
        self.body = Gathering()
        self.size = 0  # bytes gathered, and what they will unpack to
        self.reserved = 0  # of the room for answers
        self.missing = 0  # bytes of the result's body that are still to come
        self.packed_from = 0  # what of the answer's bytes came before the result
        self.plain_bytes = 0  # of the result's body once it is unpacked, if it is packed
        self.header: Mapping[str, JsonValue] = {}
        self.outcome: Reply | CallFailed | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.timeout = 0.0
        self.deadline: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Something changed: let the caller look."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Calling:
    """All calls of ours to one peer on one stream; ``budget`` bounds the bytes of their answers.

    ``on_pong(sequence, asked, answered)`` is told of each answered ping, with the wall clocks of both in seconds.
    Bodies of more than ``pack_over`` bytes are compressed; 0: that was not agreed on.
    ``on_fault`` is told of a breach of the protocol that shows only after its frame was taken.
    """

    def __init__(
        self,
        peer: str,
        wire: Wire,
        *,
        ours: Limits,
        theirs: Limits,
        budget: Budget,
        on_pong: OnPong,
        on_fault: Callable[[PeerMisbehaved], None],
        pack_over: int = 0,
    ) -> None:
        self._peer = peer
        self._wire = wire
        self._ours = ours
        self._theirs = theirs
        self._budget = budget
        self._on_pong = on_pong
        self._on_fault = on_fault
        self._pack_over = pack_over
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, MadeCall] = {}
        self._small_calls = SmallCalls()
        self._last = 0
        self._closed: str | None = None
        self.sealed: Calls | None = None  # what makes them sealed, where both sides want that
        self._react = {
            Kind.ACCEPTED: self._on_accepted,
            Kind.CREDIT: self._on_credit,
            Kind.CHUNK: self._on_chunk,
            Kind.RESULT: self._on_result,
            Kind.BODY: self._on_body,
            Kind.ERROR: self._on_error,
        }

    @property
    def next_call(self) -> int:
        """The number that the next call gets."""
        return self._last + 1

    @property
    def limits(self) -> Limits:
        """What we take of an answer."""
        return self._ours

    @property
    def in_flight(self) -> int:
        """Calls without an outcome."""
        return len(self._calls)

    async def call(
        self, method: str, header: Mapping[str, JsonValue], body: bytes, timeout: float, on_chunk: OnChunk | None
    ) -> Reply:
        """Ask, and wait for the answer. Raises CallFailed; when cancelled, the peer is told."""
        plain_bytes = 0
        if self._pack_over and len(body) > self._pack_over and method != messages.SEALED:
            started = self._loop.time()
            body, plain_bytes = await self._packed(body)
            timeout -= self._loop.time() - started
        call = self._begin(method, header, body, timeout, streams=on_chunk is not None, plain_bytes=plain_bytes)
        try:
            while call.outcome is None or call.chunks:
                if call.chunks and on_chunk is not None:
                    await self._hand_on(call, on_chunk)
                else:
                    call.waiter = self._loop.create_future()
                    await call.waiter
            if call.plain_bytes and isinstance(call.outcome, Reply):
                call.outcome = await self._unpacked(call, call.outcome)
        finally:
            self._forget(call)
        if isinstance(call.outcome, CallFailed):
            raise call.outcome
        return call.outcome

    async def _packed(self, body: bytes) -> tuple[bytes, int]:
        """What travels for ``body``, and the body's size if that is something else."""
        if len(body) > self._theirs.max_body_bytes:
            return body, 0  # it will be refused for that
        data = await packing.packed(body)
        if data is None:
            return body, 0
        self._wire.bytes_saved += len(body) - len(data)
        return data, len(body)

    async def _unpacked(self, call: MadeCall, reply: Reply) -> Reply | CallFailed:
        prefix, data = reply.body[: call.packed_from], reply.body[call.packed_from :]
        try:
            plain = await packing.unpacked(data, call.plain_bytes)
        except PeerMisbehaved as fault:
            self._on_fault(fault)
            return CallFailed("protocol", fault.what)
        self._wire.bytes_saved += len(plain) - len(data)
        return Reply(reply.header, prefix + plain if prefix else plain)

    def on_frame(self, frame: Frame) -> None:
        """React to a frame. Raises PeerMisbehaved."""
        if frame.kind is Kind.PONG:
            asked, answered = messages.parse_pong(frame.body)
            self._on_pong(frame.call, asked / 1e6, answered / 1e6)
            return
        react = self._react.get(frame.kind)
        if react is None:
            raise PeerMisbehaved("wrong_direction", f"a {frame.kind.name} frame from the side that accepted the stream")
        if frame.call > self._last or frame.call == 0:
            raise PeerMisbehaved("call_id", f"a {frame.kind.name} frame for call {frame.call}, which was never made")
        call = self._calls.get(frame.call)
        if call is None or call.outcome is not None:
            return  # it crossed with our cancel
        if frame.kind is not Kind.CREDIT:
            if frame.kind not in _NEXT[call.last]:
                before = call.last.name if call.last is not None else "REQUEST"
                raise PeerMisbehaved("order", f"call {frame.call}: {frame.kind.name} after {before}")
            call.last = frame.kind
        react(call, frame.body)

    def close(self, reason: str) -> None:
        """Fail what is in flight, and whatever is asked from now on, with ``disconnected``."""
        self._closed = reason
        for call in self._calls.values():
            if call.outcome is None:
                self._settle(call, CallFailed("disconnected", reason))

    def _begin(
        self,
        method: str,
        header: Mapping[str, JsonValue],
        body: bytes,
        timeout: float,
        *,
        streams: bool,
        plain_bytes: int,
    ) -> MadeCall:
        head = self._admit(method, header, body, timeout, plain_bytes)
        self._last += 1
        call = MadeCall(self._last, self._theirs.window_bytes, self._ours.window_bytes, streams=streams)
        self._calls[call.id] = call
        call.timeout = timeout
        call.deadline = self._loop.call_later(timeout, self._expire, call)
        if messages.fits(head, body):
            self._wire.put(messages.with_head(Kind.REQUEST, call.id, head, body))
        else:
            self._wire.put(messages.with_head(Kind.REQUEST, call.id, head))
            self._wire.add(call.lane, Kind.BODY, memoryview(body))
        return call

    def _admit(
        self, method: str, header: Mapping[str, JsonValue], body: bytes, timeout: float, plain_bytes: int
    ) -> bytes:
        """The request's JSON, unless the call can only fail."""
        if self._closed is not None:
            raise CallFailed("disconnected", self._closed)
        if timeout <= 0:
            raise CallFailed("expired", "no time was left for the call")
        if len(self._calls) >= self._theirs.requests:
            raise CallFailed("overloaded", f"{len(self._calls)} calls are in flight; {self._peer} takes no more")
        if self._wire.owed_bytes > _OWED_BYTES:
            raise CallFailed("overloaded", f"{self._peer} has not read {self._wire.owed_bytes} bytes of requests")
        if len(body) > self._theirs.max_body_bytes:
            raise CallFailed(
                "invalid", f"a body of {len(body)} bytes; {self._peer} takes {self._theirs.max_body_bytes}"
            )
        timeout_ms = min(max(1, round(timeout * 1000)), messages.MAX_TIMEOUT_MS)
        try:
            head = messages.request_head(method, timeout_ms, header, len(body), plain_bytes)
        except (TypeError, ValueError) as error:
            raise CallFailed("invalid", f"the header of the call cannot be sent: {error}") from error
        if len(head) + 4 > self._wire.max_body:
            raise CallFailed("invalid", f"a header of {len(head)} bytes; {self._peer} takes {self._wire.max_body - 4}")
        return head

    async def _hand_on(self, call: MadeCall, on_chunk: OnChunk) -> None:
        """Give one chunk to the caller, who may be slow, but not beyond the deadline."""
        assert call.deadline is not None
        chunk = call.chunks.popleft()
        try:
            async with asyncio.timeout_at(call.deadline.when()) as scope:
                await on_chunk(chunk)
        except TimeoutError:
            if not scope.expired():
                raise
            self._expire(call)
            if not isinstance(call.outcome, CallFailed):  # all has arrived, and was not taken in time
                self._settle(call, self._expired(call))
        if call.outcome is None:
            self._grant(call, len(chunk))

    def _grant(self, call: MadeCall, consumed: int) -> None:
        """Let the peer send more once there is room for enough."""
        granted = call.window.consume(consumed, shared=self._small_calls.lately(self._loop.time()))
        if granted:
            self._wire.put(messages.credit(call.id, granted))

    def _expire(self, call: MadeCall) -> None:
        if call.outcome is None:
            self._refuse(call, self._expired(call))

    def _expired(self, call: MadeCall) -> CallFailed:
        return CallFailed("expired", f"no answer from {self._peer} within {call.timeout:g} s")

    def _forget(self, call: MadeCall) -> None:
        """The caller is done with it; the peer is told if it is not."""
        del self._calls[call.id]
        self._budget.release(call.reserved)
        call.lane.drop()
        if call.deadline is not None:
            call.deadline.cancel()
        if call.outcome is None and self._closed is None:
            self._wire.put(encode(Kind.CANCEL, call.id))

    def _settle(self, call: MadeCall, outcome: Reply | CallFailed) -> None:
        call.outcome = outcome
        call.lane.drop()
        if isinstance(outcome, CallFailed):
            call.chunks.clear()
        call.wake()

    def _on_accepted(self, call: MadeCall, body: bytes) -> None:
        if body:
            raise PeerMisbehaved("malformed", f"call {call.id}: ACCEPTED has no body, this one {len(body)} bytes")

    def _on_credit(self, call: MadeCall, body: bytes) -> None:
        self._wire.grant(call.lane, messages.parse_credit(body))

    def _on_chunk(self, call: MadeCall, body: bytes) -> None:
        call.window.arrive(len(body))
        if call.streams:
            call.chunks.append(body)
            call.wake()
        else:
            self._gather(call, body)

    def _on_result(self, call: MadeCall, body: bytes) -> None:
        head, inline = messages.parse_head(ResultHead, body)
        if head.body_bytes > self._ours.max_body_bytes:
            raise PeerMisbehaved("body_too_large", f"an answer of {head.body_bytes} bytes against our limit")
        if head.plain_bytes and not self._expect_packed(call, head):
            return
        call.header = head.header
        call.missing = head.body_bytes
        self._on_answer(call, inline)
        if not call.missing:
            self._small_calls.passed(self._loop.time())

    def _expect_packed(self, call: MadeCall, head: ResultHead) -> bool:
        """The body will be unpacked once it is here; the room for it is taken now, or the call ends."""
        if not self._pack_over:
            raise PeerMisbehaved("compression", f"call {call.id}: a compressed body, which was not agreed on")
        if head.plain_bytes > self._ours.max_body_bytes:
            raise PeerMisbehaved("body_too_large", f"an answer of {head.plain_bytes} bytes against our limit")
        if not self._hold(call, head.plain_bytes):
            return False
        call.packed_from, call.plain_bytes = call.size - head.plain_bytes, head.plain_bytes
        return True

    def _on_body(self, call: MadeCall, body: bytes) -> None:
        call.window.arrive(len(body))
        self._on_answer(call, body)

    def _on_answer(self, call: MadeCall, data: bytes) -> None:
        if len(data) > call.missing:
            raise PeerMisbehaved("body_overrun", f"call {call.id}: {len(data)} bytes where {call.missing} were missing")
        call.missing -= len(data)
        self._gather(call, data)
        if not call.missing and call.outcome is None:
            self._settle(call, Reply(call.header, call.body.take()))

    def _gather(self, call: MadeCall, data: bytes) -> None:
        """Keep a part of the body; chunks that nobody asked for as chunks are its beginning."""
        if not data or not self._hold(call, len(data)):
            return
        call.body.add(data)
        if call.last is not Kind.RESULT:
            self._grant(call, len(data))

    def _hold(self, call: MadeCall, size: int) -> bool:
        """Take room for ``size`` bytes of the answer, or end the call."""
        if call.size + size > self._ours.max_body_bytes + call.plain_bytes:
            self._refuse(call, CallFailed("invalid", f"the answer is over {self._ours.max_body_bytes} bytes"))
            return False
        total = call.size + size
        if total > messages.MIN_FRAME_BYTES:  # large answers must not shut out small ones
            if not self._budget.reserve(total - call.reserved):
                self._refuse(call, CallFailed("overloaded", f"no room for answers: {self._budget.used} bytes are held"))
                return False
            call.reserved = total
        call.size = total
        return True

    def _refuse(self, call: MadeCall, failure: CallFailed) -> None:
        self._wire.put(encode(Kind.CANCEL, call.id))
        self._settle(call, failure)

    def _on_error(self, call: MadeCall, body: bytes) -> None:
        error = messages.parse(ErrorBody, body, messages.MAX_ERROR_BYTES)
        after_s = error.retry_after_ms / 1000
        self._settle(call, CallFailed(error.kind, error.message, retryable=error.retryable, retry_after_s=after_s))
