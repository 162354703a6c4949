"""The trend of every measured value of a target, and when the ones that have an end will reach it."""

from collections.abc import Mapping, Sequence
from operator import attrgetter

from msgspec.structs import fields

from mesh.events.vocabulary.health import NodeSampled, PeerSampled
from mesh.health.trend import Forecast, Trend, forecast, trend

# Where a value cannot go on, or the node cannot go on with it.
LIMITS: Mapping[str, float] = {"memory_percent": 100.0, "disk_percent": 100.0, "open_files_percent": 100.0}

Samples = Sequence[tuple[float, NodeSampled]] | Sequence[tuple[float, PeerSampled]]


def trends(samples: Samples) -> dict[str, Trend]:
    """The trend of each value that was measured (not -1) often enough."""
    if not samples:
        return {}
    names = [field.name for field in fields(samples[-1][1]) if field.type in (int, float)]
    found = {name: _trend_of(samples, name) for name in names}
    return {name: of for name, of in found.items() if of is not None}


def forecast_of(samples: Samples, name: str) -> Forecast | None:
    """When a value of `LIMITS` will be at its limit, where its trend leaves no doubt about the direction."""
    of = _trend_of(samples, name)
    return forecast(of, LIMITS[name]) if of is not None else None


def span(seconds: float) -> str:
    """A duration for people, in its largest fitting unit: ``90 s``, ``6 h``, ``12 d``."""
    for unit, length, least in (("d", 86400.0, 2), ("h", 3600.0, 2), ("min", 60.0, 2)):
        if seconds >= least * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _trend_of(samples: Samples, name: str) -> Trend | None:
    value = attrgetter(name)
    return trend([(at, float(value(sample))) for at, sample in samples if value(sample) >= 0])
