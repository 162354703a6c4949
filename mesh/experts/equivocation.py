"""Proofs that an expert signed two different answers to one request. Pure."""

from typing import Protocol

from mesh.events.vocabulary.experts import ExpertEquivocated, SignedAnswer
from mesh.experts.answers import verify_answer
from mesh.experts.known import Target


class Verify(Protocol):
    """`mesh.experts.answers.verify_answer`."""

    def __call__(self, peer_id: str, signature: str, *, request: str, expert: str, model: str, digest: str) -> bool:
        """Whether the signature is that of the peer over just this answer."""
        ...


class Statements:
    """The first answer that each expert signed for one request."""

    def __init__(self, request: str, verify: Verify = verify_answer) -> None:
        self._request = request
        self._verify = verify
        self._first: dict[Target, SignedAnswer] = {}

    def add(self, target: Target, answer: SignedAnswer) -> ExpertEquivocated | None:
        """Hold an answer against the expert's first; the proof where it says something else."""
        first = self._first.setdefault(target, answer)
        if first.answer_digest == answer.answer_digest:
            return None
        proof = ExpertEquivocated(
            peer=target.peer, expert=target.expert, request=self._request, first=first, second=answer
        )
        return proof if proves(proof, self._verify) else None


def proves(fact: ExpertEquivocated, verify: Verify = verify_answer) -> bool:
    """Whether the fact proves what it says: two answers that differ, both signed by the peer for this request."""
    if fact.first.answer_digest == fact.second.answer_digest:
        return False
    return all(
        verify(
            fact.peer,
            answer.signature,
            request=fact.request,
            expert=fact.expert,
            model=answer.model,
            digest=answer.answer_digest,
        )
        for answer in (fact.first, fact.second)
    )
