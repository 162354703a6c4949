"""How the votes of one request are to be counted: the caller's choices with the configuration's filled in. Pure."""

import msgspec

from mesh.config import Agreement, ConsensusConfig
from mesh.experts.consensus import byzantine, majority
from mesh.experts.queries import Query


class Voting(msgspec.Struct, frozen=True, kw_only=True):
    """``agreement`` is how answers are compared, but in ``domains``, where the caller chose nothing."""

    fan_out: int
    quorum: int
    faults: int = 0
    agreement: Agreement = "normalised"
    domains: dict[str, Agreement] = {}
    threshold: float = 0.0
    repeat: int = 1

    def agreement_in(self, domain: str) -> Agreement:
        """How answers of a domain are compared."""
        return self.domains.get(domain, self.agreement)


def make_voting(query: Query, strategy: str, fan_out: int, config: ConsensusConfig) -> Voting:
    """What a consensus of this query needs; ``fan_out`` is the configured one.

    Raises ValueError for choices that contradict each other.
    """
    if strategy != "consensus":
        _refuse_votes(query, strategy)
        return Voting(fan_out=query.fan_out or fan_out, quorum=1)
    faults = query.faults or (0 if query.fan_out or query.quorum else config.faults)
    asked, needed = _numbers(query, faults, fan_out)
    return Voting(
        fan_out=asked,
        quorum=needed,
        faults=faults,
        agreement=query.agreement or config.agreement,
        domains={} if query.agreement else config.domains,
        threshold=query.threshold or config.threshold,
        repeat=query.repeat or config.repeat,
    )


def _numbers(query: Query, faults: int, fan_out: int) -> tuple[int, int]:
    if faults:
        asked, needed = byzantine(faults)
        if query.quorum or (query.fan_out and query.fan_out < asked):
            raise ValueError(
                f"faults = {faults} asks {asked} or more and needs {needed} equal answers: leave quorum out, "
                f"and fan_out too or at {asked} or more"
            )
        # With more than 3f+1 the quorum stays a majority, so that no two groups can have it.
        return max(asked, query.fan_out), max(needed, majority(query.fan_out))
    asked = query.fan_out or fan_out
    if query.quorum > asked:
        raise ValueError(f"a quorum of {query.quorum} needs a fan_out of as many or more; it is {asked}")
    return asked, query.quorum or majority(asked)


def _refuse_votes(query: Query, strategy: str) -> None:
    for name in ("quorum", "faults", "agreement", "threshold", "repeat"):
        if getattr(query, name):
            value = getattr(query, name)
            raise ValueError(f"{name} = {value!r} needs the strategy consensus; the strategy is {strategy}")
