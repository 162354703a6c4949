"""Counting answers: when are two the same, and when is the outcome certain. Pure.

One vote a peer. With ``3f + 1`` peers asked and a majority needed, ``f`` that lie change nothing: they can neither
gather a majority nor, while the others agree, prevent one.
"""

import json
import re
import unicodedata
from decimal import Decimal, InvalidOperation
from hashlib import sha256

import msgspec

from mesh.events.vocabulary.requests import Vote
from mesh.experts.known import Target

_NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?([eE][+-]?\d{1,4})?")
_LAST_MARKS = " \t\n.!。"
# Longer texts are compared as they are: no parser is let loose on them.
_MAX_PARSED = 100_000
_SIGNIFICANT_DIGITS = 12


class Ballot(msgspec.Struct, frozen=True, kw_only=True):
    """A signed answer that counts. ``rank`` is its expert's place in the routing decision, the first is 0."""

    rank: int
    target: Target
    text: str
    digest: str
    group: str


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The count. ``leader`` is the largest group (the better ranked one among equals); empty without votes."""

    leader: str
    support: int
    quorum: int
    cast: int
    outstanding: int

    @property
    def decided(self) -> bool:
        """The leader has its quorum: with a majority needed, no vote still to come can change the outcome."""
        return self.support >= self.quorum

    @property
    def hopeless(self) -> bool:
        """Not even all votes still to come could give any group its quorum."""
        return self.support + self.outstanding < self.quorum


def majority(asked: int) -> int:
    """The least number of votes that is more than half of ``asked``."""
    return asked // 2 + 1


def group_of(text: str) -> str:
    """The digest of what an answer says: equal for answers that differ only in how they are written."""
    return sha256(normalise(text).encode("utf-8", "surrogatepass")).hexdigest()


def normalise(text: str) -> str:
    """An answer without its dress: a number as a number, JSON as a value, else text without case and spacing."""
    plain = unicodedata.normalize("NFKC", text).strip()
    if len(plain) <= _MAX_PARSED:
        number = _number(plain)
        if number is not None:
            return f"number:{number}"
        value = _json(plain)
        if value is not None:
            return f"json:{value}"
    return "text:" + " ".join(plain.casefold().split()).rstrip(_LAST_MARKS)


def _number(plain: str) -> str | None:
    bare = plain.rstrip(_LAST_MARKS)
    if not bare or not any(mark.isdigit() for mark in bare) or not _NUMBER.fullmatch(bare):
        return None
    return _canonical(bare.replace(",", ""))


def _canonical(number: str) -> str | None:
    try:
        value = Decimal(number)
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    rounded = Decimal(f"{value:.{_SIGNIFICANT_DIGITS - 1}e}")
    return "0" if rounded == 0 else f"{rounded.normalize():e}"


def _json(plain: str) -> str | None:
    if plain[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(plain, parse_int=_canonical_or_text, parse_float=_canonical_or_text)
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None


def _canonical_or_text(number: str) -> str:
    """A number inside JSON, kept apart from the string that looks the same."""
    return f"\0number:{_canonical(number) or number}"


def tally(ballots: list[Ballot], *, quorum: int, outstanding: int) -> Tally:
    """Count the ballots cast so far, while ``outstanding`` experts have yet to answer."""
    support: dict[str, int] = {}
    best_rank: dict[str, int] = {}
    for ballot in ballots:
        support[ballot.group] = support.get(ballot.group, 0) + 1
        best_rank[ballot.group] = min(ballot.rank, best_rank.get(ballot.group, ballot.rank))
    leader = min(support, key=lambda group: (-support[group], best_rank[group]), default="")
    return Tally(
        leader=leader,
        support=support.get(leader, 0),
        quorum=quorum,
        cast=len(ballots),
        outstanding=outstanding,
    )


def votes_of(ballots: list[Ballot], winner: str) -> tuple[Vote, ...]:
    """The record of every vote, the dissent included, in the order of the decision's ranking."""
    return tuple(
        Vote(
            peer=ballot.target.peer,
            expert=ballot.target.expert,
            answer_digest=ballot.digest,
            group=ballot.group,
            agrees=ballot.group == winner,
        )
        for ballot in sorted(ballots, key=lambda ballot: ballot.rank)
    )
