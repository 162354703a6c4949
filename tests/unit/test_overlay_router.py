"""Who gets a message of gossip at once, and who is told of it with the next heartbeat."""

import time
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest
import trio
import trio.testing
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue

from mesh.p2p.host.router import Router

TOPIC = "offers"
US = ID(b"us")
PEERS = [ID(b"peer %d" % number) for number in range(200)]


def router_among(peers: list[ID], neighbours: list[ID]) -> Router:
    router = Router()
    queues = {peer: RpcQueue() for peer in peers}
    pubsub: Any = Mock(spec=Pubsub, my_id=US, peer_topics={TOPIC: set(peers)}, peer_queues=queues)
    router.pubsub = pubsub
    router.peer_protocol = dict.fromkeys(peers, PROTOCOL_ID_V11)
    router.mesh = {TOPIC: set(neighbours)}
    return router


def receive(router: Router, count: int) -> None:
    for number in range(count):
        message = rpc_pb2.Message(from_id=PEERS[0].to_bytes(), seqno=number.to_bytes(8, "big"), topicIDs=[TOPIC])
        router.mcache.put(message)


@pytest.mark.parametrize("neighbours", [[], PEERS[:3]])
def test_our_own_messages_go_to_more_than_the_neighbours(neighbours: list[ID]) -> None:
    router = router_among(PEERS[:20], neighbours)
    assert set(router._get_peers_to_send([TOPIC], US, US)) == set(PEERS[:20])
    router = router_among(PEERS, neighbours)
    given = set(router._get_peers_to_send([TOPIC], US, US))
    assert given >= set(neighbours)
    assert len(given) == 32 + len(neighbours)


def test_messages_of_others_go_to_the_neighbours_alone() -> None:
    router = router_among(PEERS, PEERS[:3])
    assert set(router._get_peers_to_send([TOPIC], PEERS[0], PEERS[9])) == {PEERS[1], PEERS[2]}


@pytest.mark.parametrize(("messages", "told"), [(0, 0), (1, 197), (4, 64), (64, 6), (500, 6)])
def test_others_are_told_of_what_is_new_as_far_as_there_is_time(messages: int, told: int) -> None:
    router = router_among(PEERS, PEERS[:3])
    router.gossip_heartbeat()
    receive(router, messages)
    now = router.gossip_heartbeat()
    assert len(now) == told
    assert not set(PEERS[:3]) & set(now)
    assert all(len(topics[TOPIC]) == messages for topics in now.values())
    router.mcache.shift()
    assert not router.gossip_heartbeat()  # once each


def test_who_became_a_neighbour_since_the_last_heartbeat_may_have_missed_something() -> None:
    router = router_among(PEERS[:9], PEERS[:3])
    router.gossip_heartbeat()
    receive(router, 2)
    router.mesh[TOPIC].add(PEERS[3])
    assert set(router.gossip_heartbeat()) == set(PEERS[3:9])


def test_a_pruned_peer_is_told_all_the_same() -> None:
    router = router_among(PEERS[:9], PEERS[:3])
    router.gossip_heartbeat()
    router._add_back_off(PEERS[5], TOPIC, False)
    receive(router, 1)
    assert PEERS[5] in router.gossip_heartbeat()


@pytest.mark.parametrize("neighbours", [0, 1, 3])
def test_heartbeats_are_a_second_apart_whatever_py_libp2p_thinks_of_the_mesh(
    neighbours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    began = time.time()
    monkeypatch.setattr(time, "time", lambda: began + clock.current_time())
    router = router_among(PEERS[:neighbours], PEERS[:neighbours])
    told: list[float] = []
    tell = router.gossip_heartbeat
    monkeypatch.setattr(router, "gossip_heartbeat", lambda: (told.append(clock.current_time()), tell())[1])

    async def two_minutes() -> None:
        with trio.move_on_after(120):
            await router.heartbeat()

    trio.run(two_minutes, clock=clock)
    assert max(later - earlier for earlier, later in pairwise(told)) == pytest.approx(1)
    assert told[-1] > 118


def test_a_peer_is_told_and_nothing_more() -> None:
    router = router_among(PEERS[:9], [])
    trio.run(router.emit_graft, TOPIC, PEERS[0])
    assert router.pubsub is not None
    rpc = trio.run(router.pubsub.peer_queues[PEERS[0]].pop)
    assert rpc == rpc_pb2.RPC(control=rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=TOPIC)]))
