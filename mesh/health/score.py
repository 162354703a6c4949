"""The score: how well a target is, 0 to 1, from one sample. Pure; the curves are documented in docs/health.md.

Each factor maps one measured value to 0..1 along a piecewise-linear curve that never rises as the value gets
worse. The score is that of the worst factor, so that a full disk cannot hide behind an idle processor and the
status always has a name to it. What was not measured (-1) does not count.
"""

from collections.abc import Mapping

from mesh.events.vocabulary.health import NodeSampled, PeerSampled

Curve = tuple[tuple[float, float], ...]

# (value, factor), in the order of the values; flat before the first point and after the last.
NODE_CURVES: Mapping[str, Curve] = {
    "cpu": ((70, 1.0), (90, 0.8), (100, 0.6)),
    "memory": ((75, 1.0), (90, 0.6), (97, 0.25), (100, 0.0)),
    "disk": ((75, 1.0), (90, 0.55), (97, 0.2), (100, 0.0)),
    "open_files": ((60, 1.0), (80, 0.6), (95, 0.2), (100, 0.0)),
    "loop_lag": ((20, 1.0), (100, 0.7), (500, 0.3), (2000, 0.0)),
    "backlog": ((1_000, 1.0), (10_000, 0.6), (50_000, 0.2), (200_000, 0.0)),
}
PEER_CURVES: Mapping[str, Curve] = {
    "latency": ((50, 1.0), (150, 0.8), (400, 0.5), (1000, 0.2), (3000, 0.0)),
    "jitter": ((20, 1.0), (100, 0.7), (500, 0.3), (2000, 0.1)),
    "loss": ((0.0, 1.0), (0.01, 0.95), (0.05, 0.75), (0.2, 0.4), (0.5, 0.1), (1.0, 0.0)),
    "success": ((0.0, 0.0), (0.5, 0.2), (0.8, 0.5), (0.95, 0.85), (1.0, 1.0)),
    "availability": ((0.0, 0.3), (1.0, 1.0)),
}
UNITS: Mapping[str, str] = {
    "cpu": "% busy",
    "memory": "% used",
    "disk": "% used",
    "open_files": "% of the limit",
    "loop_lag": "ms",
    "backlog": "events",
    "latency": "ms",
    "jitter": "ms",
    "loss": "share lost",
    "success": "share answered",
    "availability": "share available",
}
# Fewer requests than this in an interval say nothing about the success rate.
MIN_REQUESTS = 5
UNKNOWN = -1.0


def factor(curve: Curve, value: float) -> float:
    """The value of a curve at ``value``, by linear interpolation."""
    left = curve[0]
    if value <= left[0]:
        return left[1]
    for right in curve[1:]:
        if value <= right[0]:
            part = left[1] + (right[1] - left[1]) * (value - left[0]) / (right[0] - left[0])
            return min(max(part, min(left[1], right[1])), max(left[1], right[1]))
        left = right
    return left[1]


def node_factors(sample: NodeSampled) -> dict[str, float]:
    """The known factors of the node's own sample."""
    return _factors(
        NODE_CURVES,
        {
            "cpu": sample.cpu_percent,
            "memory": sample.memory_percent,
            "disk": sample.disk_percent,
            "open_files": sample.open_files_percent,
            "loop_lag": sample.loop_lag_ms,
            "backlog": sample.journal_backlog,
        },
    )


def peer_factors(sample: PeerSampled) -> dict[str, float]:
    """The known factors of a peer's sample."""
    offered, available = sample.experts_offered, sample.experts_available
    return _factors(
        PEER_CURVES,
        {
            "latency": sample.latency_ms,
            "jitter": sample.jitter_ms,
            "loss": sample.loss,
            "success": sample.success_rate if sample.requests >= MIN_REQUESTS else UNKNOWN,
            "availability": available / offered if offered > 0 else UNKNOWN,
        },
    )


def score(factors: Mapping[str, float]) -> float:
    """The worst factor; UNKNOWN (-1) when there is none."""
    return min(factors.values(), default=UNKNOWN)


def _factors(curves: Mapping[str, Curve], values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(factor(curve, values[name]), 4) for name, curve in curves.items() if values[name] >= 0}
