"""A made-up but plausible history of one node: requests, health, offers, connections, alerts and restarts, mixed.

The same seed gives the same history. About 55% of the events belong to requests, 25% are health samples,
15% offers of experts, the rest network facts, alerts and restarts.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from mesh.clock import rfc3339
from mesh.events import chain
from mesh.events.codec import encode
from mesh.events.envelope import Event, Fact, Record
from mesh.events.vocabulary import access, alerts, experts, health, network, node, requests
from mesh.identity import Identity

STARTED_AT = 1_763_800_000.0
DOMAINS = ("reasoning", "coding", "language", "mathematics", "tool_use", "context")


class Told(NamedTuple):
    """A fact and what its envelope says of it."""

    fact: Fact
    subject: str = ""
    correlation: str = ""


class History:
    """Tells facts for ever. ``restarts`` weighs the node's crashes against a health sample's 25."""

    def __init__(self, seed: int = 1, peers: int = 50, restarts: float = 0.002) -> None:
        self._restarts = restarts
        self.random = random.Random(seed)
        self.owner = self._peer()
        self._peers = [self._peer() for _ in range(peers)]
        self._experts = {peer: self.random.sample(DOMAINS, 2) for peer in (self.owner, *self._peers)}
        self._connected: dict[str, str] = {}
        self._alerts: dict[str, str] = {}
        self._count = 0
        self._epoch = 0
        self._open: set[str] = set()

    def facts(self) -> Iterator[Told]:
        """The history, without end. Requests overlap: about twenty are under way at any time."""
        yield from self._start()
        open_requests: list[Iterator[Told]] = []
        others = (self._health, self._offer, self._network, self._alert, self._start, self._bad_input, self._served,
                  self._rule)  # fmt: skip
        weights = (25, 12, 3, 1.5, self._restarts, 0.5, 3, 0.2)
        while True:
            if self.random.random() < 0.55:
                if len(open_requests) < 20:
                    open_requests.append(self._request())
                index = self.random.randrange(len(open_requests))
                told = next(open_requests[index], None)
                if told is None:
                    open_requests[index] = open_requests[-1]
                    open_requests.pop()
                else:
                    yield told
                continue
            tell = self.random.choices(others, weights)[0]
            yield from tell()
            if tell == self._start:
                open_requests.clear()
                yield from self._interrupted()

    def _peer(self) -> str:
        return Identity(self.random.randbytes(32)).peer_id

    def _digest(self) -> str:
        return f"sha256:{self.random.getrandbits(256):064x}"

    def _id(self) -> str:
        self._count += 1
        bits = f"{int(STARTED_AT * 1000) + self._count:012x}7{self._count:019x}"
        return f"{bits[:8]}-{bits[8:12]}-{bits[12:16]}-{bits[16:20]}-{bits[20:]}"

    def _start(self) -> Iterator[Told]:
        self._epoch += 1
        self._connected.clear()
        yield Told(
            node.NodeStarted(epoch=self._epoch, name="bench", release="0.1.0", resumed_from=0, clean=self._epoch == 1),
            self.owner,
        )
        for domain in self._experts[self.owner]:
            yield Told(
                experts.ExpertRegistered(
                    expert=domain, backend="python", model="", domains=(domain,), concurrency=4, queue_limit=64
                ),
                self.owner,
            )

    def _request(self) -> Iterator[Told]:
        request = self._id()
        self._open.add(request)
        for fact in self._request_facts(request):
            yield Told(fact, request, request)
        self._open.discard(request)

    def _rule(self) -> Iterator[Told]:
        rnd = self.random
        kinds = (access.PeerBlocked, access.PeerUnblocked, access.PeerAllowed, access.PeerDisallowed)
        party = rnd.choice(self._peers)
        yield Told(rnd.choice(kinds)(party=party, kind="peer", actor="ada", reason=rnd.choice(("", "spam"))), party)

    def _interrupted(self) -> Iterator[Told]:
        yield Told(node.NodeRecovered(interrupted_requests=len(self._open), journal_position=self._count), self.owner)
        for request in sorted(self._open):
            yield Told(requests.RequestInterrupted(request=request, last_position=self._count), request, request)
        self._open.clear()

    def _served(self) -> Iterator[Told]:
        rnd = self.random
        request, size = self._id(), rnd.randrange(10, 9000)
        failed = rnd.random() < 0.1
        yield Told(
            requests.RequestServed(
                request=request, caller=rnd.choice(self._peers), expert=rnd.choice(self._experts[self.owner]),
                outcome="failed" if failed else "answered", error="no model" if failed else "", queued_ms=rnd.random(),
                latency_ms=rnd.lognormvariate(4, 0.8), tokens_in=-1, tokens_out=size // 4, answer_bytes=size,
                answer_digest="" if failed else self._digest(),
            ),
            request, request,
        )  # fmt: skip

    def _request_facts(self, request: str) -> Iterator[Fact]:
        rnd = self.random
        domain, asked = rnd.choice(DOMAINS), rnd.randrange(20, 4000)
        yield requests.RequestReceived(
            request=request, caller="cli", domain=domain, strategy="best_peer", policy="p2c_peak_ewma", fan_out=1,
            timeout_ms=60_000, content_digest=self._digest(), content_bytes=asked,
        )  # fmt: skip
        spent = 0.0
        for attempt in (1, 2, 3):
            peer = rnd.choice(self._peers)
            expert = rnd.choice(self._experts[peer])
            yield self._routed(request, attempt, peer, expert)
            yield requests.RequestDispatched(
                request=request, attempt=attempt, peer=peer, expert=expert, timeout_ms=60_000
            )
            took = round(rnd.lognormvariate(4, 0.8), 3)
            spent += took
            if rnd.random() < 0.05:
                yield requests.RequestAttemptFailed(
                    request=request, attempt=attempt, peer=peer, expert=expert, kind="disconnected",
                    message="the connection to the peer was lost", retryable=True, latency_ms=took,
                )  # fmt: skip
                continue
            digest, size = self._digest(), rnd.randrange(10, 9000)
            yield requests.RequestAnswered(
                request=request, attempt=attempt, peer=peer, expert=expert, model="smollm2-135m", latency_ms=took,
                first_token_ms=took / 4, tokens_in=asked // 4, tokens_out=size // 4, answer_bytes=size,
                answer_digest=digest, signature=f"{rnd.getrandbits(512):0128x}",
            )  # fmt: skip
            yield requests.RequestCompleted(
                request=request, strategy="best_peer", attempts=attempt, latency_ms=spent, answer_digest=digest,
                answer_bytes=size, winners=(f"{peer}/{expert}",), agreement=1.0,
            )  # fmt: skip
            return
        yield requests.RequestFailed(
            request=request, kind="disconnected", message="no expert answered", attempts=3, latency_ms=spent
        )

    def _routed(self, request: str, attempt: int, peer: str, expert: str) -> Fact:
        rivals = [peer, *self.random.sample(self._peers, 3)]
        scores = [{"peer": rival, "score": round(self.random.random(), 6)} for rival in rivals]
        return requests.RequestRouted(
            request=request, attempt=attempt, policy="p2c_peak_ewma", policy_version=1, as_of=self._count,
            inputs=msgspec.Raw(msgspec.json.encode({"request": request, "candidates": scores, "seed": attempt})),
            decision=msgspec.Raw(msgspec.json.encode({"chosen": [{"peer": peer, "expert": expert}], "scores": scores})),
        )  # fmt: skip

    def _health(self) -> Iterator[Told]:
        rnd = self.random
        if rnd.random() < 0.1:
            yield Told(
                health.NodeSampled(
                    cpu_percent=rnd.uniform(0, 100), memory_percent=rnd.uniform(20, 60), disk_percent=41.5,
                    open_files_percent=3.0, loop_lag_ms=rnd.expovariate(1), rss_bytes=rnd.randrange(10**8),
                    journal_backlog=rnd.randrange(50), requests_in_flight=rnd.randrange(20), queued=0,
                ),
                self.owner,
            )  # fmt: skip
            return
        peer, quiet = rnd.choice(self._peers), rnd.random() < 0.3
        yield Told(
            health.PeerSampled(
                peer=peer, latency_ms=rnd.lognormvariate(1, 0.5), jitter_ms=rnd.random(), loss=0.0,
                request_latency_ms=-1.0 if quiet else rnd.lognormvariate(4, 0.8), requests=0 if quiet else 7,
                success_rate=-1.0 if quiet else 0.95, throughput_bytes_s=rnd.uniform(0, 1e6),
                experts_offered=2, experts_available=2,
            ),
            peer,
        )  # fmt: skip
        if rnd.random() < 0.02:
            was, now = rnd.sample(("excellent", "good", "fair", "poor", "critical"), 2)
            yield Told(
                health.StatusChanged(
                    target=peer, target_kind="peer", previous=was, status=now, score=rnd.uniform(0, 100),
                    factors={"latency": rnd.random(), "loss": rnd.random()},
                ),
                peer,
            )  # fmt: skip

    def _offer(self) -> Iterator[Told]:
        rnd = self.random
        peer = rnd.choice(self._peers)
        expert = rnd.choice(self._experts[peer])
        if rnd.random() < 0.02:
            yield Told(experts.ExpertExpired(peer=peer, expert=expert, reason="not renewed in time"), peer)
            return
        yield Told(
            experts.ExpertOffered(
                peer=peer, expert=expert, model="smollm2-135m", domains=(expert, "language"), concurrency=4,
                queue_limit=64, in_flight=rnd.randrange(4), queued=rnd.randrange(3), available=rnd.random() < 0.95,
                quality=0.5, valid_s=30.0,
            ),
            peer,
        )  # fmt: skip

    def _network(self) -> Iterator[Told]:
        rnd = self.random
        peer = rnd.choice(self._peers)
        address = f"/ip4/10.0.0.{self._peers.index(peer) % 250 + 1}/tcp/4701"
        connection = self._connected.pop(peer, None)
        if connection is not None:
            yield Told(
                network.PeerDisconnected(
                    peer=peer, connection=connection, reason="reset", lasted_s=rnd.uniform(1, 1e4)
                ),
                peer,
            )
            return
        yield Told(network.PeerDiscovered(peer=peer, addresses=(address,), source="mdns"), peer)
        if rnd.random() < 0.2:
            yield Told(
                network.PeerDialFailed(peer=peer, addresses=(address,), error="refused", attempt=1, retry_in_s=0.5),
                peer,
            )
            return
        self._connected[peer] = connection = f"c{self._id()[-12:]}"
        yield Told(
            network.PeerConnected(
                peer=peer, connection=connection, address=address, transport="tcp", direction="outbound",
                security="/noise", muxer="/yamux/1.0.0", setup_ms=rnd.lognormvariate(2, 0.4),
            ),
            peer,
        )  # fmt: skip
        yield Told(
            network.PeerIdentified(
                peer=peer,
                agent="mesh/0.1.0",
                protocols=("/mesh/expert/1.0.0", "/ipfs/ping/1.0.0"),
                addresses=(address,),
            ),
            peer,
        )

    def _alert(self) -> Iterator[Told]:
        rnd = self.random
        target = rnd.choice(self._peers)
        alert = f"high_latency/{target}"
        common = {"alert": alert, "evidence": {"latency_ms": rnd.uniform(100, 900)}}
        rule = {"rule": "high_latency", "target": target, "severity": "warning", "summary": "slow answers"}
        step = self._alerts.get(alert, "")
        if step == "":
            self._alerts[alert] = "pending"
            yield Told(alerts.AlertPending(**common, **rule), alert)
        elif step == "pending":
            self._alerts[alert] = "raised"
            yield Told(alerts.AlertRaised(**common, **rule, held_s=60.0), alert)
        elif step == "raised":
            self._alerts[alert] = "acknowledged"
            yield Told(alerts.AlertAcknowledged(alert=alert, actor="operator", note=""), alert)
        else:
            self._alerts[alert] = ""
            yield Told(alerts.AlertResolved(**common, reason="back to normal", open_s=rnd.uniform(1, 900)), alert)

    def _bad_input(self) -> Iterator[Told]:
        peer = self.random.choice(self._peers)
        yield Told(network.PeerMisbehaved(peer=peer, address="", rule="frame_size", detail="9 MiB"), peer)


def records(count: int, seed: int = 1, peers: int = 50, restarts: float = 0.002) -> list[Record]:
    """The first ``count`` stored events of a history: a chain that verifies, 500 events a second."""
    history = History(seed, peers, restarts)
    made: list[Record] = []
    prev = chain.genesis(history.owner)
    for position, told in zip(range(1, count + 1), history.facts(), strict=False):
        record = encode(
            Event(
                position=position, prev=prev, id=f"{position:032x}", time=rfc3339(STARTED_AT + position / 500),
                origin=history.owner, origin_seq=position, subject=told.subject, correlation=told.correlation,
                causation="", fact=told.fact,
            )
        )  # fmt: skip
        prev = chain.link(prev, position, record.payload)
        made.append(record)
    return made
