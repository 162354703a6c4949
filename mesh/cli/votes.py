"""How commands show the votes of a consensus."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mesh.cli.render import short_peer

if TYPE_CHECKING:
    from mesh.events.vocabulary.requests import Count, Vote
    from mesh.experts.queries import Outcome


def vote_line(vote: "Vote", who: str) -> str:
    """One vote, under the name of who gave it."""
    verdict = "agrees" if vote.agrees else "dissents"
    closeness = f", similarity {vote.similarity:.2f}" if vote.similarity < 1 else ""
    answer = vote.answer_digest[:16]
    return f"vote        {who}/{vote.expert} {verdict}, weight {vote.weight:g}{closeness}, answer {answer}"


def count_lines(count: "Count") -> Iterator[str]:
    """How they were counted, and who has no vote."""
    how = f"{count.agreement} from {count.threshold:g}" if count.threshold else count.agreement
    liars = f", {count.faults} may lie" if count.faults else ""
    yield (
        f"consensus   {count.support} of {count.asked} asked agree ({how}), {count.quorum} were needed{liars}; "
        f"weight {count.weight:g} against {count.against:g}"
    )
    for target in count.equivocated:
        yield f"no vote     {target} signed two different answers"
    for target in count.laggards:
        yield f"no vote     {target} had not answered when the outcome was certain"
    if count.note:
        yield f"note        {count.note}"


def print_votes(outcome: "Outcome") -> None:
    """The votes behind an answer, where there were any, to standard error."""
    if outcome.count is None:
        return
    for line in count_lines(outcome.count):
        print(line, file=sys.stderr)
    for vote in outcome.votes:
        print(vote_line(vote, short_peer(vote.peer)), file=sys.stderr)
