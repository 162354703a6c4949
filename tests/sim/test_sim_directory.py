"""An expert that nobody knows of is found through the DHT: whole nodes over the memory overlay."""

import asyncio

import pytest

from mesh.events.vocabulary.experts import ExpertsSought
from mesh.events.vocabulary.network import PeerDiscovered
from mesh.experts.directory import AGAIN_S, MAX_DIALLED
from mesh.experts.queries import Query, QueryFailed
from mesh.p2p.overlay import OverlayDown, Provider
from tests.kit.asking import identity
from tests.kit.whole_nodes import WholeNode
from tests.sim.test_sim_introductions import line

pytestmark = pytest.mark.looptime

LOOK = Query(content="hi", domain="language")


async def sought(node: WholeNode) -> list[ExpertsSought]:
    return [event.fact for event in await node.events() if isinstance(event.fact, ExpertsSought)]


async def test_a_request_finds_an_expert_beyond_gossip() -> None:
    async with line(5, exchange=False) as (_, made):
        first, last = made[0], made[-1]
        assert not first.state.offers
        outcome = await first.requests.ask(LOOK)
        assert outcome.peers == (last.id,)
        (fact,) = await sought(first)
        assert (fact.domain, fact.providers, fact.dialled, fact.served) == ("language", 1, 1, True)
        found = [e.fact for e in await first.events() if isinstance(e.fact, PeerDiscovered) and e.fact.source == "dht"]
        assert [(one.peer, one.by) for one in found] == [(last.id, made[-2].id)]
        await first.requests.ask(LOOK)
        assert len(await sought(first)) == 1


async def test_with_the_dht_off_nobody_is_looked_for() -> None:
    async with line(3, exchange=False, dht=False) as (_, made):
        with pytest.raises(QueryFailed):
            await made[0].requests.ask(LOOK)
        assert not await sought(made[0])
        assert not made[0].overlay.dht


async def test_what_nobody_provides_fails_at_once_and_is_not_sought_again_soon() -> None:
    async with line(3, exchange=False) as (_, made):
        for _ in range(3):
            with pytest.raises(QueryFailed):
                await made[0].requests.ask(Query(content="hi", domain="astrology"))
        assert [(fact.providers, fact.served) for fact in await sought(made[0])] == [(0, False)]
        await asyncio.sleep(AGAIN_S)
        with pytest.raises(QueryFailed):
            await made[0].requests.ask(Query(content="hi", domain="astrology"))
        assert len(await sought(made[0])) == 2


async def test_lies_in_the_dht_cost_a_few_dials_and_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(2, exchange=False) as (_, (one, liar)):
        lies = [Provider(identity(100 + n).peer_id, (f"/memory/x{n}",), liar.id, "/memory/liar") for n in range(50)]

        async def lie(name: str, timeout: float) -> tuple[Provider, ...]:
            return tuple(lies)

        monkeypatch.setattr(one.overlay, "find_providers", lie)
        began = one.clock.monotonic()
        with pytest.raises(QueryFailed):
            await one.requests.ask(Query(content="hi", domain="astrology", timeout_s=60))
        assert one.clock.monotonic() - began < 8
        (fact,) = await sought(one)
        assert (fact.providers, fact.dialled, fact.served) == (50, MAX_DIALLED, False)


async def test_many_who_ask_at_once_are_one_search_and_who_gives_up_ends_it_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with line(2, exchange=False) as (_, (one, _)):
        searches = 0

        async def slow(name: str, timeout: float) -> tuple[Provider, ...]:
            nonlocal searches
            searches += 1
            await asyncio.sleep(2)
            return ()

        monkeypatch.setattr(one.overlay, "find_providers", slow)
        await asyncio.gather(*(one.directory.seek("astrology", timeout) for timeout in (0.1, 5, 5)))
        assert searches == 1
        assert len(await sought(one)) == 1


async def test_an_overlay_that_is_down_is_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(2, exchange=False) as (_, (one, _)):

        async def down(name: str, timeout: float) -> tuple[Provider, ...]:
            raise OverlayDown("restarting")

        monkeypatch.setattr(one.overlay, "find_providers", down)
        with pytest.raises(QueryFailed):
            await one.requests.ask(Query(content="hi", domain="astrology"))
        assert not await sought(one)
