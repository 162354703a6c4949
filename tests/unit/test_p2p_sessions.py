"""One real side of a stream against a raw one that follows the rules, or breaks them."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from mesh.errors import PeerMisbehaved
from mesh.p2p import messages
from mesh.p2p.calls import CallFailed, Reply
from mesh.p2p.frames import HEADER, Kind
from mesh.p2p.memory_link import memory_stream
from mesh.p2p.messages import ErrorBody, Hello
from mesh.p2p.session import HANDSHAKE_S, SessionRefused
from tests.kit.peer_nodes import echo, until
from tests.kit.wire_pair import RawEnd, answering, asking, hello

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def served(handlers=None, **limits):
    """A raw opener against a real acceptor; yields the raw end, the session, and the task that runs it."""
    near, far = memory_stream()
    session = answering(far, hello(**limits), {"echo": echo, **(handlers or {})})
    task = asyncio.create_task(session.run())
    try:
        yield RawEnd(near), session, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if session.end is not None:
            await session.end.close()
        await hang_up(near)


@asynccontextmanager
async def asked():
    """A real opener against a raw acceptor."""
    near, far = memory_stream()
    session = asking(near, hello())
    task = asyncio.create_task(session.run())
    try:
        yield RawEnd(far), session, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if session.end is not None:
            session.end.close("over")
        await hang_up(far)


async def hang_up(end):
    end.writer.close()
    await asyncio.sleep(0.01)


async def breaks(rule, raw, task):
    """The session ends by the peer's fault, and the peer is told before the stream closes."""
    with pytest.raises(PeerMisbehaved) as caught:
        await asyncio.wait_for(task, 5)
    assert caught.value.rule == rule, caught.value
    frame = await raw.frame()
    while frame is not None and (frame.kind, frame.call) != (Kind.ERROR, 0):
        frame = await raw.frame()
    assert frame is not None
    error = messages.parse(ErrorBody, frame.body, 4096)
    assert error.kind == "protocol"
    assert error.message.startswith(rule)
    assert await raw.frame() is None


async def test_the_acceptor_answers_hello_and_serves():
    async with served() as (raw, session, _):
        raw.greet()
        (answer,) = await raw.expect(Kind.HELLO)
        assert messages.parse(Hello, answer.body, 4096).versions == [1]
        assert session.usable
        raw.request(1, body=b"hi")
        (result,) = await raw.expect(Kind.RESULT)
        assert messages.parse_head(messages.ResultHead, result.body)[1] == b"hi"


async def test_a_call_that_takes_its_time_is_acknowledged_and_a_quick_one_is_not():
    async def slow(call):
        await asyncio.sleep(0.2)
        return Reply({})

    async with served({"slow": slow}) as (raw, _, _):
        raw.greet()
        raw.request(1, "slow")
        raw.request(2)
        frames = await raw.expect(Kind.HELLO, Kind.RESULT, Kind.ACCEPTED, Kind.RESULT)
        assert [frame.call for frame in frames] == [0, 2, 1, 1]
        assert frames[2].body == b""


async def test_a_peer_that_asks_and_closes_is_no_fault():
    async with served() as (raw, _, task):
        raw.greet()
        raw._end.writer.close()
        assert "closed" in await asyncio.wait_for(task, 5)


async def test_no_hello_in_time_is_refused():
    async with served() as (raw, _, task):
        raw.write(messages.hello(hello())[:20])
        started = asyncio.get_running_loop().time()
        with pytest.raises(SessionRefused) as caught:
            await task
        assert caught.value.rule == "handshake"
        assert asyncio.get_running_loop().time() - started == pytest.approx(HANDSHAKE_S, abs=0.1)


@pytest.mark.parametrize(("theirs", "rule"), [({"mesh": "other"}, "mesh"), ({"versions": [2, 3]}, "version")])
async def test_another_mesh_or_version_is_refused_and_told_why(theirs, rule):
    async with served() as (raw, _, task):
        raw.write(messages.hello(hello().model_copy(update=theirs)))
        with pytest.raises(SessionRefused) as caught:
            await task
        assert caught.value.rule == rule
        (error,) = await raw.expect(Kind.ERROR)
        assert messages.parse(ErrorBody, error.body, 4096).kind == "refused"


@pytest.mark.parametrize(
    ("rule", "bytes_"),
    [
        ("hello", HEADER.pack(9, Kind.PING, 1)),
        ("hello", messages.hello(hello()) * 2),
        ("malformed", HEADER.pack(11, Kind.HELLO, 0) + b"{}"),
        ("json_too_large", HEADER.pack(9 + 5000, Kind.HELLO, 0) + b" " * 5000),
        ("frame_too_large", b"\xff\xff\xff\xff"),
        ("frame_too_short", bytes(13)),
        ("unknown_kind", HEADER.pack(9, 99, 0)),
        ("frame_too_large", b"GET / HTTP/1.1\r\n\r\n"),
    ],
)
async def test_a_bad_beginning_is_misbehaviour(rule, bytes_):
    async with served() as (raw, _, task):
        raw.write(bytes_)
        await breaks(rule, raw, task)


def no(kind, call, body=b""):
    return lambda raw: raw.say(kind, call, body)


@pytest.mark.parametrize(
    ("rule", "deeds"),
    [
        ("wrong_direction", [no(Kind.ACCEPTED, 1)]),
        ("wrong_direction", [no(Kind.PONG, 1, bytes(16))]),
        ("call_id", [lambda raw: raw.request(5), lambda raw: raw.request(5)]),
        ("call_id", [lambda raw: raw.request(5), lambda raw: raw.request(4)]),
        ("call_id", [no(Kind.CREDIT, 1, b"\0\0\0\1")]),
        ("call_id", [no(Kind.CANCEL, 1)]),
        ("call_id", [lambda raw: raw.request(0)]),
        ("malformed", [lambda raw: raw.request(1, body_bytes=9), no(Kind.CREDIT, 1, b"")]),
        ("malformed", [lambda raw: raw.request(1, body_bytes=9), no(Kind.CANCEL, 1, b"x")]),
        ("malformed", [no(Kind.PING, 1, b"")]),
        ("malformed", [no(Kind.REQUEST, 1, b"\0\0\0\2[]")]),
        ("body_overrun", [lambda raw: raw.request(1, body=b"12345", body_bytes=4)]),
        ("body_overrun", [lambda raw: raw.request(1, body_bytes=4), no(Kind.BODY, 1, b"12345")]),
        ("body_overrun", [lambda raw: raw.request(1, "wait"), no(Kind.BODY, 1, b"1")]),
        ("over_credit", [lambda raw: raw.request(1, body_bytes=9000), no(Kind.BODY, 1, bytes(5000))]),
        (
            "credit_overflow",
            [lambda raw: raw.request(1, body_bytes=9), *[no(Kind.CREDIT, 1, b"\xff\xff\xff\xff")] * 2],
        ),
        ("wrong_direction", [no(Kind.ERROR, 1, b'{"kind":"x"}')]),
    ],
)
async def test_the_acceptor_names_the_rule_that_was_broken(rule, deeds):
    async def wait(call):
        await asyncio.Event().wait()

    async with served({"wait": wait}, window_bytes=4096) as (raw, _, task):
        raw.greet()
        for deed in deeds:
            deed(raw)
        await breaks(rule, raw, task)


@pytest.mark.parametrize(
    ("rule", "deeds"),
    [
        ("order", [no(Kind.BODY, 1, b"x")]),
        ("order", [no(Kind.CHUNK, 1, b"x"), no(Kind.ACCEPTED, 1)]),
        ("order", [no(Kind.ACCEPTED, 1), no(Kind.ACCEPTED, 1)]),
        ("order", [no(Kind.ACCEPTED, 1), no(Kind.BODY, 1, b"x")]),
        ("credit_overflow", [no(Kind.CREDIT, 1, b"\xff\xff\xff\xff")]),
        ("order", [no(Kind.ACCEPTED, 1), no(Kind.RESULT, 1, b'\0\0\0\x10{"body_bytes":9}'), no(Kind.CHUNK, 1, b"x")]),
        ("malformed", [no(Kind.ACCEPTED, 1, b"x")]),
        ("malformed", [no(Kind.ACCEPTED, 1), no(Kind.RESULT, 1, b"")]),
        ("malformed", [no(Kind.ERROR, 1, b"{}")]),
        ("body_overrun", [no(Kind.ACCEPTED, 1), no(Kind.RESULT, 1, b'\0\0\0\x10{"body_bytes":1}22')]),
        ("body_too_large", [no(Kind.ACCEPTED, 1), no(Kind.RESULT, 1, b'\0\0\0\x17{"body_bytes":99999999}')]),
        ("over_credit", [no(Kind.ACCEPTED, 1), *[no(Kind.CHUNK, 1, bytes(60_000))] * 2]),
        ("call_id", [no(Kind.ACCEPTED, 2)]),
        ("call_id", [no(Kind.ERROR, 9, b'{"kind":"x"}')]),
        ("wrong_direction", [no(Kind.CANCEL, 1)]),
        ("wrong_direction", [no(Kind.PING, 1, bytes(8))]),
    ],
)
async def test_the_opener_names_the_rule_that_was_broken(rule, deeds):
    async def stuck(chunk):
        await asyncio.Event().wait()

    async with asked() as (raw, session, task):
        raw.greet()
        await until(lambda: session.usable)
        call = asyncio.create_task(session.end.call("echo", {}, b"", 60, stuck))
        await raw.expect(Kind.HELLO, Kind.REQUEST)
        for deed in deeds:
            deed(raw)
        await breaks(rule, raw, task)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


async def test_late_frames_of_calls_that_are_over_are_ignored_by_both():
    async with served() as (raw, session, _):
        raw.greet()
        raw.request(1)
        await raw.expect(Kind.HELLO, Kind.RESULT)
        raw.say(Kind.CANCEL, 1)
        raw.say(Kind.CREDIT, 1, b"\0\0\0\1")
        raw.say(Kind.BODY, 1, b"late")
        raw.say(Kind.PING, 8, bytes(8))
        (pong,) = await raw.expect(Kind.PONG)
        assert pong.call == 8
        assert session.usable
    async with asked() as (raw, session, _):
        raw.greet()
        await until(lambda: session.usable)
        with pytest.raises(CallFailed):
            await session.end.call("echo", {}, b"", 0.5, None)
        await raw.expect(Kind.HELLO, Kind.REQUEST, Kind.CANCEL)
        raw.say(Kind.ACCEPTED, 1)
        raw.say(Kind.RESULT, 1, b"\0\0\0\2{}")
        await asyncio.sleep(1)
        assert session.usable


async def test_the_opener_that_is_told_off_says_why_it_ended():
    async with asked() as (raw, _, task):
        raw.greet()
        raw.write(messages.error(0, "refused", "mesh: not here"))
        assert "mesh: not here" in await asyncio.wait_for(task, 5)


async def test_a_body_that_stops_arriving_is_given_up():
    async with served() as (raw, session, _):
        raw.greet()
        raw.request(1, body_bytes=5000, timeout_ms=600_000)
        raw.say(Kind.BODY, 1, b"some")
        await raw.expect(Kind.HELLO, Kind.ACCEPTED)
        for _ in range(15):
            await asyncio.sleep(1)
            session.end.give_up_stalled()
        (error,) = await raw.expect(Kind.ERROR)
        assert "4996 bytes are missing" in messages.parse(ErrorBody, error.body, 4096).message
        assert session.end.in_flight == 0


async def test_who_asks_and_never_reads_is_not_read_either():
    """What we owe a peer is bounded: it asks for pongs by the megabyte and takes none."""
    async with served() as (raw, session, task):
        raw.greet()
        await raw.expect(Kind.HELLO)
        raw._end.hold(True)
        ping = messages.ping(1, 1)
        for _ in range(200):
            raw.write(ping * 1000)
            await asyncio.sleep(0.001)
        assert session.wire.bytes_in < 2 << 20
        assert session.wire.owed_bytes < 2 << 20
        raw._end.hold(False)
        for _ in range(200_000):
            frame = await raw.frame()
            assert frame.kind is Kind.PONG
        assert not task.done()


async def test_the_acceptor_counts_for_itself_how_much_is_asked_of_it():
    async def wait(call):
        await asyncio.Event().wait()

    async with served({"wait": wait}, requests=3) as (raw, session, _):
        raw.greet()
        for call in range(1, 6):
            raw.request(call, "wait", timeout_ms=60_000)
        _, fourth, fifth = await raw.expect(Kind.HELLO, Kind.ERROR, Kind.ERROR)
        assert [fourth.call, fifth.call] == [4, 5]
        assert messages.parse(ErrorBody, fourth.body, 4096).kind == "overloaded"
        assert session.end.in_flight == 3
        raw.say(Kind.CANCEL, 2)
        await until(lambda: session.end.in_flight == 2, every=0)
        raw.request(6)
        (result,) = await raw.expect(Kind.RESULT)
        assert result.call == 6


async def test_the_acceptor_keeps_the_deadline_of_a_caller_that_does_not():
    cancelled = asyncio.Event()

    async def wait(call):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with served({"wait": wait}) as (raw, session, _):
        raw.greet()
        started = asyncio.get_running_loop().time()
        raw.request(1, "wait", timeout_ms=2000)
        error = (await raw.expect(Kind.HELLO, Kind.ACCEPTED, Kind.ERROR))[-1]
        assert messages.parse(ErrorBody, error.body, 4096).kind == "expired"
        assert asyncio.get_running_loop().time() - started == pytest.approx(2, abs=0.01)
        await cancelled.wait()
        assert session.end.in_flight == 0
