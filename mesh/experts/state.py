"""All that routing knows, as a pure fold of the journal: the same events give the same bytes.

Only facts that this node itself recorded count; what other nodes' journals say of *their* requests and peers
is no business of its routing. Time is the time of the events.
"""

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any

import msgspec

from mesh.events.envelope import Event, Fact
from mesh.events.live_state import LiveStruct
from mesh.events.vocabulary import experts, health, network, node, requests
from mesh.experts.budget import Work, worked
from mesh.experts.known import Offer, OpenRequest, Peer, Target, Withdrawn
from mesh.experts.links import Link
from mesh.experts.reliability import Reliability, weight
from mesh.experts.tracks import Track, answered, dispatched, ejected, failed, readmitted, returned
from mesh.experts.trust import canary, counted, proven

_Terminal = requests.RequestCompleted | requests.RequestFailed | requests.RequestCancelled | requests.RequestInterrupted
# How many peers, tracks and withdrawn experts are remembered; the longest unused ones go first.
REMEMBERED = 4096


class RoutingState(LiveStruct, msgspec.Struct):
    """The live state of routing of the node ``local``. ``apply`` is the only thing that changes it."""

    local: str
    position: int = 0
    peers: dict[str, Peer] = {}
    offers: dict[str, dict[str, Offer]] = {}
    withdrawn: dict[str, Withdrawn] = {}
    tracks: dict[str, dict[str, Track]] = {}
    requests: dict[str, OpenRequest] = {}
    reliability: dict[str, dict[str, Reliability]] = {}
    work: Work = msgspec.field(default_factory=Work)

    def apply(self, event: Event) -> None:
        """Fold one event of the journal; facts that say nothing about routing change only the position."""
        self.position = event.position
        fold = _FOLDS.get(type(event.fact))
        if fold is not None and event.origin == self.local:
            fold(self, event.fact, event)

    def in_flight(self) -> tuple[str, ...]:
        """The requests that have no outcome yet, oldest first."""
        return tuple(sorted(self.requests, key=lambda request: self.requests[request].position))

    def attempts_in_flight(self) -> int:
        """How many dispatched attempts have not come back."""
        return sum(track.in_flight for tracks in self.tracks.values() for track in tracks.values())

    def track(self, target: Target) -> Track:
        """What is remembered of a target; a blank one that is not kept when there is nothing."""
        return self.tracks.get(target.peer, {}).get(target.expert) or Track()

    def weight(self, target: Target) -> float:
        """What a target's vote weighs (`mesh.experts.reliability`)."""
        known = self.reliability.get(target.peer, {}).get(target.expert)
        return 1.0 if known is None else weight(known)

    def encoded(self) -> bytes:
        """Canonical JSON of the whole state."""
        return msgspec.json.encode(self, order="sorted")

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        return sha256(self.encoded()).hexdigest()


def fold(local: str, events: Iterable[Event]) -> RoutingState:
    """The routing state of the node ``local`` after ``events``."""
    state = RoutingState(local)
    for event in events:
        state.apply(event)
    return state


# -- one function a fact ---------------------------------------------------------------------------------------


def _started(state: RoutingState, _fact: node.NodeStarted, event: Event) -> None:
    """A new epoch: no connection, offer or attempt of before is left; what was learnt of speeds is."""
    for peer in state.peers.values():
        peer.connected, peer.liveness = False, "alive"
    for target in [Target(peer, expert) for peer, offers in state.offers.items() for expert in offers]:
        _withdraw(state, target, event)
    for tracks in state.tracks.values():
        for track in tracks.values():
            track.in_flight = track.stale = 0
    for request in state.requests.values():
        request.attempts.clear()


def _connected(state: RoutingState, fact: network.PeerConnected, event: Event) -> None:
    peer = _peer(state, fact.peer, event)
    peer.connected, peer.liveness = True, "alive"
    peer.link = Link(since=event.at)


def _sampled(state: RoutingState, fact: health.PeerSampled, event: Event) -> None:
    link = _peer(state, fact.peer, event).link
    link.rtt_ms, link.jitter_ms = float(fact.latency_ms), float(fact.jitter_ms)
    link.loss, link.throughput_bytes_s = float(fact.loss), float(fact.throughput_bytes_s)


def _disconnected(state: RoutingState, fact: network.PeerDisconnected, event: Event) -> None:
    _peer(state, fact.peer, event).connected = False


def _suspected(state: RoutingState, fact: network.PeerSuspected, event: Event) -> None:
    _peer(state, fact.peer, event).liveness = "suspected"


def _down(state: RoutingState, fact: network.PeerConfirmedDown, event: Event) -> None:
    _peer(state, fact.peer, event).liveness = "down"


def _rejoined(state: RoutingState, fact: network.PeerRejoined, event: Event) -> None:
    peer = _peer(state, fact.peer, event)
    peer.liveness, peer.back_at = "alive", event.at


def _status(state: RoutingState, fact: health.StatusChanged, event: Event) -> None:
    if fact.target_kind in ("peer", "node"):
        _peer(state, fact.target, event).status = fact.status


def _registered(state: RoutingState, fact: experts.ExpertRegistered, event: Event) -> None:
    state.offers.setdefault(state.local, {})[fact.expert] = Offer(
        model=fact.model,
        domains=tuple(fact.domains),
        concurrency=fact.concurrency,
        queue_limit=fact.queue_limit,
        quality=float(fact.quality),
        features=tuple(fact.features),
        offered_at=event.at,
        price=float(fact.price),
        since=event.at,
    )


def _deregistered(state: RoutingState, fact: experts.ExpertDeregistered, event: Event) -> None:
    _withdraw(state, Target(state.local, fact.expert), event)


def _offered(state: RoutingState, fact: experts.ExpertOffered, event: Event) -> None:
    before = state.offers.get(fact.peer, {}).get(fact.expert)
    state.offers.setdefault(fact.peer, {})[fact.expert] = Offer(
        model=fact.model,
        domains=tuple(fact.domains),
        concurrency=fact.concurrency,
        queue_limit=fact.queue_limit,
        in_flight=fact.in_flight,
        queued=fact.queued,
        ours=state.track(Target(fact.peer, fact.expert)).in_flight,
        available=fact.available,
        quality=float(fact.quality),
        features=tuple(fact.features),
        offered_at=event.at,
        price=float(fact.price),
        since=event.at if before is None else before.since,
        expires_at=0.0 if fact.peer == state.local else event.at + fact.valid_s,
    )


def _expired(state: RoutingState, fact: experts.ExpertExpired, event: Event) -> None:
    _withdraw(state, Target(fact.peer, fact.expert), event)


def _ejected(state: RoutingState, fact: experts.ExpertEjected, event: Event) -> None:
    track = _track(state, Target(fact.peer, fact.expert))
    ejected(track, fact.rule, event.at + float(fact.for_s), fact.times)


def _readmitted(state: RoutingState, fact: experts.ExpertReadmitted, event: Event) -> None:
    readmitted(_track(state, Target(fact.peer, fact.expert)), event.at)


def _withdraw(state: RoutingState, target: Target, event: Event) -> None:
    offers = state.offers.get(target.peer, {})
    offer = offers.pop(target.expert, None)
    if not offers:
        state.offers.pop(target.peer, None)
    if offer is not None:
        state.withdrawn.pop(str(target), None)
        state.withdrawn[str(target)] = Withdrawn(target.expert, offer.domains, event.at)
        if len(state.withdrawn) > REMEMBERED:
            del state.withdrawn[next(iter(state.withdrawn))]


def _received(state: RoutingState, fact: requests.RequestReceived, event: Event) -> None:
    if _touch(state, fact.request, event) is None:  # said twice, it is still one request, with the attempts that it has
        state.requests[fact.request] = OpenRequest(position=event.position, last_position=event.position)


def _routed(state: RoutingState, fact: requests.RequestRouted, event: Event) -> None:
    _touch(state, fact.request, event)


def _dispatched(state: RoutingState, fact: requests.RequestDispatched, event: Event) -> None:
    request = _touch(state, fact.request, event)
    if request is None:
        return
    target = Target(fact.peer, fact.expert)
    request.attempts[str(fact.attempt)] = target
    dispatched(_track(state, target), event.position)
    worked(state.work, fact.purpose, event.at)


def _hedged(state: RoutingState, fact: requests.RequestHedged, event: Event) -> None:
    request = _touch(state, fact.request, event)
    if request is not None:
        request.late.append(fact.attempt)


def _answered(state: RoutingState, fact: requests.RequestAnswered, event: Event) -> None:
    target = _come_back(state, fact.request, fact.attempt, event)
    if target is not None:
        late = fact.attempt in state.requests[fact.request].late
        answered(_track(state, target), float(fact.latency_ms), event.at, late=late)


def _attempt_failed(state: RoutingState, fact: requests.RequestAttemptFailed, event: Event) -> None:
    target = _come_back(state, fact.request, fact.attempt, event)
    if target is not None:
        late = fact.attempt in state.requests[fact.request].late
        failed(_track(state, target), fact.kind, float(fact.latency_ms), event.at, late=late)


def _completed(state: RoutingState, fact: requests.RequestCompleted, event: Event) -> None:
    counted(state.reliability, fact)
    _ended(state, fact, event)


def _ended(state: RoutingState, fact: _Terminal, _event: Event) -> None:
    request = state.requests.pop(fact.request, None)
    for target in request.attempts.values() if request is not None else ():
        returned(_track(state, target))


def _come_back(state: RoutingState, request_id: str, attempt: int, event: Event) -> Target | None:
    request = _touch(state, request_id, event)
    target = request.attempts.pop(str(attempt), None) if request is not None else None
    if target is not None:
        returned(_track(state, target))
    return target


def _touch(state: RoutingState, request_id: str, event: Event) -> OpenRequest | None:
    request = state.requests.get(request_id)
    if request is not None:
        request.last_position = event.position
    return request


def _peer(state: RoutingState, peer_id: str, event: Event) -> Peer:
    peer = state.peers.get(peer_id)
    if peer is None:
        if len(state.peers) >= REMEMBERED:
            idle = [key for key, known in state.peers.items() if not known.connected]
            if idle:
                del state.peers[min(idle, key=lambda key: state.peers[key].position)]
        peer = state.peers[peer_id] = Peer()
    peer.position = event.position
    return peer


def _track(state: RoutingState, target: Target) -> Track:
    tracks = state.tracks.get(target.peer)
    if tracks is None:
        if len(state.tracks) >= REMEMBERED:
            _forget_longest_unused(state)
        tracks = state.tracks[target.peer] = {}
    track = tracks.get(target.expert)
    if track is None:
        track = tracks[target.expert] = Track()
    return track


def _forget_longest_unused(state: RoutingState) -> None:
    def last_used(peer: str) -> int:
        return max(track.last_dispatched for track in state.tracks[peer].values())

    idle = [peer for peer, tracks in state.tracks.items() if not any(track.in_flight for track in tracks.values())]
    if idle:
        del state.tracks[min(idle, key=last_used)]


_FOLDS: Mapping[type[Fact], Callable[[RoutingState, Any, Event], None]] = {
    node.NodeStarted: _started,
    network.PeerConnected: _connected,
    network.PeerDisconnected: _disconnected,
    network.PeerSuspected: _suspected,
    network.PeerConfirmedDown: _down,
    network.PeerRejoined: _rejoined,
    health.PeerSampled: _sampled,
    health.StatusChanged: _status,
    experts.ExpertRegistered: _registered,
    experts.ExpertDeregistered: _deregistered,
    experts.ExpertOffered: _offered,
    experts.ExpertExpired: _expired,
    experts.ExpertEjected: _ejected,
    experts.ExpertReadmitted: _readmitted,
    requests.RequestReceived: _received,
    requests.RequestRouted: _routed,
    requests.RequestDispatched: _dispatched,
    requests.RequestHedged: _hedged,
    requests.RequestAnswered: _answered,
    requests.RequestAttemptFailed: _attempt_failed,
    requests.RequestCompleted: _completed,
    requests.RequestCanaryChecked: lambda state, fact, _event: canary(state.reliability, fact),
    experts.ExpertEquivocated: lambda state, fact, _event: proven(state.reliability, fact),
    requests.RequestFailed: _ended,
    requests.RequestCancelled: _ended,
    requests.RequestInterrupted: _ended,
}
