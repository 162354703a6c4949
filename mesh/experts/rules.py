"""What the operator allows around a decision. Recorded with every decision, so that it can be made again. Pure."""

import msgspec


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """``[routing]`` as far as decisions depend on it; `mesh.config.RoutingConfig` says what each one means."""

    retry_budget: float = 0.1
    retry_reserve: float = 10.0
    breaker_failures: int = 5
    eject_failing: float = 0.25
    eject_slower: float = 8.0
    eject_s: float = 5.0
    eject_max_s: float = 300.0
    max_ejected: float = 0.5
    slow_start_s: float = 10.0
