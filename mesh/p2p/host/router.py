"""Gossipsub's router where py-libp2p's leaves peers out: who is connected to few must hear, and be heard, all the same.

A node keeps about 3 neighbours for each topic and prunes who would be more; the two then keep apart for a minute.
py-libp2p 0.8.1 takes that to mean that they are not told of messages either (IHAVE), and it gives what a node itself
publishes to its neighbours alone. So who has one connection, to a node that has enough neighbours, neither hears nor is
heard. The specification of gossipsub v1.1 has neither: backing off is about GRAFT alone, and own messages go to every
peer that wants them ("flood publishing").

Its heartbeat, which tells and prunes, slows down to one in 30 or 60 s where it finds the mesh in less than good health:
the numbers are made for a heartbeat of two minutes.
"""

import random
from collections import defaultdict
from collections.abc import Iterable

from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.score import ScoreParams, TopicScoreParams

# Few nodes: degree, low, high. The default heartbeat is two minutes.
_DEGREE, _DEGREE_LOW, _DEGREE_HIGH = 3, 2, 4
_HEARTBEAT_S = 1
# Of what arrived since the last heartbeat, a topic's other peers are told: so many times a message and a peer in all,
# but always so many peers. With few messages these are all peers; with many it is what this process can do.
_TOLD = 256
_TOLD_PEERS = 6
# Our own messages go to so many peers besides the neighbours at once; the others are told of them.
_GIVEN = 32


class Router(GossipSub):
    """Gossipsub with the parameters that were measured, which tells everybody of what is new, as far as it can."""

    def __init__(self) -> None:
        super().__init__(
            [PROTOCOL_ID_V11],
            _DEGREE,
            _DEGREE_LOW,
            _DEGREE_HIGH,
            heartbeat_interval=_HEARTBEAT_S,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
            score_params=ScoreParams(
                p4_invalid_messages=TopicScoreParams(weight=10.0, cap=100.0, decay=0.9), graylist_threshold=-50.0
            ),
        )
        self._neighbours_before: dict[str, set[ID]] = {}

    def _get_peers_to_send(
        self, topic_ids: Iterable[str], msg_forwarder: ID, origin: ID, msg_id: bytes | None = None
    ) -> Iterable[ID]:
        """See `GossipSub`; our own messages go to others besides, `gossip_heartbeat` tells the rest."""
        topics = list(topic_ids)
        chosen = set(super()._get_peers_to_send(topics, msg_forwarder, origin, msg_id))
        if self.pubsub is not None and msg_forwarder == self.pubsub.my_id:
            others = {peer for topic in topics for peer in self._subscribed(topic)} - chosen
            chosen.update(random.sample(list(others), min(len(others), _GIVEN)))
        return chosen

    def gossip_heartbeat(self) -> defaultdict[ID, dict[str, list[bytes]]]:
        """See `GossipSub`: which peers are told of which messages now, each message once."""
        told: defaultdict[ID, dict[str, list[bytes]]] = defaultdict(dict)
        for topic, neighbours in self.mesh.items():
            given_all = neighbours & self._neighbours_before.get(topic, set())
            self._neighbours_before[topic] = set(neighbours)
            fresh = [entry.mid for entry in self.mcache.history[0] if topic in entry.topics]
            others = [peer for peer in self._subscribed(topic) if peer not in given_all] if fresh else []
            count = min(len(others), max(_TOLD_PEERS, _TOLD // max(1, len(fresh))))
            for peer in random.sample(others, count):
                told[peer][topic] = fresh
        return told

    def _adapt_heartbeat_parameters(self, health: float) -> None:
        """See `GossipSub`; the heartbeat stays what it is, whatever the mesh is like."""

    async def emit_control_message(self, control_msg: rpc_pb2.ControlMessage, to_peer: ID) -> None:
        """See `GossipSub`; without the signed record of our addresses, which is most of it, and which nobody needs."""
        self.send_rpc(to_peer, rpc_pb2.RPC(control=control_msg), priority=True)

    def _subscribed(self, topic: str) -> list[ID]:
        peers = self.pubsub.peer_topics.get(topic, ()) if self.pubsub is not None else ()
        return [peer for peer in peers if self._is_gossipsub_peer(peer)]
