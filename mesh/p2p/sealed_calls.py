"""Calls whose method, header, body and answer are sealed from node to node: a layer above `Calling` and `Serving`.

On the wire each is a call of the method ``sealed`` with an empty header. What is large is sealed before, beside the
event loop, under a key of its own, which then travels in the small record that is bound to the number of the call.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import JsonValue

from mesh.errors import PeerMisbehaved
from mesh.p2p import messages
from mesh.p2p.calling import Calling
from mesh.p2p.calls import CallFailed, Handler, InboundCall, OnChunk, Reply
from mesh.p2p.messages import SealedRequest, SealedResult
from mesh.p2p.sealing import KEY_BYTES, Sealer, Seals
from mesh.p2p.serving import ServedCall

COVER = "cover"
MAX_COVER_BYTES = 64 * 1024
# Larger bodies are a record of their own.
_INLINE_BYTES = 64 * 1024
_CHUNK_BYTES = 32 * 1024
_MAX_CHUNK_RECORD_BYTES = 64 * 1024
_SIZE_BYTES = 4

S = TypeVar("S", SealedRequest, SealedResult)


class SealedCalling:
    """Makes sealed calls on a stream. ``delay`` gives the seconds that each waits, so that its time tells less."""

    def __init__(
        self,
        calling: Calling,
        seals: Seals,
        *,
        delay: Callable[[], float],
        on_fault: Callable[[PeerMisbehaved], None],
    ) -> None:
        self._calling = calling
        self._seals = seals
        self._delay = delay
        self._on_fault = on_fault

    async def call(
        self, method: str, header: Mapping[str, JsonValue], body: bytes, timeout: float, on_chunk: OnChunk | None
    ) -> Reply:
        """See `Calling.call`."""
        until = asyncio.get_running_loop().time() + timeout
        await _pause(self._delay())
        own = await _own_record(body)
        number = self._calling.next_call  # nothing may be awaited from here until the call has begun
        fields = {"method": method, "header": header, "body_key": own and own.key}
        try:
            content = messages.sealed_content(fields, b"" if own else body)
        except (TypeError, ValueError) as error:
            raise CallFailed("invalid", f"the header of the call cannot be sent: {error}") from error
        request = _parcel(self._seals.sealer("request", number), content, own)
        answer = _Answer(self._seals.sealer("answer", number), self._calling.limits.max_body_bytes, on_chunk)
        left = until - asyncio.get_running_loop().time()
        try:
            reply = await self._calling.call(messages.SEALED, {}, request, left, answer.on_chunk)
            return await answer.finish(reply)
        except PeerMisbehaved as fault:
            self._on_fault(fault)
            raise CallFailed("protocol", fault.what) from fault


class _Answer:
    """Opens the records of an answer as they come."""

    def __init__(self, opener: Sealer, limit: int, on_chunk: OnChunk | None) -> None:
        self._opener = opener
        self._limit = limit
        self._on_chunk = on_chunk
        self._rest = b""
        self._held: list[bytes] = []
        self._size = 0

    async def on_chunk(self, data: bytes) -> None:
        """More of the stream of records, cut anywhere. Raises PeerMisbehaved, CallFailed."""
        self._rest += data
        while (record := self._next()) is not None:
            content = self._opener.open(record, last=False)
            if self._on_chunk is not None:
                await self._on_chunk(content)
            else:
                self._hold(content)

    def _next(self) -> bytes | None:
        if len(self._rest) < _SIZE_BYTES:
            return None
        end = _SIZE_BYTES + int.from_bytes(self._rest[:_SIZE_BYTES], "big")
        if end > _MAX_CHUNK_RECORD_BYTES:
            raise PeerMisbehaved("seal", f"a sealed chunk of {end} bytes; the limit is {_MAX_CHUNK_RECORD_BYTES}")
        if len(self._rest) < end:
            return None
        record, self._rest = self._rest[_SIZE_BYTES:end], self._rest[end:]
        return record

    def _hold(self, content: bytes) -> None:
        self._size += len(content)
        if self._size > self._limit:
            raise CallFailed("invalid", f"the answer is over {self._limit} bytes")
        self._held.append(content)

    async def finish(self, reply: Reply) -> Reply:
        """What the last record says. Raises PeerMisbehaved, CallFailed."""
        if self._rest:
            raise PeerMisbehaved("seal", f"an answer ends in the middle of a record, after {len(self._rest)} bytes")
        result, body = await _opened(SealedResult, self._opener, reply.body)
        if result.error is not None:
            raise CallFailed(result.error.kind, result.error.message, retryable=result.error.retryable)
        return Reply(result.header, b"".join([*self._held, body]) if self._held else body)


class OpenedCall(InboundCall):
    """What was sealed in a call of the peer."""

    __slots__ = ("_outer", "_sealer")

    def __init__(self, outer: InboundCall, request: SealedRequest, body: bytes, sealer: Sealer) -> None:
        super().__init__(outer.peer, request.method, request.header, body, outer.timeout_s)
        self._outer = outer
        self._sealer = sealer

    async def send(self, chunk: bytes) -> None:
        """See `InboundCall.send`."""
        for start in range(0, len(chunk), _CHUNK_BYTES):
            record = self._sealer.seal(chunk[start : start + _CHUNK_BYTES], last=False)
            await self._outer.send(len(record).to_bytes(_SIZE_BYTES, "big") + record)


def sealed_handler(handlers: Mapping[str, Handler], seals: Seals, *, delay: Callable[[], float]) -> Handler:
    """What answers the method ``sealed`` on one stream, with the handlers of what is sealed in it."""

    async def handle(call: InboundCall) -> Reply:
        assert isinstance(call, ServedCall)
        request, body = await _opened(SealedRequest, seals.sealer("request", call.id), call.body)
        sealer = seals.sealer("answer", call.id)
        try:
            reply = await _answer(handlers, OpenedCall(call, request, body, sealer))
            fields: dict[str, object] = {"header": reply.header}
        except CallFailed as failure:
            reply, fields = Reply({}), {"error": _error(failure)}
        await _pause(delay())
        own = await _own_record(reply.body)
        content = messages.sealed_content({**fields, "body_key": own and own.key}, b"" if own else reply.body)
        return Reply({}, _parcel(sealer, content, own))

    return handle


async def _answer(handlers: Mapping[str, Handler], call: OpenedCall) -> Reply:
    if call.method == COVER:
        wanted = call.header.get("answer_bytes")
        size = wanted if isinstance(wanted, int) else 0
        return Reply({}, bytes(min(max(0, size), MAX_COVER_BYTES)))
    handler = handlers.get(call.method)
    if handler is None:
        raise CallFailed("unknown_method", f"{call.method!r} is not served here")
    return await handler(call)


def _error(failure: CallFailed) -> dict[str, object]:
    message = failure.message[: messages.MAX_MESSAGE_CHARS].encode(errors="replace").decode()
    return {"kind": failure.kind[:64] or "failed", "message": message, "retryable": failure.retryable}


class _OwnRecord:
    """A body that was sealed by itself, under a key that is used for nothing else."""

    def __init__(self, key: bytes, record: bytes) -> None:
        self.key = key.hex()
        self.record = record


async def _own_record(body: bytes) -> _OwnRecord | None:
    if len(body) <= _INLINE_BYTES:
        return None
    key = os.urandom(KEY_BYTES)
    return _OwnRecord(key, await asyncio.to_thread(Sealer(key).seal, body, last=True))


def _parcel(sealer: Sealer, content: bytes, own: _OwnRecord | None) -> bytes:
    """``u32 size | record | the body's own record``."""
    record = sealer.seal(content, last=True)
    return len(record).to_bytes(_SIZE_BYTES, "big") + record + (own.record if own else b"")


async def _opened(model: type[S], opener: Sealer, parcel: bytes) -> tuple[S, bytes]:
    """What a parcel holds, and the body. Raises PeerMisbehaved."""
    end = _SIZE_BYTES + int.from_bytes(parcel[:_SIZE_BYTES], "big")
    if len(parcel) < _SIZE_BYTES or end > len(parcel):
        raise PeerMisbehaved("seal", f"a record of {end} bytes in a sealed body of {len(parcel)}")
    head, inline = messages.parse_head(model, opener.open(parcel[_SIZE_BYTES:end], last=True))
    if head.body_key is None:
        if end != len(parcel):
            raise PeerMisbehaved("seal", f"{len(parcel) - end} bytes behind the last record")
        return head, inline
    own = Sealer(bytes.fromhex(head.body_key))
    return head, await asyncio.to_thread(own.open, parcel[end:], last=True)


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
