"""One peer of five slow, hanging or failing: callers hardly notice. In virtual time; the seed is in the test's name."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from mesh.config import RoutingConfig
from mesh.events.envelope import Event
from mesh.events.vocabulary.experts import ExpertEjected, ExpertReadmitted
from mesh.events.vocabulary.network import PeerRejoined, PeerSuspected
from mesh.events.vocabulary.requests import RequestDispatched
from mesh.experts.calls import AttemptFailed, Call, Emit
from mesh.experts.ejection import judge
from mesh.experts.known import Target
from mesh.experts.queries import Outcome, QueryFailed
from mesh.experts.rules import Rules
from mesh.experts.state import RoutingState
from tests.kit.asking import Asker, Work
from tests.kit.effort import THOROUGH
from tests.sim.test_routing_sim import check_every_decision

pytestmark = pytest.mark.looptime

PEERS = 5
PER_S = 40.0
MEAN_S = 0.05
SEEDS = range(11, 21) if THOROUGH else (11,)
REQUESTS = 2000 if THOROUGH else 1000
# Until then nobody knows how long an answer takes, and who hangs is waited for.
KNOWN_S = 5.0
Trouble = Callable[[random.Random], Work]


def healthy(rng: random.Random) -> Work:
    """Most take about the same, some longer: what experts look like."""

    async def work(call: Call, emit: Emit) -> str:
        await asyncio.sleep(MEAN_S * (0.5 + rng.expovariate(2)))
        return "done"

    return work


def slow(times: float) -> Trouble:
    def trouble(rng: random.Random) -> Work:
        async def work(call: Call, emit: Emit) -> str:
            await asyncio.sleep(times * MEAN_S * (0.5 + rng.expovariate(2)))
            return "done"

        return work

    return trouble


def failing(share: float) -> Trouble:
    def trouble(rng: random.Random) -> Work:
        async def work(call: Call, emit: Emit) -> str:
            await asyncio.sleep(MEAN_S * (0.5 + rng.expovariate(2)))
            if rng.random() < share:
                raise AttemptFailed("failed", "as drawn")
            return "done"

        return work

    return trouble


def hanging(share: float) -> Trouble:
    def trouble(rng: random.Random) -> Work:
        async def work(call: Call, emit: Emit) -> str:
            await asyncio.sleep(1e6 if rng.random() < share else MEAN_S)
            return "done"

        return work

    return trouble


class Run:
    """Requests at random moments, and what became of them."""

    def __init__(self, seed: int, *, trouble: Trouble | None = None, **config: object) -> None:
        self.rng = random.Random(seed)
        self.node = Asker(seed=seed, config=RoutingConfig(max_in_flight=10_000, **config))
        self.trouble = trouble
        self.latencies: list[float] = []
        self.lost: list[float] = []  # when they were asked
        self.events: list[Event] = []
        self.bad = ""

    async def go(self, requests: int = REQUESTS) -> "Run":
        await self.node.open()
        for number in range(PEERS):
            peer = self.node.connect(number + 2)
            ill = self.trouble is not None and number == 0
            self.bad = peer if ill else self.bad
            self.node.offer(peer, "a", (self.trouble if ill and self.trouble else healthy)(self.rng))
        await asyncio.gather(*(self._ask(self.rng.uniform(0, requests / PER_S)) for _ in range(requests)))
        self.events = await self.node.events()
        assert self.node.state.attempts_in_flight() == 0
        return self

    async def _ask(self, at: float) -> None:
        await asyncio.sleep(at)
        try:
            outcome = await self.node.requests.ask({"content": "x", "domain": "language", "timeout_s": 10})
        except QueryFailed:
            self.lost.append(at)
        else:
            assert isinstance(outcome, Outcome)
            self.latencies.append(outcome.latency_ms)

    def p99(self) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)]

    def purposes(self) -> Counter[str]:
        return Counter(e.fact.purpose for e in self.events if isinstance(e.fact, RequestDispatched))


def check_every_verdict(run: Run) -> int:
    """Law 4 for ejections: judging again from the journal up to ``as_of`` gives what was recorded."""
    state, verdicts = RoutingState(run.node.id), 0
    for event in run.events:
        if isinstance(event.fact, ExpertEjected | ExpertReadmitted):
            assert event.fact.as_of == state.position
            assert judge(state, Target(event.fact.peer, event.fact.expert), Rules()) == event.fact
            verdicts += 1
        state.apply(event)
    return verdicts


TROUBLES = {
    "ten times slower": slow(10),
    "a hundred times slower": slow(100),
    "fails a third": failing(0.3),
    "fails always": failing(1.0),
    "hangs a third": hanging(0.3),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
async def test_one_peer_of_five_in_trouble_is_hardly_felt(seed: int) -> None:
    well, verdicts = (await Run(seed).go()).p99(), 0
    for name, trouble in TROUBLES.items():
        run = await Run(seed, trouble=trouble).go()
        print(f"seed {seed}, {name}: p99 {run.p99():.0f} ms, healthy {well:.0f} ms", run.purposes(), len(run.lost))
        assert run.p99() <= 1.3 * well, name
        assert sum(at > KNOWN_S for at in run.lost) <= REQUESTS * 0.001, name
        assert len(run.lost) <= REQUESTS * 0.01, name
        extra = run.purposes()["retry"] + run.purposes()["hedge"]
        assert extra <= 0.1 * REQUESTS + 10 * (REQUESTS / PER_S / 60 + 1), name
        verdicts += check_every_verdict(run)
    assert verdicts > len(TROUBLES)
    assert check_every_decision(run.node, run.events) >= REQUESTS


async def test_without_all_that_it_is_felt() -> None:
    """The claim can fail: one that fails a third of its answers and is not ejected costs retries and time."""
    off = {"hedge": False, "breaker_failures": 0, "eject_failing": 0, "eject_slower": 0, "policy": "round_robin"}
    well = await Run(11, **off).go(500)
    ill = await Run(11, trouble=slow(10), **off).go(500)
    assert ill.p99() > 3 * well.p99()


async def test_nobody_runs_to_a_peer_that_is_back() -> None:
    run = Run(11)
    node = await run.node.open()
    peers = [node.connect(number + 2) for number in range(PEERS)]
    for peer in peers:
        node.offer(peer, "a", healthy(run.rng))
    asking = [asyncio.create_task(run._ask(run.rng.uniform(0, 25))) for _ in range(1000)]
    await asyncio.sleep(11)
    node.emit(PeerSuspected(peer=peers[0], phi=8.0, silent_s=1.0))
    await asyncio.sleep(2)
    node.emit(PeerRejoined(peer=peers[0], away_s=2.0))
    back = node.clock.now()
    await asyncio.gather(*asking)
    sent = [(e.at - back, e.fact.peer) for e in await node.events() if isinstance(e.fact, RequestDispatched)]
    soon = [peer == peers[0] for at, peer in sent if 0 <= at < 2]
    later = [peer == peers[0] for at, peer in sent if at > 6]
    assert sum(soon) <= len(soon) / PEERS
    assert sum(later) >= len(later) / PEERS / 4
