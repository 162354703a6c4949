"""When a policy that has a favourite of its own looks further. Pure."""

from mesh.experts.candidates import HEALTH_FACTOR, Features

# So much of what an expert can hold is in use, or so little of its merit is left, that another one is better.
MAX_LOAD = 0.8
MIN_MERIT = 0.5


def strain(features: Features) -> str:
    """Why not to insist on it, in a few words, or nothing."""
    if features.load >= MAX_LOAD:
        return f"{features.load:.0%} full"
    merit = features.success * HEALTH_FACTOR.get(features.status, 1.0)
    return f"ill: {merit:.2f}" if merit < MIN_MERIT else ""
