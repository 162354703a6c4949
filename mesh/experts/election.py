"""One election: who was asked, who voted for what, and what follows from it. Pure: it asks nobody."""

from collections.abc import Iterable, Iterator, Mapping

from mesh.events.vocabulary.requests import Count, RequestDissented
from mesh.experts.consensus import Ballot, Tally, exact_group, group_of, tally
from mesh.experts.known import Target
from mesh.experts.meaning import clustered, spokesman
from mesh.experts.voting import Voting


class Election:
    """Tell it who is asked and what they say; it knows when the outcome `is_certain`, and whose it is."""

    def __init__(self, voting: Voting, domain: str) -> None:
        self._voting = voting
        self._agreement = voting.agreement_in(domain)
        self._weights: list[float] = []
        self._open: set[int] = set()
        self.asked: tuple[Target, ...] = ()
        self.ballots: list[Ballot] = []
        self.equivocated: tuple[Target, ...] = ()
        self.laggards: tuple[Target, ...] = ()
        self.note = ""

    @property
    def by_meaning(self) -> bool:
        """Whether ballots need the vectors of their texts."""
        return self._agreement == "semantic"

    def is_certain(self) -> bool:
        """Whether nothing that is still to come can change the outcome."""
        found = self.tally
        if self.by_meaning and self._open:  # what comes may lie between what is apart, and join it
            return found.decided or found.cast + found.outstanding < found.quorum
        return found.decided or found.hopeless

    @property
    def tally(self) -> Tally:
        """The count as it stands."""
        waiting = sum(self._weights[rank] for rank in sorted(self._open))
        return tally(self.ballots, quorum=self._voting.quorum, outstanding=len(self._open), waiting=waiting)

    def ask(self, target: Target, weight: float) -> int:
        """Somebody more is asked; returns the rank."""
        rank = len(self.asked)
        self.asked += (target,)
        self._weights.append(weight)
        self._open.add(rank)
        return rank

    def cast(self, rank: int, text: str, digest: str, vector: tuple[float, ...] = ()) -> None:
        """Somebody answered."""
        self._open.discard(rank)
        group = exact_group(text) if self._agreement == "exact" else group_of(text)
        ballot = Ballot(
            rank=rank,
            target=self.asked[rank],
            text=text,
            digest=digest,
            group=group,
            weight=self._weights[rank],
            vector=vector,
        )
        self.ballots.append(ballot)
        if self.by_meaning:
            self.ballots = clustered(self.ballots, self._voting.threshold)

    def failed(self, rank: int) -> None:
        """Somebody gave no answer, and has no vote."""
        self._open.discard(rank)

    def said_two_things(self, rank: int) -> None:
        """Somebody signed two different answers, and has no vote."""
        self._open.discard(rank)
        self.equivocated += (self.asked[rank],)

    def close(self, open_ranks: Iterable[int]) -> None:
        """The outcome is certain; who has not answered is too late."""
        self.laggards = tuple(self.asked[rank] for rank in sorted(open_ranks))

    def winners(self) -> list[int]:
        """The ranks of the leading group, first the one whose words stand for it."""
        group = [ballot for ballot in self.ballots if ballot.group == self.tally.leader]
        first = spokesman(group).rank if self.by_meaning else min(ballot.rank for ballot in group)
        return [first, *sorted(ballot.rank for ballot in group if ballot.rank != first)]

    def count(self) -> Count:
        """What the journal keeps of the counting."""
        found = self.tally
        return Count(
            agreement=self._agreement,
            threshold=self._voting.threshold if self.by_meaning else 0.0,
            faults=self._voting.faults,
            asked=len(self.asked),
            quorum=self._voting.quorum,
            support=found.support,
            weight=found.weight,
            against=found.against,
            laggards=tuple(str(target) for target in self.laggards),
            equivocated=tuple(str(target) for target in self.equivocated),
            note=self.note,
        )


def dissents(request: str, election: Election, answers: Mapping[int, tuple[str, str]]) -> Iterator[RequestDissented]:
    """A fact for each vote against the outcome; ``answers`` are model and signature by rank."""
    for ballot in sorted(election.ballots, key=lambda ballot: ballot.rank):
        if ballot.group == election.tally.leader:
            continue
        model, signature = answers[ballot.rank]
        yield RequestDissented(
            request=request,
            peer=ballot.target.peer,
            expert=ballot.target.expert,
            model=model,
            answer_digest=ballot.digest,
            signature=signature,
            group=ballot.group,
            outcome=election.tally.leader,
        )


__all__ = ["Election", "dissents"]
