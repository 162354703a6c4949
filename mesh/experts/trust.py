"""How the journal's facts change what is known of experts' honesty. Pure."""

from mesh.events.vocabulary import experts, requests
from mesh.experts.reliability import Reliability, checked, equivocated, voted

# How many peers are remembered; who was observed longest ago goes first.
REMEMBERED = 4096
Known = dict[str, dict[str, Reliability]]


def counted(known: Known, fact: requests.RequestCompleted) -> None:
    """A consensus came to an outcome: each vote was with it or against it. Who voted alone, agreed with nobody."""
    if fact.count is None or len(fact.votes) < 2:
        return
    for vote in fact.votes:
        voted(_of(known, vote.peer, vote.expert), agrees=vote.agrees)


def canary(known: Known, fact: requests.RequestCanaryChecked) -> None:
    """A known question was answered, or not; a double answer has a fact of its own."""
    if fact.outcome in ("passed", "failed"):
        checked(_of(known, fact.peer, fact.expert), passed=fact.outcome == "passed")


def proven(known: Known, fact: experts.ExpertEquivocated) -> None:
    """It said two things."""
    equivocated(_of(known, fact.peer, fact.expert))


def _of(known: Known, peer: str, expert: str) -> Reliability:
    reliabilities = known.pop(peer, {})
    known[peer] = reliabilities  # the last observed comes last
    if len(known) > REMEMBERED:
        del known[next(iter(known))]
    return reliabilities.setdefault(expert, Reliability())
