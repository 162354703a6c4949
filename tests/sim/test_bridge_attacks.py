"""Peers that break the rules of shared journals: each is recorded and cut off, and the honest go on."""

import asyncio
from collections.abc import Callable

import pytest

from mesh.events.audit import verify
from mesh.events.feed import contradict, is_signed
from mesh.p2p.calls import InboundCall, Reply
from mesh.p2p.memory_network import MemoryNetwork
from mesh.p2p.sharing.messages import HEADS, RANGE, TOPIC, decode_page, encode_announcement, encode_batch, encode_heads
from tests.kit.bridges import BridgeNode, alert, feed_of
from tests.kit.peer_nodes import until as until_often

pytestmark = pytest.mark.looptime


async def until(condition: Callable[[], object], within: float = 60) -> None:
    await until_often(condition, within, every=0.25)


class World:
    """Some honest nodes and one that is not, each started when it is made."""

    def __init__(self) -> None:
        self.network = MemoryNetwork(latency_s=0.002)
        self.nodes: list[BridgeNode] = []

    async def node(self) -> BridgeNode:
        node = await BridgeNode(self.network, len(self.nodes) + 1).start()
        self.nodes.append(node)
        return node

    async def __aenter__(self) -> "World":
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.stop()


def offences(node: BridgeNode, peer: BridgeNode) -> list[str]:
    return [event.fact.rule for event in node.of("peer.misbehaved") if event.fact.peer == peer.id]


def rewrite(rogue: BridgeNode, change: Callable[[list], list]) -> None:
    """Let a node serve other pages than it holds."""
    honest = rogue.bridge._desk.handlers[RANGE]

    async def answer(call: InboundCall) -> Reply:
        page = decode_page((await honest(call)).body)
        return Reply({}, b"".join(encode_batch(*batch) for batch in change(page)))

    rogue.bridge._desk.handlers[RANGE] = answer


async def test_a_carrier_that_forges_is_cut_off_and_another_is_asked() -> None:
    async with World() as world:
        one, forger, honest, away = [await world.node() for _ in range(4)]
        for node in (forger, honest):
            node.meet(one)
        one.emit(alert(1), alert(2))
        await until(lambda: forger.holds(one) and honest.holds(one))
        world.network.kill(one.id)
        rewrite(forger, lambda page: [(b, [p.replace(b"91.5", b"10.0") for p in payloads]) for b, payloads in page])
        away.meet(forger)
        await until(lambda: offences(away, forger))
        assert offences(away, forger) == ["journal_forged"]
        assert away.payloads(one.id) == []
        away.meet(honest)
        await until(lambda: away.payloads(one.id) == honest.payloads(one.id) != [])
        await asyncio.sleep(200)
        assert forger.id not in away.peers.connected()
        assert offences(away, honest) == offences(away, one) == []


async def test_a_peer_that_replays_old_pages_is_cut_off() -> None:
    async with World() as world:
        one, other = await world.node(), await world.node()
        other.meet(one)
        await until(lambda: other.holds(one))
        first = decode_page(encode_batch(*_first_batch(one)))
        rewrite(one, lambda _page: first)
        one.emit(alert(3))
        await until(lambda: offences(other, one))
        assert offences(other, one) == ["journal_replayed"]


def _first_batch(node: BridgeNode) -> tuple:
    fact = node.of("journal.shared")[0].fact
    return fact.batch, [node.store.records[position - 1].payload for position in fact.positions]


async def test_a_node_that_tells_two_stories_is_found_out_by_those_who_compare_them() -> None:
    async with World() as world:
        liar, left, right, late = [await world.node() for _ in range(4)]
        await liar.bridge.stop()
        stories = {
            left.id: feed_of(liar.identity, 2, 1, epoch=3),
            right.id: feed_of(liar.identity, 2, 1, epoch=3, mark=1),
        }

        async def heads(call: InboundCall) -> Reply:
            return Reply({}, encode_heads([stories[call.peer][-1][0]] if call.peer in stories else []))

        async def pages(call: InboundCall) -> Reply:
            return Reply({}, b"".join(encode_batch(*batch) for batch in stories[call.peer]))

        liar.bridge._desk.handlers.update({HEADS: heads, RANGE: pages})
        for node in (left, right):
            node.meet(liar)
        await until(lambda: left.payloads(liar.id) and right.payloads(liar.id))
        assert left.payloads(liar.id) != right.payloads(liar.id)
        left.meet(right)
        await until(lambda: left.of("journal.equivocation_found") or right.of("journal.equivocation_found"))
        finder, other = (left, right) if left.of("journal.equivocation_found") else (right, left)
        (found,) = finder.of("journal.equivocation_found")
        proof = found.fact
        assert (proof.peer, proof.carrier) == (liar.id, other.id)
        assert is_signed(proof.one)
        assert is_signed(proof.other)
        assert contradict(proof.one, proof.other)
        assert offences(finder, liar) == ["journal_equivocation"]
        await until(lambda: liar.id not in finder.peers.connected())
        late.meet(finder)
        finder.emit(alert(5))
        await until(lambda: late.holds(finder))
        assert not late.payloads(liar.id), "what is known to be a lie is carried on"
        reopened = BridgeNode(world.network, world.nodes.index(finder) + 1, records=finder.store.records)
        await reopened.journal.open()
        assert reopened.book.is_cut(liar.id)
        assert [f.kind for f in verify(finder.store.records, finder.id).findings] in ([], ["unsealed"])


@pytest.mark.parametrize("fault", ["flood", "nonsense", "another's feed"])
async def test_gossip_that_breaks_the_rules_ends_the_connection(fault: str) -> None:
    async with World() as world:
        rogue, node = await world.node(), await world.node()
        await rogue.bridge.stop()
        node.meet(rogue)
        await until(lambda: rogue.id in node.peers.connected())
        data = {
            "flood": encode_announcement(None, "00" * 32),
            "nonsense": b"{",
            "another's feed": encode_announcement(feed_of(node.identity, 1)[0][0], "00" * 32),
        }[fault]
        for _ in range(60 if fault == "flood" else 1):
            await rogue.peers.gossip(TOPIC, data)
        await until(lambda: offences(node, rogue))
        rules = {"flood": "journal_flood", "nonsense": "journal_malformed", "another's feed": "journal_of_another"}
        assert offences(node, rogue) == [rules[fault]]
        await until(lambda: rogue.id not in node.peers.connected())


async def test_a_node_takes_only_from_whom_it_wants_and_only_so_much() -> None:
    async with World() as world:
        one, other, chosen = [await world.node() for _ in range(3)]
        chosen.policy._take = frozenset({one.id})
        chosen.meet(one, other)
        one.emit(alert(1))
        other.emit(alert(1))
        await until(lambda: chosen.holds(one))
        await asyncio.sleep(60)
        assert chosen.payloads(other.id) == []


async def test_a_feed_that_is_larger_than_its_room_is_not_taken_further_and_that_is_said_once() -> None:
    async with World() as world:
        one, other = await world.node(), await world.node()
        intake = other.bridge._visits._intake
        intake._config = other.config.model_copy(update={"max_bytes_per_origin": 4000})
        other.meet(one)
        for number in range(40):
            one.emit(alert(number))
            await asyncio.sleep(5)
        refused = [event.fact for event in other.of("peer.refused")]
        assert [(fact.peer, fact.rule, fact.limit) for fact in refused] == [(one.id, "journal_size", "4000 bytes")]
        assert 0 < sum(map(len, other.payloads(one.id))) <= 4000
