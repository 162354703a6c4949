"""The strategies. Adding one: its module, its line in STRATEGIES, its name in `mesh.config`."""

from mesh.experts.strategies.best_peer import BestPeer
from mesh.experts.strategies.consensus import Consensus
from mesh.experts.strategies.distributed import Distributed
from mesh.experts.strategies.local_only import LocalOnly
from mesh.experts.strategies.strategy import Result, Strategy

STRATEGIES: tuple[Strategy, ...] = (LocalOnly(), BestPeer(), Distributed(), Consensus())


def strategy_named(name: str) -> Strategy:
    """The strategy of that name; raises LookupError that lists the ones there are."""
    for strategy in STRATEGIES:
        if strategy.name == name:
            return strategy
    raise LookupError(f"{name!r} is not a strategy; there are {', '.join(one.name for one in STRATEGIES)}")


__all__ = ["STRATEGIES", "Result", "Strategy", "strategy_named"]
