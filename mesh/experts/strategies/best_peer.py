"""``best_peer``: the expert that the policy ranks first, this node's own among them; the next one where it fails."""

from mesh.experts.attempts import Attempts
from mesh.experts.known import Target
from mesh.experts.routing import RoutingDecision
from mesh.experts.strategies.failover import Failover
from mesh.experts.strategies.strategy import Result, result_of

_GONE = frozenset({"not_connected", "suspected", "down", "offer_expired"})


class BestPeer:
    """After the configured attempts, this node's own expert is the last resort, if it was not asked yet."""

    name = "best_peer"

    async def run(self, attempts: Attempts) -> Result:
        """See `Strategy.run`."""
        return await best_of(attempts)


async def best_of(attempts: Attempts, tried: tuple[Target, ...] = ()) -> Result:
    """The answer of the best expert that was not ``tried`` yet, or of this node's own. Raises QueryFailed."""
    failover = Failover(attempts, tried=tried)
    answered = await failover.answer(attempts.plan.attempts)
    if answered is not None:
        return result_of(answered, _fallback(attempts, failover.decision))
    if failover.decision is not None and failover.decision.chosen and attempts.plan.fallback != "off":
        reason = f"{len(failover.tried)} failed"
        last_resort = Failover(attempts, scope="local", tried=failover.tried, falls_back=reason)
        answered = await last_resort.answer(1)
        if answered is not None:
            return result_of(answered, f"local: after {reason}")
    raise failover.failure()


def _fallback(attempts: Attempts, decision: RoutingDecision | None) -> str:
    """Only this node was left, though others offer it: that is a fallback, and is said."""
    if decision is None or any(one.peer != attempts.local for one in decision.candidates):
        return ""
    lost = [one for one in decision.excluded if one.peer != attempts.local and one.reason in _GONE]
    return f"local: no other peer can be reached ({len(lost)} offered it)" if lost else ""
