"""The host of this node's experts: limits, deadlines, cancellation, availability, and its trail."""

import asyncio
import re

import pytest
import structlog

from mesh.config import ExpertConfig
from mesh.errors import ConfigError, JournalError, MeshError
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.experts import ExpertDeregistered, ExpertRegistered
from mesh.experts.answers import digest, verify_answer
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit
from mesh.experts.host import LocalExperts
from tests.kit.hosting import CALLER, NODE, call, expert_config, hangs, hosting, nowhere, takes
from tests.kit.loop_clock import LoopClock

pytestmark = pytest.mark.looptime


async def failure_of(asking) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        await asking
    return caught.value


async def settled() -> None:
    await asyncio.sleep(0.001)


async def test_an_answer_is_timed_signed_and_recorded():
    async with hosting(takes(2.0)) as host:
        answer = await host.ask(call("hello"))
    assert (answer.text, answer.model, answer.latency_ms, answer.first_token_ms) == ("hello", "test 1", 2000.0, 2000.0)
    assert verify_answer(
        NODE.peer_id, answer.signature, request="r1", expert="it", model="test 1", digest=digest("hello")
    )
    (served,) = host.served
    assert (served.request, served.caller, served.expert, served.outcome) == ("r1", CALLER, "it", "answered")
    assert (served.answer_bytes, served.answer_digest, served.latency_ms) == (5, digest("hello"), 2000.0)


async def test_where_an_expert_raised_is_logged_once_and_not_what_it_said_of_the_question():
    async def broken(call: Call, emit: Emit) -> Answer:
        raise KeyError(call.content)

    with structlog.testing.capture_logs() as logged:
        async with hosting(broken) as host:
            for _ in range(3):
                assert "KeyError: 'secret'" in (await failure_of(host.ask(call("secret")))).message
    (said,) = [entry for entry in logged if entry["log_level"] == "warning"]
    assert (said["event"], said["expert"], said["error"]) == ("an expert raised an error", "it", "KeyError")
    assert re.fullmatch(r".*test_local_experts\.py:\d+, in broken", said["where"])


async def test_law_2_no_answer_before_its_event_is_stored():
    class HeldBack(MemoryEventStore):
        gate = asyncio.Event()

        async def wait_stored(self, position: int) -> None:
            await self.gate.wait()
            await super().wait_stored(position)

    async with hosting(store=HeldBack(NODE.peer_id)) as host:
        asking = asyncio.create_task(host.ask(call()))
        await asyncio.sleep(10)
        assert len(host.served) == 1
        assert not asking.done()
        HeldBack.gate.set()
        assert (await asking).text == "hello"


async def test_a_request_of_the_nodes_own_waits_for_this_event_with_its_last():
    class NeverStored(MemoryEventStore):
        async def wait_stored(self, position: int) -> None:
            await asyncio.Event().wait()

    async with hosting(store=NeverStored(NODE.peer_id)) as host:
        async with asyncio.timeout(10):
            answer = await host.experts.ask(call(), nowhere, caller=NODE.peer_id)
        assert answer.text == "hello"
        await settled()
        assert [served.caller for served in host.served] == [NODE.peer_id]


async def test_a_failure_too_is_told_only_when_it_is_stored():
    async def breaks(_call: Call, _emit: Emit) -> str:
        raise KeyError("lost")

    async with hosting(breaks) as host:
        failure = await failure_of(host.ask(call()))
        assert host.journal.stored_position == host.journal.position
    assert (failure.kind, failure.message, failure.retryable) == ("failed", "KeyError: 'lost'", True)
    assert [served.outcome for served in host.served] == ["failed"]
    assert host.served[0].error == "failed: KeyError: 'lost'"


async def test_no_more_run_at_once_than_configured_and_they_begin_in_order():
    async with hosting(takes(1.0), concurrency=3, queue=20) as host:
        asked = [f"r{number}" for number in range(12)]
        await asyncio.gather(*(host.ask(call(request=request)) for request in asked))
        assert host.backend.most_running == 3
        assert host.backend.began == asked
        assert [round(served.queued_ms) for served in host.served] == [n // 3 * 1000 for n in range(12)]
        assert (host.experts.in_flight, host.experts.queued) == (0, 0)


async def test_overload_is_refused_at_once_recorded_and_retryable():
    async with hosting(takes(1.0), concurrency=1, queue=1) as host:
        asking = [asyncio.create_task(host.ask(call(request=f"r{n}"))) for n in range(2)]
        await settled()
        failure = await failure_of(host.ask(call(request="r9")))
        assert (failure.kind, failure.retryable) == ("overloaded", True)
        assert "queue of 1" in failure.message
        await asyncio.gather(*asking)
    assert [(served.request, served.outcome) for served in host.served] == [
        ("r9", "overloaded"),
        ("r0", "answered"),
        ("r1", "answered"),
    ]


async def test_the_deadline_stops_the_work():
    async with hosting(hangs) as host:
        failure = await failure_of(host.ask(call(timeout_ms=1500)))
        assert (failure.kind, host.backend.cancelled, host.experts.in_flight) == ("expired", 1, 0)
    assert [(served.outcome, served.latency_ms) for served in host.served] == [("expired", 1500.0)]


async def test_time_in_the_queue_counts():
    async with hosting(takes(1.0)) as host:
        first = asyncio.create_task(host.ask(call(request="r1")))
        await settled()
        failure = await failure_of(host.ask(call(request="r2", timeout_ms=500)))
        assert failure.kind == "expired"
        await first
        assert host.backend.began == ["r1"]
        assert (host.experts.in_flight, host.experts.queued) == (0, 0)


async def test_no_time_left_is_expired_without_work():
    async with hosting() as host:
        assert (await failure_of(host.ask(call(timeout_ms=0)))).kind == "expired"
        assert host.backend.began == []
    assert [served.outcome for served in host.served] == ["expired"]


async def test_cancelling_stops_the_work_and_waits_for_nothing():
    async with hosting(hangs) as host:
        asking = asyncio.create_task(host.ask(call()))
        await settled()
        before = asyncio.get_running_loop().time()
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled()
        assert asyncio.get_running_loop().time() == before
        await settled()
        assert (host.backend.cancelled, host.experts.in_flight) == (1, 0)
    assert [served.outcome for served in host.served] == ["cancelled"]


async def test_a_backend_that_will_not_stop_keeps_its_slot_and_delays_nobody():
    release = asyncio.Event()

    async def stubborn(_call: Call, _emit: Emit) -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    async with hosting(stubborn, queue=0) as host:
        assert (await failure_of(host.ask(call(timeout_ms=1000)))).kind == "expired"
        assert asyncio.get_running_loop().time() < 2.0
        assert host.experts.in_flight == 1
        assert (await failure_of(host.ask(call(request="r2")))).kind == "overloaded"
        release.set()
        await settled()
        assert host.experts.in_flight == 0


async def test_nothing_is_emitted_once_the_call_is_over():
    late: list[BaseException] = []

    async def chatters_on(_call: Call, emit: Emit) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.sleep(1)
                await emit("too late")
            except AttemptFailed as error:
                late.append(error)
        return ""

    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    async with hosting(chatters_on) as host:
        await failure_of(host.ask(call(timeout_ms=100), emit))
        await asyncio.sleep(5)
    assert (pieces, len(late)) == ([], 1)


async def test_emit_holds_the_expert_back():
    async def talks(_call: Call, emit: Emit) -> str:
        for piece in "abc":
            await emit(piece)
        return "abc"

    async def slow(_piece: str) -> None:
        await asyncio.sleep(1)

    async with hosting(talks) as host:
        assert (await host.ask(call(), slow)).latency_ms == 3000.0


async def test_a_caller_that_cannot_take_the_pieces_fails_the_call_with_its_own_reason():
    async def gone(_piece: str) -> None:
        raise AttemptFailed("disconnected", "the stream is closed")

    async with hosting() as host:
        assert (await failure_of(host.ask(call(), gone))).kind == "disconnected"
    assert [served.outcome for served in host.served] == ["failed"]


async def test_a_backend_that_cancels_itself_has_failed_not_been_cancelled():
    async def cancels_itself(_call: Call, _emit: Emit) -> str:
        raise asyncio.CancelledError

    async with hosting(cancels_itself) as host:
        assert (await failure_of(host.ask(call()))).kind == "failed"
    assert [served.outcome for served in host.served] == ["failed"]


async def test_text_that_is_not_unicode_is_a_failure():
    async def half(_call: Call, _emit: Emit) -> str:
        return "\ud800"

    async with hosting(half) as host:
        assert "not Unicode" in (await failure_of(host.ask(call()))).message
    assert [served.outcome for served in host.served] == ["failed"]


async def test_an_answer_without_end_is_cut_off():
    async def endless(_call: Call, emit: Emit) -> str:
        while True:
            await emit("x" * (1 << 20))

    async with hosting(endless) as host:
        assert "the limit is 8388608" in (await failure_of(host.ask(call()))).message
        host.backend.work = says_too_much
        assert "the limit is 8388608" in (await failure_of(host.ask(call(request="r2")))).message
    assert [served.outcome for served in host.served] == ["failed", "failed"]


async def says_too_much(_call: Call, _emit: Emit) -> str:
    return "é" * (5 << 20)


async def test_an_endless_complaint_still_fits_the_event():
    async def complains(_call: Call, _emit: Emit) -> str:
        raise AttemptFailed("invalid", "no " * 1_000_000)

    async with hosting(complains) as host:
        assert (await failure_of(host.ask(call()))).kind == "invalid"
    assert len(host.served[0].error) == 1000


async def test_an_unknown_expert_is_told_what_there_is():
    async with hosting() as host:
        failure = await failure_of(host.ask(call(expert="nobody")))
        assert (failure.kind, failure.message) == ("unknown_expert", "'nobody' is not served here; served: it")
    assert [(served.expert, served.outcome) for served in host.served] == [("nobody", "failed")]


async def test_offers_show_the_load():
    async with hosting(takes(1.0), concurrency=1, queue=5) as host:
        asking = [asyncio.create_task(host.ask(call(request=f"r{n}"))) for n in range(3)]
        await settled()
        (offer,) = host.experts.offers()
        assert (offer.peer, offer.expert, offer.model) == (NODE.peer_id, "it", "test 1")
        assert (offer.in_flight, offer.queued, offer.concurrency, offer.queue_limit) == (1, 2, 1, 5)
        assert (offer.available, offer.domains) == (True, ("language",))
        await asyncio.gather(*asking)


async def test_availability_follows_the_checks_and_is_announced():
    async with hosting() as host:
        assert host.changes == 1
        host.backend.problem = MeshError("the engine is off", remedy="Turn it on.")
        await asyncio.sleep(11)
        assert not host.experts.offers()[0].available
        assert host.experts.problems == {"it": "the engine is off. Turn it on."}
        assert host.changes == 2
        host.backend.problem = None
        await asyncio.sleep(11)
        assert host.experts.offers()[0].available
        assert (host.changes, host.experts.problems) == (3, {})


async def test_an_engine_found_unavailable_is_not_offered_until_a_check_finds_it_again():
    async def unreachable(_call: Call, _emit: Emit) -> str:
        raise AttemptFailed("unavailable", "connection refused")

    async with hosting(unreachable) as host:
        await failure_of(host.ask(call()))
        assert not host.experts.offers()[0].available
        await asyncio.sleep(11)
        assert host.experts.offers()[0].available


async def test_registered_and_deregistered_are_recorded():
    async with hosting(concurrency=2, queue=7) as host:
        pass
    registered, deregistered = host.facts
    assert registered == ExpertRegistered(
        expert="it", backend="python", model="test 1", domains=("language",), concurrency=2, queue_limit=7
    )
    assert deregistered == ExpertDeregistered(expert="it", reason="the node is stopping")
    assert [event.subject for event in host.events] == [NODE.peer_id] * 2
    assert host.experts.offers() == []
    assert not host.backend.started


async def test_an_expert_that_cannot_start_is_not_offered_and_tried_again():
    async with hosting() as host:
        other = type(host.backend)(host.backend.work)
        other.start_problem = MeshError("no weights", remedy="Install them.")
        experts = LocalExperts([expert_config()], NODE, host.journal, LoopClock(), make=lambda _: other)
        await experts.start()
        assert (experts.offers(), experts.problems) == ([], {"it": "no weights. Install them."})
        failure = await failure_of(experts.ask(call(), lambda _: asyncio.sleep(0), caller=CALLER))
        assert failure.kind == "unknown_expert"
        other.start_problem = None
        await asyncio.sleep(11)
        assert [offer.expert for offer in experts.offers()] == ["it"]
        await experts.stop()


async def test_stopping_ends_every_call_with_one_event():
    async with hosting(hangs, concurrency=1) as host:
        asking = [asyncio.create_task(host.ask(call(request=f"r{n}"))) for n in range(3)]
        await settled()
        await host.experts.stop()
        failures = await asyncio.gather(*asking, return_exceptions=True)
        assert [failure.kind for failure in failures] == ["unavailable"] * 3
        await settled()
    assert sorted(served.request for served in host.served) == ["r0", "r1", "r2"]
    assert (host.experts.in_flight, host.experts.queued) == (0, 0)


async def test_a_failed_journal_fails_the_call_and_leaves_no_slot_taken():
    async with hosting() as host:

        def refuse(_record: object) -> None:
            raise JournalError("the disk is full")

        host.store.append = refuse
        with pytest.raises(JournalError, match="disk is full"):
            await host.ask(call())
        assert host.experts.in_flight == 0
        del host.store.append


async def test_a_failed_journal_does_not_stop_a_cancellation():
    async with hosting(hangs) as host:
        asking = asyncio.create_task(host.ask(call()))
        await settled()

        def refuse(_record: object) -> None:
            raise JournalError("the disk is full")

        host.store.append = refuse
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled()
        del host.store.append


def test_two_experts_of_one_name_are_a_config_error():
    journal = Journal(NODE.peer_id, MemoryEventStore(NODE.peer_id), LoopClock())
    with pytest.raises(ConfigError, match="two experts are named 'it'"):
        LocalExperts([expert_config(), expert_config()], NODE, journal, LoopClock(), make=lambda _: Answer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pth": "a:b"}, r"expert 'it' \(python\): .*options.pth = 'a:b' is not an option \(did you mean path\?\)"),
        ({}, r"options.path is missing"),
        ({"path": 5}, r"options.path = 5"),
    ],
)
def test_wrong_options_name_expert_option_and_value(options, message):
    config = ExpertConfig(name="it", backend="python", domains=["language"], options=options)
    journal = Journal(NODE.peer_id, MemoryEventStore(NODE.peer_id), LoopClock())
    with pytest.raises(ConfigError, match=message) as caught:
        LocalExperts([config], NODE, journal, LoopClock())
    assert "Its options are: path." in caught.value.remedy
