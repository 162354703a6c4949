"""Whatever bytes a peer sends: a value or PeerMisbehaved, and never anything else."""

import asyncio
import itertools
import json
import random
from collections.abc import Callable
from functools import partial

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.errors import PeerMisbehaved
from mesh.p2p import messages
from mesh.p2p.calls import CallFailed, Reply
from mesh.p2p.frames import HEADER, OVERHEAD, Decoder, Frame, Kind, encode
from mesh.p2p.memory_link import memory_stream
from mesh.p2p.messages import ErrorBody, Hello, RequestHead, ResultHead, SealedRequest, SealedResult
from mesh.p2p.packing import unpack
from mesh.p2p.sealed_calls import _opened as opened_parcel
from mesh.p2p.sealing import Sealer
from tests.kit.peer_nodes import echo
from tests.kit.wire_pair import answering, asking, hello

MAX_BODY = 4096
TEXT = b"as often as you like, " * 300
PACKED = zstandard.ZstdCompressor(level=1).compress(TEXT)
FUZZED = 100_000
KEY = bytes(range(32))

PARSERS: tuple[Callable[[bytes], object], ...] = (
    lambda raw: messages.parse(Hello, raw, messages.MAX_HELLO_BYTES),
    lambda raw: messages.parse_head(RequestHead, raw),
    lambda raw: messages.parse_head(ResultHead, raw),
    lambda raw: messages.parse(ErrorBody, raw, messages.MAX_ERROR_BYTES),
    lambda raw: messages.parse_head(SealedRequest, raw),
    lambda raw: messages.parse_head(SealedResult, raw),
    lambda raw: unpack(raw, 5000),
    messages.parse_credit,
    messages.parse_ping,
    messages.parse_pong,
)
GOOD = (
    messages.hello(hello()),
    messages.with_head(Kind.REQUEST, 1, messages.request_head("echo", 1000, {"a": [1, "é", None]}, 2), b"hi"),
    messages.with_head(Kind.RESULT, 1, messages.result_head({"b": {"c": 1.5}}, 0)),
    messages.error(1, "failed", "why", retryable=True),
    messages.with_head(
        Kind.REQUEST,
        1,
        messages.request_head("echo", 1000, {}, len(PACKED), len(TEXT)),
        PACKED,
    ),
    encode(Kind.BODY, 1, PACKED),
    encode(Kind.CHUNK, 1, messages.sealed_content({"method": "echo", "body_key": "ab" * 32}, b"body")),
    encode(Kind.CHUNK, 1, messages.sealed_content({"error": {"kind": "failed", "retryable": True}}, b"")),
    messages.credit(1, 1000),
    messages.ping(1, 2),
    messages.pong(1, 2, 3),
    encode(Kind.CHUNK, 1, b"chunk"),
    encode(Kind.BODY, 1, b"body"),
    encode(Kind.ACCEPTED, 1),
    encode(Kind.CANCEL, 1),
)

frames = st.builds(Frame, st.sampled_from(Kind), st.integers(0, (1 << 64) - 1), st.binary(max_size=200))


def judge(data: bytes, cuts: list[int]) -> list[Frame] | PeerMisbehaved:
    """Decode and parse as a peer would, in pieces."""
    decoder, out = Decoder(MAX_BODY), []
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for start, end in itertools.pairwise(places):
            for frame in decoder.feed(data[start:end]):
                out.append(frame)
                for parser in PARSERS:
                    parse_or_blame(parser, frame.body)
    except PeerMisbehaved as error:
        return error
    return out


def parse_or_blame(parser: Callable[[bytes], object], raw: bytes) -> object:
    try:
        return parser(raw)
    except PeerMisbehaved as error:
        if not error.rule or len(error.what) > 600:
            raise AssertionError(f"unbounded or nameless: {error!r}") from error
        return error


def mutated(rng: random.Random) -> bytes:
    """A few good frames, bent: bytes flipped, cut, doubled, moved, lengths and JSON replaced."""
    return mutated_from(rng, b"".join(rng.choices(GOOD, k=rng.randint(1, 4))))


def mutated_from(rng: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(rng.randint(0, 5)):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(6):
            case 0 if data:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randrange(20)]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(20))
            case 3:
                data[at:at] = rng.choice((b"\xff" * 9, b'{"', b"[" * 300, b"1e999", b"\\ud800", b"\0" * 5, b"NaN"))
            case 4:
                data[at:at] = data[: rng.randrange(40)]
            case _ if data:
                data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def test_a_hundred_thousand_bent_streams_give_frames_or_misbehaviour():
    rng = random.Random(20261122)
    outcomes = {"frames": 0, "blamed": 0}
    for _ in range(FUZZED):
        verdict = judge(mutated(rng), [rng.randrange(1 << 16) for _ in range(rng.randrange(4))])
        outcomes["blamed" if isinstance(verdict, PeerMisbehaved) else "frames"] += 1
    assert min(outcomes.values()) > FUZZED / 20, outcomes  # both ways are really taken


def test_bent_records_and_parcels_open_as_they_were_or_not_at_all():
    """What is sealed with the right key may hold anything; what was bent on the way must not open."""
    rng = random.Random(20261123)
    contents = [messages.sealed_content({"method": "echo", "header": {"n": 1}}, b"body"), b"", bytes(3), bytes(400)]
    outcomes = {"opened": 0, "blamed": 0}
    for _ in range(FUZZED // 5):
        content, last = mutated_from(rng, rng.choice(contents)), rng.random() < 0.5
        record = Sealer(KEY).seal(content, last=last)
        assert Sealer(KEY).open(record, last=last) == content
        bent = mutated_from(rng, record)
        verdict = parse_or_blame(partial(Sealer(KEY).open, last=last), bent)
        assert bent == record or isinstance(verdict, PeerMisbehaved)
        inner = asyncio_free(opened_parcel(SealedRequest, Sealer(KEY), len(record).to_bytes(4, "big") + record))
        outcomes["blamed" if isinstance(inner, PeerMisbehaved) else "opened"] += 1
    assert min(outcomes.values()) > 100, outcomes


def asyncio_free(coroutine) -> object:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    except PeerMisbehaved as fault:
        return fault
    coroutine.close()
    return None  # a body of its own, which is opened in a thread


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=4))
@example(b"\0\0\0\x09\x01" + bytes(8), [1, 2, 3])
def test_any_bytes_give_frames_or_misbehaviour(data, cuts):
    judge(data, cuts)


@settings(max_examples=300, deadline=None)
@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 2000), max_size=6))
def test_what_was_encoded_is_decoded_however_it_is_cut(sent, cuts):
    verdict = judge(b"".join(encode(*frame) for frame in sent), cuts)
    assert verdict == sent


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=10), json_values, max_size=6), st.binary(max_size=50))
def test_every_header_arrives_as_it_was_sent(header, body):
    try:
        head = messages.request_head("m", 1, header, len(body))
    except (TypeError, ValueError):
        return
    frame = Decoder(1 << 20).feed(messages.with_head(Kind.REQUEST, 1, head, body))[0]
    parsed, inline = messages.parse_head(RequestHead, frame.body)
    assert (json.dumps(parsed.header, sort_keys=True), inline) == (json.dumps(header, sort_keys=True), body)


plausible = st.one_of(
    st.sampled_from(GOOD),
    st.builds(encode, st.sampled_from(Kind), st.integers(0, 5), st.binary(max_size=60)),
    st.builds(
        lambda call, size, data: messages.with_head(
            Kind.REQUEST, call, messages.request_head("echo", 1000, {}, size), data
        ),
        st.integers(0, 5),
        st.integers(0, 40),
        st.binary(max_size=20),
    ),
    st.builds(
        lambda call, size, data: messages.with_head(Kind.RESULT, call, messages.result_head({}, size), data),
        st.integers(0, 5),
        st.integers(0, 40),
        st.binary(max_size=20),
    ),
    st.builds(lambda size: HEADER.pack(OVERHEAD + size, Kind.BODY, 1) + bytes(size), st.integers(0, 50)),
)


async def _let_it_work() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


async def _against(opener: bool, said: list[bytes]) -> BaseException | str | None:
    """Run one real side against what is said; returns how its session ended, None if it goes on."""
    near, far = memory_stream()
    late: list[PeerMisbehaved] = []
    more = {"on_fault": late.append, "pack_over": 1000}
    session = asking(near, hello(), **more) if opener else answering(near, hello(), {"echo": echo}, **more)
    task = asyncio.create_task(session.run())
    calls: list[asyncio.Task[Reply]] = []
    try:
        far.writer.write(messages.hello(hello()))
        await _let_it_work()
        if opener:
            calls = [asyncio.create_task(session.end.call("echo", {}, bytes(9000), 5, None)) for _ in range(3)]
            await _let_it_work()
        for data in said:
            far.writer.write(data)
            await _let_it_work()
        ended = None
        if task.done():
            ended = task.exception() or task.result()
        return ended
    finally:
        task.cancel()
        for call in calls:
            call.cancel()
        for outcome in await asyncio.gather(task, *calls, return_exceptions=True):
            assert isinstance(outcome, (str, Reply, CallFailed, PeerMisbehaved, asyncio.CancelledError)), repr(outcome)
        if opener:
            session.end.close("over")
        else:
            await session.end.close()
        far.writer.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("opener", [True, False], ids=["opener", "acceptor"])
@settings(max_examples=400, deadline=None)
@given(said=st.lists(plausible, max_size=8))
def test_no_sequence_of_frames_harms_a_session(opener, said):
    ended = asyncio.run(_against(opener, said))
    assert ended is None or isinstance(ended, (str, PeerMisbehaved)), repr(ended)
