"""The monitor against a real journal in virtual time."""

import asyncio
from collections.abc import Sequence

import pytest

from mesh.config import AlertsConfig, HealthConfig
from mesh.errors import ConfigError, JournalError
from mesh.events.envelope import Record
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.health.alerting import AlertNotOpen
from mesh.health.monitor import HealthMonitor
from mesh.health.notifier import Notice
from mesh.health.sampler import HostSample, PeerLinkSample
from mesh.health.state import HealthState
from tests.kit.health_story import NODE, PEER, connected, disconnected, offered, started, statuses, steps
from tests.kit.loop_clock import EPOCH, LoopClock

pytestmark = pytest.mark.looptime


class CalmHost:
    def __init__(self) -> None:
        self.sample = HostSample(5.0, 30.0, 40.0, 1.0, 1000)

    async def read(self) -> HostSample:
        return self.sample


class Collector:
    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def send(self, notice: Notice) -> None:
        self.notices.append(notice)


class Broken:
    async def send(self, notice: Notice) -> None:
        raise OSError("no route to the pager")


class Bench:
    """A node's health and nothing else; ``records`` survive it, as a store does."""

    def __init__(
        self, tmp_path, records: list[Record] | None = None, *, interval_s: float = 30.0, **rules: dict
    ) -> None:
        self.state = HealthState(node=NODE)
        self.records: list[Record] = records if records is not None else []
        self.journal = Journal(NODE, MemoryEventStore(NODE, self.records), LoopClock(), folds=[self.state.apply])
        self.links: list[PeerLinkSample] = []
        self.host = CalmHost()
        self.notices = Collector()
        self.heard: list = []
        self.monitor = HealthMonitor(
            self.journal,
            self.state,
            HealthConfig(interval_s=interval_s),
            AlertsConfig.model_validate({"rules": rules}),
            home=tmp_path,
            links=lambda: self.links,
            clock=LoopClock(),
            host=self.host,
            notifiers=[Broken(), self.notices],
        )

    async def __aenter__(self) -> "Bench":
        await self.journal.open()
        self.journal.listen(self.heard.append)
        self.journal.emit(started())
        await self.monitor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.monitor.stop()
        await self.journal.close()

    def steps(self) -> list[tuple[float, str]]:
        return [(round(e.at - EPOCH, 1), step) for e in self.heard for step in steps([e.fact])]

    def times_of(self, fact_type: str) -> list[float]:
        return [round(event.at - EPOCH, 1) for event in self.heard if event.type == fact_type]


async def test_the_first_sample_comes_promptly_and_then_one_each_interval(tmp_path):
    async with Bench(tmp_path) as bench:
        await asyncio.sleep(95)
    assert bench.times_of("health.node_sampled") == [1, 31, 61, 91]
    (status,) = [change for event in bench.heard for change in statuses([event.fact])]
    assert status == "node ->excellent"


async def test_a_lost_peer_is_alerted_within_seconds_though_samples_are_far_apart(tmp_path):
    async with Bench(tmp_path, interval_s=3600) as bench:
        bench.journal.emit(connected())
        await asyncio.sleep(100)
        bench.journal.emit(disconnected())
        await asyncio.sleep(100)
        bench.journal.emit(connected())
        await asyncio.sleep(10)
    assert bench.steps() == [
        (100.2, "pending peer_lost/peer"),
        (105.0, "raised peer_lost/peer"),
        (202.0, "resolved peer_lost/peer"),
    ]
    assert bench.times_of("health.status_changed") == [1, 105]  # the node's first, and the peer's to critical


async def test_peers_are_sampled_from_their_links(tmp_path):
    async with Bench(tmp_path) as bench:
        bench.journal.emit(connected())
        bench.journal.emit(offered(valid_s=600))
        bench.links = [PeerLinkSample(PEER, 400.0, 2.0, 0.0, bytes_in=3000, bytes_out=0)]
        await asyncio.sleep(130)
    samples = [event.fact for event in bench.heard if event.type == "health.peer_sampled"]
    assert [sample.throughput_bytes_s for sample in samples] == [3000, 100, 100, 100, 100]
    assert samples[0].experts_available == 1
    assert bench.steps() == [(1, "pending high_latency/peer"), (61, "raised high_latency/peer")]


async def test_an_alert_has_its_subject_and_the_event_that_began_it(tmp_path):
    async with Bench(tmp_path) as bench:
        bench.journal.emit(connected())
        await asyncio.sleep(50)
        bench.journal.emit(disconnected())
        await asyncio.sleep(10)
        bench.monitor.acknowledge("peer_lost/peer", "ann", "on it")
        bench.journal.emit(connected())
        await asyncio.sleep(10)
    life = [event for event in bench.heard if event.type.startswith("alert.")]
    assert [event.type for event in life] == ["alert.pending", "alert.raised", "alert.acknowledged", "alert.resolved"]
    assert {event.subject for event in life} == {"peer_lost/peer"}
    assert {event.correlation for event in life[1:]} == {life[0].id}


async def test_a_broken_sender_does_not_silence_the_others(tmp_path):
    async with Bench(tmp_path) as bench:
        bench.journal.emit(connected())
        await asyncio.sleep(50)
        bench.journal.emit(disconnected())
        await asyncio.sleep(10)
        bench.monitor.acknowledge("peer_lost/peer", "ann", "on it")
        bench.journal.emit(connected())
        await asyncio.sleep(5)
    assert [(notice.step, notice.severity) for notice in bench.notices.notices] == [
        ("raised", "error"),
        ("acknowledged", "error"),
        ("resolved", "error"),
    ]
    assert bench.notices.notices[1].text == "by ann: on it"


async def test_a_blink_is_told_to_nobody(tmp_path):
    async with Bench(tmp_path) as bench:
        bench.journal.emit(connected())
        await asyncio.sleep(50)
        bench.journal.emit(disconnected())
        await asyncio.sleep(2)
        bench.journal.emit(connected())
        await asyncio.sleep(5)
    assert [step for _, step in bench.steps()] == ["pending peer_lost/peer", "resolved peer_lost/peer"]
    assert bench.notices.notices == []


async def test_a_restart_resumes_open_alerts_and_decides_nothing_again(tmp_path):
    first = Bench(tmp_path)
    async with first:
        first.journal.emit(connected())
        await asyncio.sleep(50)
        first.journal.emit(disconnected())
        await asyncio.sleep(10)
    second = Bench(tmp_path, first.records)
    async with second:
        assert set(second.state.open_alerts()) == {"peer_lost/peer"}
        await asyncio.sleep(100)
        assert second.steps() == []
        second.monitor.acknowledge("peer_lost/peer", "ann")
        second.journal.emit(connected())
        await asyncio.sleep(3)
    assert [step for _, step in second.steps()] == ["resolved peer_lost/peer"]
    assert [notice.step for notice in second.notices.notices] == ["acknowledged", "resolved"]
    replayed = Bench(tmp_path, first.records)
    await replayed.journal.open()
    assert replayed.state.digest() == second.state.digest()
    await replayed.journal.close()


async def test_facts_in_a_burst_are_decided_on_together(tmp_path):
    async with Bench(tmp_path) as bench:
        await asyncio.sleep(10)
        for number in range(200):
            bench.journal.emit(connected(f"peer-{number}"))
        await asyncio.sleep(10)
        calls = count_decisions(bench)
        for number in range(50):
            bench.journal.emit(disconnected(f"peer-{number}"))
        await asyncio.sleep(0.5)
    assert len(calls) == 1


def count_decisions(bench: Bench) -> list[float]:
    rules: list[float] = []
    real = bench.monitor.rules[0].find

    class Counting(type(bench.monitor.rules[0])):
        pass

    def find(state, now):
        if not rules or rules[-1] != now:
            rules.append(now)
        return real(state, now)

    first = bench.monitor.rules[0]
    counted = Counting(**{**first.__dict__, "find": find})
    bench.monitor.rules = (counted, *bench.monitor.rules[1:])
    return rules


async def test_no_decision_follows_stop(tmp_path):
    bench = Bench(tmp_path)
    async with bench:
        bench.journal.emit(connected())
        await asyncio.sleep(50)
        await bench.monitor.stop()
        bench.journal.emit(disconnected())
        await asyncio.sleep(50)
        assert bench.steps() == []
        await bench.monitor.start()
        await asyncio.sleep(10)
    assert [step for _, step in bench.steps()] == ["pending peer_lost/peer", "raised peer_lost/peer"]


async def test_a_failed_journal_ends_the_monitor_where_its_owner_sees_it(tmp_path):
    bench = Bench(tmp_path)
    await bench.journal.open()
    await bench.monitor.start()
    await bench.journal.close()
    assert bench.monitor.task is not None
    await asyncio.wait([bench.monitor.task], timeout=100)
    assert isinstance(bench.monitor.task.exception(), JournalError)
    with pytest.raises(JournalError, match="closed"):
        await bench.monitor.stop()


async def test_rules_that_do_not_exist_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="peer_lost"):
        Bench(tmp_path, peer_lots={})


async def test_an_unknown_alert_cannot_be_acknowledged(tmp_path):
    async with Bench(tmp_path) as bench:
        with pytest.raises(AlertNotOpen):
            bench.monitor.acknowledge("peer_lost/peer", "ann")
        assert facts_named(bench.heard, "alert.acknowledged") == []


def facts_named(events: Sequence, fact_type: str) -> list:
    return [event for event in events if event.type == fact_type]
