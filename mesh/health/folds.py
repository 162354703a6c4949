"""How each fact changes what health remembers; one function a fact, listed once in `FOLDS`."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from mesh.events.envelope import Event, Fact
from mesh.events.vocabulary import experts, health, network, node, requests
from mesh.health import alert_folds
from mesh.health.records import (
    COUNTS_AFTER_S,
    FORGET_AFTER_S,
    FORGET_EVERY_S,
    MAX_EXPERTS_PER_PEER,
    MAX_PEERS,
    Offer,
    Outcomes,
    PeerHealth,
    Standing,
    Watched,
)

Sample = TypeVar("Sample")
Fold = Callable[[Watched, Event, Any], None]

# Failures that say nothing about the peer: the caller left, or nobody could have answered that.
_NOT_THE_PEERS_FAULT = frozenset({"cancelled", "invalid"})


def _started(state: Watched, event: Event, fact: node.NodeStarted) -> None:
    """A new process: no connection and no expert of before is there until it is seen again."""
    del fact
    state.started_at = event.at
    state.experts.pop(state.node, None)
    for peer in state.peers.values():
        _gone(peer, event.at, "this node was restarted")
        peer.outcomes = Outcomes()
    _forget(state, event.at)


def _connected(state: Watched, event: Event, fact: network.PeerConnected) -> None:
    if fact.peer not in state.peers and len(state.peers) >= MAX_PEERS:
        _evict(state)
    peer = state.peers.setdefault(fact.peer, PeerHealth())
    if not peer.connected:
        peer.connected_since = event.at
        peer.gone_before, peer.left_before = peer.gone_since, peer.left
    peer.connected = True
    peer.suspected = peer.down = peer.left = False
    peer.gone_since, peer.gone_why = 0.0, ""


def _left(state: Watched, event: Event, fact: network.PeerLeft) -> None:
    del event
    if (peer := state.peers.get(fact.peer)) is not None:
        peer.left = True


def _disconnected(state: Watched, event: Event, fact: network.PeerDisconnected) -> None:
    if (peer := state.peers.get(fact.peer)) is not None:
        _gone(peer, event.at, fact.reason)


def _suspected(state: Watched, event: Event, fact: network.PeerSuspected) -> None:
    del event
    if (peer := state.peers.get(fact.peer)) is not None:
        peer.suspected = True


def _confirmed_down(state: Watched, event: Event, fact: network.PeerConfirmedDown) -> None:
    if (peer := state.peers.get(fact.peer)) is not None:
        peer.down = True
        peer.acquainted |= peer.connected and event.at - peer.connected_since >= COUNTS_AFTER_S
        peer.gone_since = peer.gone_since or event.at - max(0.0, fact.silent_s)
        peer.gone_why = peer.gone_why or fact.reason


def _rejoined(state: Watched, event: Event, fact: network.PeerRejoined) -> None:
    del event
    if (peer := state.peers.get(fact.peer)) is not None:
        peer.suspected = peer.down = False
        if peer.connected:
            peer.gone_since, peer.gone_why = 0.0, ""


def _registered(state: Watched, event: Event, fact: experts.ExpertRegistered) -> None:
    state.experts.setdefault(state.node, {})[fact.expert] = Offer(fact.domains, available=True, at=event.at)


def _deregistered(state: Watched, event: Event, fact: experts.ExpertDeregistered) -> None:
    del event
    state.experts.get(state.node, {}).pop(fact.expert, None)


def _offered(state: Watched, event: Event, fact: experts.ExpertOffered) -> None:
    own = fact.peer == state.node
    if not own and fact.peer not in state.peers:
        return
    offers = state.experts.setdefault(fact.peer, {})
    if own or fact.expert in offers or len(offers) < MAX_EXPERTS_PER_PEER:
        valid_s = 0.0 if own else fact.valid_s
        offers[fact.expert] = Offer(fact.domains, available=fact.available, at=event.at, valid_s=valid_s)


def _expired(state: Watched, event: Event, fact: experts.ExpertExpired) -> None:
    offers = state.experts.get(fact.peer, {})
    if (offer := offers.get(fact.expert)) is not None and not offer.expired_at:
        offers[fact.expert] = replace(offer, expired_at=event.at, why=fact.reason)


def _answered(state: Watched, event: Event, fact: requests.RequestAnswered) -> None:
    del event
    if (peer := state.peers.get(fact.peer)) is not None:
        peer.outcomes.answered += 1
        peer.outcomes.latency_ms += fact.latency_ms


def _attempt_failed(state: Watched, event: Event, fact: requests.RequestAttemptFailed) -> None:
    del event
    peer = state.peers.get(fact.peer)
    if peer is not None and fact.kind not in _NOT_THE_PEERS_FAULT:
        peer.outcomes.failed += 1


def _node_sampled(state: Watched, event: Event, fact: health.NodeSampled) -> None:
    _keep(state.own.samples, (event.at, fact), state.window)
    _forget(state, event.at)


def _peer_sampled(state: Watched, event: Event, fact: health.PeerSampled) -> None:
    if (peer := state.peers.get(fact.peer)) is not None:
        _keep(peer.samples, (event.at, fact), state.window)
        peer.outcomes = Outcomes()


def _status_changed(state: Watched, event: Event, fact: health.StatusChanged) -> None:
    target = state.own if fact.target == state.node else state.peers.get(fact.target)
    if target is not None:
        target.standing = Standing(fact.status, fact.score, event.at, fact.factors)


def _gone(peer: PeerHealth, at: float, why: str) -> None:
    if peer.connected and at - peer.connected_since < COUNTS_AFTER_S:
        peer.gone_since = peer.gone_before or peer.gone_since
        peer.left |= peer.left_before
    else:
        peer.acquainted |= peer.connected
    peer.connected = False
    peer.suspected = False
    peer.gone_since = peer.gone_since or at
    peer.gone_why = peer.gone_why or why


def _keep(samples: list[Sample], sample: Sample, window: int) -> None:
    samples.append(sample)
    del samples[:-window]


def _forget(state: Watched, now: float) -> None:
    """Drop what has been gone for so long that nobody waits for it any more."""
    if now - state.forgot_at < FORGET_EVERY_S:
        return
    state.forgot_at, horizon = now, now - FORGET_AFTER_S
    for name in [name for name, peer in state.peers.items() if peer.gone_since and peer.gone_since < horizon]:
        _drop_peer(state, name)
    for offers in state.experts.values():
        for expert in [name for name, offer in offers.items() if offer.expired_at and offer.expired_at < horizon]:
            del offers[expert]


def _evict(state: Watched) -> None:
    """Make room for one more peer: the one that has been gone longest leaves, else the newest."""
    gone = [(peer.gone_since, name) for name, peer in state.peers.items() if peer.gone_since]
    here = [(peer.connected_since, name) for name, peer in state.peers.items()]
    _drop_peer(state, min(gone)[1] if gone else max(here)[1])


def _drop_peer(state: Watched, name: str) -> None:
    del state.peers[name]
    state.experts.pop(name, None)


FOLDS: Mapping[type[Fact], Fold] = {
    node.NodeStarted: _started,
    network.PeerConnected: _connected,
    network.PeerLeft: _left,
    network.PeerDisconnected: _disconnected,
    network.PeerSuspected: _suspected,
    network.PeerConfirmedDown: _confirmed_down,
    network.PeerRejoined: _rejoined,
    experts.ExpertRegistered: _registered,
    experts.ExpertDeregistered: _deregistered,
    experts.ExpertOffered: _offered,
    experts.ExpertExpired: _expired,
    requests.RequestAnswered: _answered,
    requests.RequestAttemptFailed: _attempt_failed,
    health.NodeSampled: _node_sampled,
    health.PeerSampled: _peer_sampled,
    health.StatusChanged: _status_changed,
    **alert_folds.FOLDS,
}
