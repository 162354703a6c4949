"""``high_latency``: heartbeats to a peer take too long."""

from collections.abc import Iterator
from statistics import median

from mesh.health.records import PeerHealth
from mesh.health.rules.rule import Finding, Rule, short
from mesh.health.state import HealthState

# One slow heartbeat is no news: the median over this many samples is looked at.
SAMPLES = 3


def find(state: HealthState, now: float) -> Iterator[Finding]:
    """One finding for each peer; what a peer that is gone would have answered is nobody's concern."""
    del now
    for name, peer in state.peers.items():
        if peer.gone_since > state.started_at:
            yield Finding(name, 0.0, f"peer {short(name)} is gone")
            continue
        latency = _latency(peer, state.started_at)
        text = f"peer {short(name)} answers heartbeats in {latency or 0:.0f} ms"
        yield Finding(name, latency, text, {} if latency is None else {"latency_ms": round(latency, 3)})


def _latency(peer: PeerHealth, started_at: float) -> float | None:
    since = max(peer.connected_since, started_at)
    known = [sample.latency_ms for at, sample in peer.samples if at >= since and sample.latency_ms >= 0]
    return median(known[-SAMPLES:]) if known else None


RULE = Rule(
    name="high_latency",
    about=f"The median heartbeat round trip of the last {SAMPLES} samples of a peer is too long",
    severity="warning",
    threshold=250.0,
    unit="ms",
    clear_ratio=0.8,
    for_s=60.0,
    find=find,
)
