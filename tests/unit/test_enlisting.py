"""Experts that come and go while the node serves: each with its own troubles."""

import asyncio

import pytest

from mesh.errors import ConfigError, MeshError
from mesh.events.vocabulary.experts import ExpertDeregistered, ExpertRegistered
from mesh.experts.calls import AttemptFailed
from tests.kit.hosting import Host, TestBackend, call, echoes, expert_config, hangs, hosting
from tests.kit.waiting import until


def names(host: Host) -> list[str]:
    return [offer.expert for offer in host.experts.offers()]


async def test_one_that_comes_is_offered_and_asked_and_one_that_goes_is_not():
    async with hosting() as host:
        late = TestBackend(echoes)
        await host.experts.enlist(expert_config(name="late"), late)
        assert names(host) == ["it", "late"]
        assert (await host.ask(call("hello", expert="late"))).text == "hello"
        changes = host.changes
        await host.experts.withdraw("late", "it is gone")
        assert names(host) == ["it"]
        assert host.changes == changes + 1
        assert not late.started
        with pytest.raises(AttemptFailed, match="'late' is not served here; served: it"):
            await host.ask(call("hello", expert="late", request="r2"))
        assert (await host.ask(call("hello", request="r3"))).text == "hello"
        await host.journal.stored()
        said = [fact for fact in host.facts if isinstance(fact, ExpertRegistered | ExpertDeregistered)]
        assert [(type(fact).__name__, fact.expert) for fact in said][1:] == [
            ("ExpertRegistered", "late"),
            ("ExpertDeregistered", "late"),
        ]


async def test_calls_of_one_that_goes_end_as_unavailable():
    async with hosting() as host:
        late = TestBackend(hangs)
        await host.experts.enlist(expert_config(name="late"), late)
        asking = asyncio.create_task(host.ask(call(expert="late")))
        await until(lambda: late.running == 1, what="the call")
        await host.experts.withdraw("late", "it is gone")
        with pytest.raises(AttemptFailed) as caught:
            await asking
        assert caught.value.kind == "unavailable"
        assert late.cancelled == 1


async def test_a_name_is_given_once_and_nobody_is_withdrawn_twice():
    async with hosting() as host:
        with pytest.raises(ConfigError, match="an expert 'it' already"):
            await host.experts.enlist(expert_config(), TestBackend(echoes))
        await host.experts.withdraw("nobody", "it never was")
        assert names(host) == ["it"]


async def test_one_that_cannot_start_is_known_and_not_offered():
    async with hosting() as host:
        late = TestBackend(echoes)
        late.start_problem = MeshError("the model is not there")
        await host.experts.enlist(expert_config(name="late"), late)
        assert names(host) == ["it"]
        assert host.experts.problems == {"late": "the model is not there"}
        assert host.experts.names == {"it", "late"}


async def test_one_that_goes_while_it_starts_is_never_offered_and_is_stopped():
    async with hosting() as host:
        late, gate = _Slow(echoes), asyncio.Event()
        late.gate = gate
        coming = asyncio.create_task(host.experts.enlist(expert_config(name="late"), late))
        await late.starting.wait()
        await host.experts.withdraw("late", "it is gone")
        gate.set()
        await coming
        assert names(host) == ["it"]
        assert not late.started


class _Slow(TestBackend):
    gate = asyncio.Event()

    @property
    def starting(self) -> asyncio.Event:
        return self.__dict__.setdefault("_starting", asyncio.Event())

    async def start(self) -> None:
        self.starting.set()
        await self.gate.wait()
        await super().start()
