"""The policies that rank candidates. Adding one: its module, its line in POLICIES, its name in `mesh.config`."""

from mesh.experts.policies.cost_aware import CostAware
from mesh.experts.policies.latency_aware import LatencyAware
from mesh.experts.policies.least_in_flight import LeastInFlight
from mesh.experts.policies.p2c_peak_ewma import PeakEwmaOfTwo
from mesh.experts.policies.policy import Policy, Ranked
from mesh.experts.policies.round_robin import RoundRobin
from mesh.experts.policies.sticky import Sticky
from mesh.experts.policies.weighted import Weighted

POLICIES: tuple[Policy, ...] = (
    PeakEwmaOfTwo(),
    Weighted(),
    RoundRobin(),
    LeastInFlight(),
    Sticky(),
    LatencyAware(),
    CostAware(),
)


def policy_named(name: str) -> Policy:
    """The policy of that name; raises LookupError that lists the ones there are."""
    for policy in POLICIES:
        if policy.name == name:
            return policy
    raise LookupError(f"{name!r} is not a policy; there are {', '.join(policy.name for policy in POLICIES)}")


__all__ = ["POLICIES", "Policy", "Ranked", "policy_named"]
