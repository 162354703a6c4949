"""What is done when a strategy cannot be followed: consensus → best_peer → local → a clear error, each step recorded.

`distributed` and `best_peer` know their own next steps. A consensus that could not be *held* falls back only where the
caller or the operator says so (``fallback = "on"``): one answer is not what several agree on, and is said to be less.
One that was held and came to nothing never does: then there are answers, and they contradict each other. All of that
happens in the default domain once more, where the domain was a wrong guess (`mesh.experts.strategies.guess`).
"""

import msgspec

from mesh.experts.attempts import Attempts
from mesh.experts.queries import QueryFailed
from mesh.experts.strategies import Result, strategy_named
from mesh.experts.strategies.best_peer import best_of
from mesh.experts.strategies.guess import past_the_guess

# What no other expert would do better, or nobody waits for any more.
_FINAL = frozenset({"invalid", "cancelled", "expired", "no_candidates", "lacks_feature", "broken_stream"})


async def run_strategy(attempts: Attempts) -> Result:
    """The result of the plan's strategy, or of what it falls back to. Raises QueryFailed."""
    return await past_the_guess(attempts, _follow)


async def _follow(attempts: Attempts) -> Result:
    try:
        return await strategy_named(attempts.plan.strategy).run(attempts)
    except QueryFailed as failure:
        if not _may_be_less(attempts, failure):
            raise
        attempts.fell_back("best_peer", failure.message)
        result = await best_of(attempts)
        return msgspec.structs.replace(result, fallback=f"best_peer: no consensus, {failure.message}", agreement=0.0)


def _may_be_less(attempts: Attempts, failure: QueryFailed) -> bool:
    contradicted = len({vote.group for vote in failure.votes}) > 1
    wanted = attempts.plan.strategy == "consensus" and attempts.plan.fallback == "on"
    return wanted and not contradicted and failure.kind not in _FINAL
