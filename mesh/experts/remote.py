"""Asking the experts of other nodes, and letting other nodes ask ours: ``expert.ask`` over calls between peers."""

from functools import partial
from typing import get_args

from pydantic import ValidationError

from mesh.errors import PeerMisbehaved
from mesh.events.journal import Journal
from mesh.events.vocabulary.network import PeerMisbehaved as Misbehaved
from mesh.experts.answers import tally, verify_answer
from mesh.experts.calls import RETRYABLE, Answer, AttemptFailed, Call, Emit, FailureKind, Passed
from mesh.experts.chat import decode_chat
from mesh.experts.ports import Calls, LocalAsk
from mesh.experts.wire import ASK, AnswerHeader, AskHeader, TextJoiner, answer_header, ask_header, chunks_of, explain
from mesh.p2p.calls import CallFailed, InboundCall, Reply


class RemoteExperts:
    """Other nodes' experts. What a peer answers counts only when its digest and its signature hold."""

    def __init__(self, calls: Calls, journal: Journal) -> None:
        self._calls = calls
        self._journal = journal

    async def ask(self, peer: str, call: Call, emit: Emit | None) -> Answer:
        """Let an expert of ``peer`` answer. Raises AttemptFailed; a breach of protocol is recorded as well."""
        try:
            return await self._ask(peer, call, emit)
        except PeerMisbehaved as fault:
            fact = Misbehaved(peer=peer, address="", rule=fault.rule, detail=fault.what)
            self._journal.emit(fact, subject=peer, correlation=call.request)
            raise AttemptFailed("protocol", fault.what) from fault
        except CallFailed as failure:
            raise _as_attempt(failure) from failure

    async def _ask(self, peer: str, call: Call, emit: Emit | None) -> Answer:
        held = call.held or emit is None
        joiner = TextJoiner(held=held)

        async def on_chunk(chunk: bytes) -> None:
            text = joiner.add(chunk)
            if text and emit is not None:
                await emit(text)

        reply = await self._calls.call(
            peer,
            ASK,
            ask_header(call, stream=emit is not None),
            call.content.encode() + call.chat.encode(),
            timeout=call.timeout_ms / 1000,
            on_chunk=on_chunk if emit is not None else None,
        )
        header = _header(reply)
        rest = joiner.add(reply.body, last=True)
        answer = _whole(header, joiner) if held else _passed(header, joiner)
        _check(peer, call, header, answer)
        if rest and not held and emit is not None:
            await emit(rest)
        return answer


def _header(reply: Reply) -> AnswerHeader:
    try:
        return AnswerHeader.model_validate(dict(reply.header))
    except ValidationError as error:
        raise PeerMisbehaved("answer_malformed", explain(error)) from None


def _whole(header: AnswerHeader, joiner: TextJoiner) -> Answer:
    return _answer(header, joiner.whole(header.skip_bytes), None)


def _passed(header: AnswerHeader, joiner: TextJoiner) -> Answer:
    if header.skip_bytes:
        raise AttemptFailed("failed", "the expert answers something else than it streams, and it was not held")
    return _answer(header, "", joiner.passed)


def _check(peer: str, call: Call, header: AnswerHeader, answer: Answer) -> None:
    """Whether this is what the peer signed."""
    if tally(answer).digest != header.digest:
        raise PeerMisbehaved("answer_digest", "the digest of the answer is not that of its text")
    if not verify_answer(
        peer,
        header.signature,
        request=call.request,
        expert=call.expert,
        model=header.model,
        digest=header.digest,
    ):
        raise PeerMisbehaved("answer_signature", "the signature of the answer is not the peer's")


def _answer(header: AnswerHeader, text: str, passed: Passed | None) -> Answer:
    return Answer(
        text=text,
        model=header.model,
        tokens_in=header.tokens_in,
        tokens_out=header.tokens_out,
        first_token_ms=header.first_token_ms,
        latency_ms=header.latency_ms,
        signature=header.signature,
        format=header.format,
        finish_reason=header.finish_reason,
        passed=passed,
    )


def _as_attempt(failure: CallFailed) -> AttemptFailed:
    """A failure of a kind that we do not know (a peer may raise anything) counts as one of its experts.

    Whether somebody else may be asked follows from the kind: a stranger has no veto.
    """
    for kind in get_args(FailureKind):
        if failure.kind == kind:
            retryable = failure.retryable or RETRYABLE[kind]
            return AttemptFailed(kind, failure.message, retryable=retryable, retry_after_s=failure.retry_after_s)
    return AttemptFailed("failed", f"{failure.kind}: {failure.message}")


def serve_experts(calls: Calls, local: LocalAsk) -> None:
    """Answer ``expert.ask`` with this node's experts."""
    calls.serve(ASK, partial(_serve, local))


async def _serve(local: LocalAsk, inbound: InboundCall) -> Reply:
    call, stream = _parse(inbound)
    sent = _Sent(inbound, stream=stream, held=call.held)
    try:
        answer = await local.ask(call, sent.piece, caller=inbound.peer)
    except AttemptFailed as failure:
        after_s = failure.retry_after_s
        raise CallFailed(failure.kind, failure.message, retryable=failure.retryable, retry_after_s=after_s) from failure
    skip, body = (0, b"") if answer.passed is not None else sent.rest_of(answer.text.encode())
    return Reply(answer_header(answer, tally(answer).digest, skip), body)


def _parse(inbound: InboundCall) -> tuple[Call, bool]:
    try:
        header = AskHeader.model_validate(dict(inbound.header))
        content, chat = _parts(inbound.body, header.chat_bytes)
    except ValidationError as error:
        raise CallFailed("invalid", explain(error), retryable=False) from None
    except UnicodeDecodeError as error:
        raise CallFailed("invalid", f"the content is not UTF-8: {error.reason}", retryable=False) from None
    except ValueError as error:
        raise CallFailed("invalid", f"the chat: {error}", retryable=False) from None
    if not content:
        raise CallFailed("invalid", "the content is empty", retryable=False)
    call = Call(
        request=header.request,
        expert=header.expert,
        domain=header.domain,
        content=content,
        timeout_ms=max(1, int(inbound.timeout_s * 1000)),
        options=header.options,
        chat=chat,
        task=header.task,
        keep=header.keep,
        held=not (header.pieces and header.stream),
    )
    return call, header.stream


def _parts(body: bytes, chat_bytes: int) -> tuple[str, str]:
    """Content and chat. Raises ValueError for what is not a chat."""
    if not chat_bytes:
        return body.decode(), ""
    if chat_bytes > len(body):
        raise ValueError(f"it is announced with {chat_bytes} bytes, the body has {len(body)}")
    chat = body[len(body) - chat_bytes :].decode()
    decode_chat(chat)
    return body[: len(body) - chat_bytes].decode(), chat


class _Sent:
    """What went to the caller ahead of the reply, and is kept for its end if ``held``."""

    def __init__(self, inbound: InboundCall, *, stream: bool, held: bool) -> None:
        self._inbound = inbound
        self._stream = stream
        self._held = held
        self._chunks: list[bytes] = []

    async def piece(self, text: str) -> None:
        if not self._stream:
            return
        try:
            chunks = chunks_of(text)
        except UnicodeEncodeError as error:
            raise AttemptFailed("failed", f"the expert streams what is not Unicode text: {error.reason}") from None
        for chunk in chunks:
            if self._held:
                self._chunks.append(chunk)
            await self._inbound.send(chunk)

    def rest_of(self, answer: bytes) -> tuple[int, bytes]:
        """What the reply must skip and hold, so that it makes the whole answer with what was sent."""
        sent = b"".join(self._chunks)
        if answer.startswith(sent):
            return 0, answer[len(sent) :]
        return len(sent), answer
