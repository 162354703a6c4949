"""Both sides of a stream against each other, in virtual time."""

import asyncio
import contextlib

import pytest

from mesh.p2p.calls import CallFailed, InboundCall, Reply
from mesh.p2p.credit import SHARED_BYTES, Budget
from tests.kit.peer_nodes import echo, until
from tests.kit.wire_pair import hello, pair

pytestmark = pytest.mark.looptime

MIB = 1 << 20


async def fails(kind, awaitable):
    with pytest.raises(CallFailed) as caught:
        await awaitable
    assert caught.value.kind == kind, caught.value
    return caught.value


class Gate:
    """A handler that waits, and remembers how it ended."""

    def __init__(self):
        self.started = 0
        self.cancelled = 0
        self.open = asyncio.Event()

    async def __call__(self, call: InboundCall) -> Reply:
        self.started += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Reply({"seen": True}, call.body)


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, 65537, MIB])
async def test_bodies_of_any_size_come_back(size):
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    async with pair({"echo": echo}) as (calling, serving, _):
        reply = await calling.call("echo", {"a": [1, None, "é"]}, body, 5, None)
        assert reply == Reply({"a": [1, None, "é"]}, body)
        await until(lambda: not serving.in_flight)
        assert calling.in_flight == 0


async def test_many_calls_at_a_time_get_each_their_own_answer():
    async def backwards(call: InboundCall) -> Reply:
        await asyncio.sleep(1 - int(call.header["n"]) / 100)
        return Reply({"n": call.header["n"]}, call.body)

    async with pair({"m": backwards}, server=hello(requests=100)) as (calling, _, _):
        replies = await asyncio.gather(*(calling.call("m", {"n": n}, b"%d" % n, 5, None) for n in range(100)))
        assert [(r.header["n"], r.body) for r in replies] == [(n, b"%d" % n) for n in range(100)]


async def test_chunks_arrive_in_order_before_the_reply():
    async def talk(call: InboundCall) -> Reply:
        for n in range(50):
            await call.send(b"%d," % n)
        await call.send(b"")
        return Reply({"done": 1}, b"")

    got = []

    async def take(chunk):
        got.append(chunk)

    async with pair({"talk": talk}) as (calling, _, _):
        reply = await calling.call("talk", {}, b"", 5, take)
        assert (reply.header, reply.body) == ({"done": 1}, b"")
        assert b"".join(got) == b"".join(b"%d," % n for n in range(50))
        whole = await calling.call("talk", {}, b"", 5, None)
        assert whole.body == b"".join(got)


async def test_a_slow_taker_holds_the_speaker_back():
    sent = 0

    async def flood(call: InboundCall) -> Reply:
        nonlocal sent
        for _ in range(200):
            await call.send(bytes(10_000))
            sent += 10_000
        return Reply({}, b"")

    taking, got = asyncio.Event(), 0

    async def take(chunk):
        nonlocal got
        await taking.wait()
        got += len(chunk)

    async with pair({"flood": flood}, asker=hello(window_bytes=50_000)) as (calling, _, _):
        call = asyncio.create_task(calling.call("flood", {}, b"", 60, take))
        await asyncio.sleep(5)
        assert sent <= 50_000
        assert got == 0
        taking.set()
        await call
        assert got == sent == 2_000_000


async def test_a_call_without_credit_does_not_hold_up_the_others():
    async def flood(call: InboundCall) -> Reply:
        await call.send(bytes(MIB))
        return Reply({}, b"")

    stuck = asyncio.Event()

    async def take(chunk):
        await stuck.wait()

    async with pair({"flood": flood, "echo": echo}) as (calling, _, _):
        slow = asyncio.create_task(calling.call("flood", {}, b"", 60, take))
        await asyncio.sleep(1)
        for n in range(20):
            assert (await calling.call("echo", {"n": n}, b"x" * 5000, 1, None)).header == {"n": n}
        assert not slow.done()
        stuck.set()
        await slow


async def test_a_64_mib_body_and_small_calls_share_the_stream():
    """While the body is under way, each small call is over before a few more frames of the body have passed."""
    arrived = 0

    async def swallow(call: InboundCall) -> Reply:
        return Reply({"size": len(call.body)}, b"")

    big = hello(max_body_bytes=64 * MIB)
    async with pair({"swallow": swallow, "echo": echo}, server=big) as (calling, serving, _):
        bulk = asyncio.create_task(calling.call("swallow", {}, bytes(64 * MIB), 60, None))
        await until(lambda: serving.in_flight, every=0)
        passed = []
        while not bulk.done():
            before = _missing(serving)
            await calling.call("echo", {}, b"x" * 1000, 5, None)
            passed.append(before - _missing(serving))
            arrived += 1
        assert (await bulk).header == {"size": 64 * MIB}
        assert arrived > 50
        passed.sort()
        assert passed[int(len(passed) * 0.99)] <= MIB // 2


@pytest.mark.parametrize("way", ["there", "back"])
async def test_a_body_gives_way_to_small_calls_and_has_its_window_back_when_they_end(way):
    """In virtual time every trip takes the same, so that what passes of the body in one is what was under way."""
    trip_s, window = 0.002, 4 * SHARED_BYTES

    async def large(call: InboundCall) -> Reply:
        return Reply({}, bytes(32 * MIB) if way == "back" else b"")

    big = hello(max_body_bytes=32 * MIB, window_bytes=window)
    ends = pair({"large": large, "echo": echo}, asker=big, server=big, latency_s=trip_s / 2)
    async with ends as (asking, serving, _):
        end = serving if way == "there" else asking

        def missing():
            return sum(call.missing for call in end._calls.values())

        async def passed(meanwhile):
            before = missing()
            await meanwhile
            return before - missing()

        async def trip():
            await asyncio.sleep(trip_s)

        async def small():
            await asking.call("echo", {}, b"small", 5, None)

        bulk = asyncio.create_task(asking.call("large", {}, bytes(32 * MIB) if way == "there" else b"", 60, None))
        await until(missing, every=trip_s)
        assert window // 2 <= await passed(trip()) <= window
        await small()
        await small()
        beside = [await passed(small()) for _ in range(50)]
        assert min(beside) > 0
        assert max(beside) <= SHARED_BYTES
        await asyncio.sleep(0.11)
        assert window // 2 <= await passed(trip()) <= window
        await bulk


def _missing(serving):
    return sum(call.missing for call in serving._calls.values() if call.method == "swallow")


async def test_cancelling_the_caller_cancels_the_handler():
    gate = Gate()
    async with pair({"wait": gate}) as (calling, serving, _):
        call = asyncio.create_task(calling.call("wait", {}, b"", 60, None))
        await until(lambda: gate.started)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: gate.cancelled == 1)
        await until(lambda: not serving.in_flight)
        assert calling.in_flight == 0


async def test_the_deadline_is_kept_by_both_sides():
    gate = Gate()
    async with pair({"wait": gate}) as (calling, serving, _):
        started = asyncio.get_running_loop().time()
        await fails("expired", calling.call("wait", {}, b"", 2, None))
        assert asyncio.get_running_loop().time() - started == pytest.approx(2, abs=0.05)
        await until(lambda: gate.cancelled == 1)
        await until(lambda: not serving.in_flight)


async def test_the_server_keeps_the_deadline_even_when_the_caller_is_silent():
    gate = Gate()
    async with pair({"wait": gate}) as (calling, serving, link):
        call = asyncio.create_task(calling.call("wait", {}, b"", 2, None))
        await until(lambda: gate.started)
        link.hold(True)
        await asyncio.sleep(3)
        assert gate.cancelled == 1
        assert serving.in_flight == 0
        await fails("expired", call)


async def test_the_time_that_is_left_reaches_the_handler():
    async def tell(call: InboundCall) -> Reply:
        return Reply({"timeout_s": call.timeout_s, "peer": call.peer, "method": call.method}, b"")

    async with pair({"tell": tell}) as (calling, _, _):
        reply = await calling.call("tell", {}, b"", 1.25, None)
        assert reply.header == {"timeout_s": 1.25, "peer": "asker", "method": "tell"}
        await fails("expired", calling.call("tell", {}, b"", 0, None))


async def test_what_handlers_raise_reaches_the_caller():
    async def picky(call: InboundCall) -> Reply:
        raise CallFailed("too_spicy", "no, thank you", retryable=True)

    async with pair({"picky": picky}) as (calling, serving, _):
        failure = await fails("too_spicy", calling.call("picky", {}, b"", 5, None))
        assert (failure.message, failure.retryable) == ("no, thank you", True)
        failure = await fails("unknown_method", calling.call("nobody", {}, b"x" * 100_000, 5, None))
        assert failure.retryable
        assert serving.in_flight == 0


async def test_a_handler_with_a_fault_fails_its_call_only(capsys):
    async def faulty(call: InboundCall) -> Reply:
        raise ZeroDivisionError("secret detail")

    async def unsayable(call: InboundCall) -> Reply:
        return Reply({"x": object()}, b"")

    async with pair({"faulty": faulty, "unsayable": unsayable, "echo": echo}) as (calling, _, _):
        failure = await fails("failed", calling.call("faulty", {}, b"", 5, None))
        assert "ZeroDivisionError" in failure.message
        assert "secret" not in failure.message
        await fails("failed", calling.call("unsayable", {}, b"", 5, None))
        assert (await calling.call("echo", {}, b"x", 5, None)).body == b"x"
    assert "secret detail" in capsys.readouterr().out


async def test_too_many_calls_are_answered_overloaded_and_others_go_on():
    gate = Gate()
    async with pair({"wait": gate}, asker=hello(), server=hello(requests=3)) as (calling, serving, _):
        waiting = [asyncio.create_task(calling.call("wait", {}, b"", 60, None)) for _ in range(3)]
        await until(lambda: gate.started == 3)
        failure = await fails("overloaded", calling.call("wait", {}, b"", 60, None))
        assert failure.retryable
        gate.open.set()
        assert len(await asyncio.gather(*waiting)) == 3
        await until(lambda: not serving.in_flight)
        await calling.call("wait", {}, b"", 60, None)


async def test_no_room_for_a_body_is_overloaded_until_there_is_again():
    gate, budget = Gate(), Budget(150_000)
    async with pair({"wait": gate}, budget=budget) as (calling, _, _):
        first = asyncio.create_task(calling.call("wait", {}, bytes(100_000), 60, None))
        await until(lambda: gate.started == 1)
        await fails("overloaded", calling.call("wait", {}, bytes(100_000), 60, None))
        gate.open.set()
        await first
        assert len((await calling.call("wait", {}, bytes(100_000), 60, None)).body) == 100_000
    assert budget.used == 0


async def test_what_is_too_large_fails_before_it_is_sent():
    async def huge(call: InboundCall) -> Reply:
        return Reply({}, bytes(2 * MIB))

    async with pair({"echo": echo, "huge": huge}) as (calling, serving, _):
        await fails("invalid", calling.call("echo", {}, bytes(MIB + 1), 5, None))
        await fails("invalid", calling.call("echo", {"x": "y" * 20_000}, b"", 5, None))
        await fails("invalid", calling.call("echo", {"x": object()}, b"", 5, None))
        await fails("invalid", calling.call("huge", {}, b"", 5, None))
        assert serving.in_flight == 0


async def test_small_frames_of_the_peer_are_respected():
    async with pair({"echo": echo}, server=hello(max_frame_bytes=4096)) as (calling, _, _):
        assert (await calling.call("echo", {}, bytes(100_000), 5, None)).body == bytes(100_000)
        await fails("invalid", calling.call("echo", {"x": "y" * 5000}, b"", 5, None))


async def test_losing_the_stream_fails_what_is_in_flight_at_once_and_cancels_handlers():
    gate = Gate()
    async with pair({"wait": gate}) as (calling, serving, link):
        calls = [asyncio.create_task(calling.call("wait", {}, b"", 60, None)) for _ in range(5)]
        await until(lambda: gate.started == 5)
        calling.close("the connection was lost")
        for call in calls:
            assert "connection was lost" in (await fails("disconnected", call)).message
        await fails("disconnected", calling.call("wait", {}, b"", 60, None))
        await serving.close()
        assert gate.cancelled == 5
        assert serving.in_flight == 0
        del link


async def test_a_handler_that_sends_after_the_call_is_over_is_told():
    result = asyncio.get_running_loop().create_future()

    async def stubborn(call: InboundCall) -> Reply:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        try:
            await call.send(b"late")
        except CallFailed as failure:
            result.set_result(failure.kind)
        return Reply({}, b"late")

    async with pair({"stubborn": stubborn}) as (calling, serving, _):
        await fails("expired", calling.call("stubborn", {}, b"", 1, None))
        assert await result == "cancelled"
        await until(lambda: not serving.in_flight)
        await fails("unknown_method", calling.call("x", {}, b"", 1, None))


async def test_a_taker_that_raises_cancels_the_call():
    gate = Gate()

    async def talk(call: InboundCall) -> Reply:
        await call.send(b"one")
        return await gate(call)

    async def picky(chunk):
        raise ValueError("not this one")

    async with pair({"talk": talk}) as (calling, _, _):
        with pytest.raises(ValueError, match="not this one"):
            await calling.call("talk", {}, b"", 5, picky)
        await until(lambda: gate.cancelled == 1)


async def test_a_stuck_taker_does_not_outlive_the_deadline():
    async def talk(call: InboundCall) -> Reply:
        await call.send(b"one")
        return Reply({}, b"")

    async def never(chunk):
        await asyncio.Event().wait()

    async with pair({"talk": talk}) as (calling, _, _):
        await fails("expired", calling.call("talk", {}, b"", 1, never))


async def test_answers_are_bounded_in_sum():
    async def talk(call: InboundCall) -> Reply:
        for _ in range(30):
            await call.send(bytes(50_000))
        return Reply({}, b"")

    async with pair({"talk": talk, "echo": echo}) as (calling, serving, _):
        await fails("invalid", calling.call("talk", {}, b"", 5, None))  # over 1 MiB, and nobody takes chunks
        await until(lambda: not serving.in_flight)
        assert calling._budget.used == 0
        assert (await calling.call("echo", {}, b"x", 5, None)).body == b"x"


async def test_a_small_call_passes_where_large_ones_have_taken_all_the_room():
    gate = Gate()
    room = Budget(100_000)
    async with pair({"wait": gate, "echo": echo}, budget=room) as (calling, _, _):
        calling._budget = Budget(100_000)
        large = asyncio.create_task(calling.call("wait", {}, bytes(100_000), 60, None))
        await until(lambda: gate.started)
        assert room.used == 100_000
        await fails("overloaded", calling.call("echo", {}, bytes(4097), 5, None))
        assert (await calling.call("echo", {}, b"small" * 800, 5, None)).body == b"small" * 800
        gate.open.set()
        assert len((await large).body) == 100_000
        assert (await calling.call("echo", {}, bytes(4097), 5, None)).body == bytes(4097)
        assert room.used == calling._budget.used == 0


async def test_a_small_answer_passes_while_a_large_one_fills_the_room():
    async def halves(call: InboundCall) -> Reply:
        await call.send(bytes(50_000))
        await asyncio.sleep(10)
        return Reply({}, bytes(10_000))

    async with pair({"halves": halves, "echo": echo}) as (calling, _, _):
        calling._budget = Budget(50_000)
        large = asyncio.create_task(calling.call("halves", {}, b"", 60, None))
        await until(lambda: calling._budget.used == 50_000)
        assert (await calling.call("echo", {}, bytes(4000), 5, None)).body == bytes(4000)
        await fails("overloaded", large)
        assert calling._budget.used == 0
