"""The answering side of a stream: admits the peer's calls, runs their handlers, sends what they answer."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from mesh.clock import Clock
from mesh.errors import PeerMisbehaved
from mesh.p2p import messages, packing
from mesh.p2p.calls import CallFailed, Handler, InboundCall, Reply
from mesh.p2p.credit import Budget, ReceiveWindow, SmallCalls
from mesh.p2p.frames import Frame, Kind, encode
from mesh.p2p.gathering import Gathering
from mesh.p2p.messages import Limits, RequestHead
from mesh.p2p.outbox import Lane
from mesh.p2p.wire import Wire

log = structlog.get_logger(__name__)

# Pieces up to this go out at once while nothing of the call waits, without taking turns.
_SMALL_BYTES = 4096
_SMALL_OWED_BYTES = 64 * 1024
# A call that is not answered by then is acknowledged; a frame more for each quick one would only slow it down.
ACCEPT_S = 0.05
# A body of which nothing arrives for this long is given up.
_STALLED_S = 10.0
# How long a cancelled handler may take to end before it is left behind.
_LET_GO_S = 5.0


def held_bytes(head: RequestHead) -> int:
    """What the body takes of the room for bodies: nothing if it is small, for large ones must not shut out those."""
    size = head.body_bytes + head.plain_bytes
    return size if size > messages.MIN_FRAME_BYTES else 0


class ServedCall(InboundCall):
    """One call of the peer, from its request frame to the last byte of its answer."""

    __slots__ = (
        "_wire",
        "arrived",
        "heard_at",
        "id",
        "lane",
        "missing",
        "over",
        "plain_bytes",
        "reserved",
        "spoke",
        "task",
        "timer",
        "window",
    )

    def __init__(self, peer: str, call: int, head: RequestHead, wire: Wire, limits: Limits, credit: int) -> None:
        super().__init__(peer, head.method, head.header, b"", head.timeout_ms / 1000)
        self.id = call
        self.lane = Lane(call, credit)
        self.window = ReceiveWindow(limits.window_bytes)
        self.missing = head.body_bytes
        self.plain_bytes = head.plain_bytes  # of the body once it is unpacked, if it is packed
        self.reserved = held_bytes(head)
        self.arrived = Gathering()
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.spoke = False  # something of the call has been said
        self.heard_at = 0.0
        self.over = False
        self._wire = wire

    async def send(self, chunk: bytes) -> None:
        """See `InboundCall.send`. Raises CallFailed("cancelled") once nobody waits for the answer."""
        if self.over:
            raise CallFailed("cancelled", "the call is over")
        if not chunk:
            return
        self.spoke = True
        if self._may_skip_turns(len(chunk)):
            self.lane.credit -= len(chunk)
            self._wire.put(encode(Kind.CHUNK, self.id, chunk))
            return
        self._wire.add(self.lane, Kind.CHUNK, chunk)
        await self.sent()

    async def sent(self) -> None:
        """Return once everything that was queued has been handed to the stream."""
        if self.lane.empty:
            return
        emptied = asyncio.Event()
        self.lane.when_empty(emptied.set)
        await emptied.wait()

    def _may_skip_turns(self, size: int) -> bool:
        small = size <= min(_SMALL_BYTES, self.lane.credit)
        return small and self.lane.empty and self._wire.owed_bytes < _SMALL_OWED_BYTES

    def take(self, data: bytes) -> None:
        """More of the request's body. Raises PeerMisbehaved when it is more than was announced."""
        if len(data) > self.missing:
            raise PeerMisbehaved("body_overrun", f"call {self.id}: {len(data)} bytes where {self.missing} were missing")
        self.missing -= len(data)
        if data:
            self.arrived.add(data)


class Serving:
    """All calls of one peer on one stream.

    ``requests`` of the limits bounds how many run or wait at a time, ``budget`` the bytes of their bodies; what is
    over is answered with ``overloaded``.
    Bodies of more than ``pack_over`` bytes are compressed; 0: that was not agreed on.
    ``on_fault`` is told of a breach of the protocol that shows only after its frame was taken, ``on_ping`` of pings.
    """

    def __init__(
        self,
        peer: str,
        handlers: Mapping[str, Handler],
        wire: Wire,
        *,
        ours: Limits,
        theirs: Limits,
        budget: Budget,
        clock: Clock,
        on_fault: Callable[[PeerMisbehaved], None],
        on_ping: Callable[[], None] = lambda: None,
        pack_over: int = 0,
    ) -> None:
        self._peer = peer
        self._handlers = handlers
        self._wire = wire
        self._ours = ours
        self._theirs = theirs
        self._budget = budget
        self._clock = clock
        self._on_fault = on_fault
        self._on_pinged = on_ping
        self._pack_over = pack_over
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, ServedCall] = {}
        self._small_calls = SmallCalls()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0
        self._react = {
            Kind.REQUEST: self._on_request,
            Kind.BODY: self._on_body,
            Kind.CANCEL: self._on_cancel,
            Kind.CREDIT: self._on_credit,
            Kind.PING: self._on_ping,
        }

    @property
    def in_flight(self) -> int:
        """Calls that were admitted and are not over, and handlers that have not let go yet."""
        return max(len(self._calls), len(self._tasks))

    def on_frame(self, frame: Frame) -> None:
        """React to a frame. Raises PeerMisbehaved."""
        react = self._react.get(frame.kind)
        if react is None:
            raise PeerMisbehaved("wrong_direction", f"a {frame.kind.name} frame from the side that opened the stream")
        react(frame)

    def give_up_stalled(self) -> None:
        """End the calls whose bodies stopped arriving; their room is for others."""
        now = self._clock.monotonic()
        for call in [call for call in self._calls.values() if call.missing and now - call.heard_at > _STALLED_S]:
            self._fail(
                call, "expired", f"nothing of the body arrived for {_STALLED_S:g} s; {call.missing} bytes are missing"
            )

    async def close(self) -> None:
        """Cancel what runs, and return when it has ended."""
        for call in list(self._calls.values()):
            self._end(call)
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=_LET_GO_S)
            for task in stuck:
                log.error("a handler does not end when cancelled", task=task.get_name(), waited_s=_LET_GO_S)

    def _on_request(self, frame: Frame) -> None:
        if frame.call <= self._last:
            raise PeerMisbehaved("call_id", f"call {frame.call} after call {self._last}; ids only grow")
        self._last = frame.call
        head, inline = messages.parse_head(RequestHead, frame.body)
        if len(inline) > head.body_bytes:
            raise PeerMisbehaved("body_overrun", f"call {frame.call}: {len(inline)} of {head.body_bytes} bytes")
        if head.plain_bytes and not self._pack_over:
            raise PeerMisbehaved("compression", f"call {frame.call}: a compressed body, which was not agreed on")
        refusal = self._refusal(head)
        if refusal is not None:
            self._wire.put(messages.error(frame.call, refusal.kind, refusal.message, retryable=refusal.retryable))
            return
        call = ServedCall(self._peer, frame.call, head, self._wire, self._ours, self._theirs.window_bytes)
        self._calls[call.id] = call
        call.timer = self._loop.call_later(min(ACCEPT_S, call.timeout_s), self._on_time, call)
        self._progress(call, inline)
        if not call.missing:
            self._small_calls.passed(call.heard_at)

    def _refusal(self, head: RequestHead) -> CallFailed | None:
        if head.method not in self._handlers:
            return CallFailed("unknown_method", f"{head.method!r} is not served here")
        limit, size = self._ours.max_body_bytes, max(head.body_bytes, head.plain_bytes)
        if size > limit:
            return CallFailed("invalid", f"a body of {size} bytes; the limit is {limit}")
        if self.in_flight >= self._ours.requests:
            return CallFailed("overloaded", f"{self.in_flight} requests of this peer are in flight; that is the limit")
        if not self._budget.reserve(held_bytes(head)):
            return CallFailed("overloaded", f"no room for a body of {size} bytes now")
        return None

    def _on_body(self, frame: Frame) -> None:
        call = self._find(frame)
        if call is None:
            return
        call.window.arrive(len(frame.body))
        self._progress(call, frame.body)
        granted = call.window.consume(len(frame.body), shared=self._small_calls.lately(call.heard_at))
        if granted and call.missing:
            self._wire.put(messages.credit(call.id, granted))

    def _progress(self, call: ServedCall, data: bytes) -> None:
        if call.task is not None:
            raise PeerMisbehaved("body_overrun", f"call {call.id}: its body was complete")
        call.take(data)
        call.heard_at = self._clock.monotonic()
        if not call.missing:
            call.body = call.arrived.take()
            call.task = self._loop.create_task(self._run(call), name=f"serve {call.method} to {self._peer}")
            self._tasks.add(call.task)
            call.task.add_done_callback(self._tasks.discard)

    def _on_cancel(self, frame: Frame) -> None:
        messages.expect_empty(frame)
        call = self._find(frame)
        if call is not None:
            self._end(call)

    def _on_credit(self, frame: Frame) -> None:
        granted = messages.parse_credit(frame.body)
        call = self._find(frame)
        if call is not None:
            self._wire.grant(call.lane, granted)

    def _on_ping(self, frame: Frame) -> None:
        asked = messages.parse_ping(frame.body)
        self._wire.put(messages.pong(frame.call, asked, int(self._clock.now() * 1e6)))
        self._on_pinged()

    def _find(self, frame: Frame) -> ServedCall | None:
        """The call; None when it is over, for such frames crossed with our last one."""
        if frame.call > self._last:
            raise PeerMisbehaved("call_id", f"a {frame.kind.name} frame for call {frame.call}, which was never made")
        return self._calls.get(frame.call)

    def _on_time(self, call: ServedCall) -> None:
        """The answer takes its time: say that the call was admitted, and then wait for the deadline."""
        left = call.timeout_s - ACCEPT_S
        if left <= 0:
            self._expire(call)
            return
        if not call.spoke:
            self._wire.put(encode(Kind.ACCEPTED, call.id))
        call.timer = self._loop.call_later(left, self._expire, call)

    def _expire(self, call: ServedCall) -> None:
        self._fail(call, "expired", f"no answer within {call.timeout_s:g} s")

    async def _run(self, call: ServedCall) -> None:
        try:
            if call.plain_bytes:
                await self._unpack(call)
            reply = await self._handlers[call.method](call)
            await self._answer(call, reply)
        except asyncio.CancelledError:
            self._fail(call, "failed", f"the handler of {call.method} was cancelled")
            raise
        except CallFailed as failure:
            after_s = failure.retry_after_s
            self._fail(call, failure.kind, failure.message, retryable=failure.retryable, retry_after_s=after_s)
        except PeerMisbehaved as fault:
            self._fail(call, "protocol", f"{fault.rule}: {fault.what}")
            self._on_fault(fault)
        except Exception as failure:  # a fault of ours: the peer is told that, the log why
            log.exception("a handler failed", method=call.method, peer=call.peer)
            self._fail(call, "failed", f"{type(failure).__name__} in the handler of {call.method}")
        else:
            self._end(call)

    async def _unpack(self, call: ServedCall) -> None:
        data = call.body
        call.body = await packing.unpacked(data, call.plain_bytes)
        self._wire.bytes_saved += len(call.body) - len(data)

    async def _pack(self, call: ServedCall, reply: Reply) -> tuple[bytes, int]:
        """What travels for the reply's body, and the body's size if that is something else."""
        if not self._pack_over or len(reply.body) <= self._pack_over or call.method == messages.SEALED:
            return reply.body, 0
        data = await packing.packed(reply.body)
        if data is None:
            return reply.body, 0
        self._wire.bytes_saved += len(reply.body) - len(data)
        return data, len(reply.body)

    async def _answer(self, call: ServedCall, reply: Reply) -> None:
        body, plain_bytes = await self._pack(call, reply)
        if call.over:
            return
        call.spoke = True
        if len(reply.body) > self._theirs.max_body_bytes:
            limit = self._theirs.max_body_bytes
            raise CallFailed(
                "invalid", f"an answer of {len(reply.body)} bytes; the caller takes {limit}", retryable=False
            )
        head = messages.result_head(reply.header, len(body), plain_bytes)
        inline = messages.fits(head, body)
        frame = messages.with_head(Kind.RESULT, call.id, head, body if inline else b"")
        if inline and call.lane.empty:
            self._wire.put(frame)
            return
        self._wire.add(call.lane, None, frame)
        if not inline:
            self._wire.add(call.lane, Kind.BODY, memoryview(body))
        await call.sent()

    def _fail(
        self, call: ServedCall, kind: str, message: str, *, retryable: bool = False, retry_after_s: float = 0.0
    ) -> None:
        if not call.over:
            self._wire.put(messages.error(call.id, kind, message, retryable=retryable, retry_after_s=retry_after_s))
            self._end(call)

    def _end(self, call: ServedCall) -> None:
        if call.over:
            return
        call.over = True
        del self._calls[call.id]
        self._budget.release(call.reserved)
        call.lane.drop()
        call.lane.emptied()
        if call.timer is not None:
            call.timer.cancel()
        if call.task is not None and call.task is not asyncio.current_task():
            call.task.cancel()
