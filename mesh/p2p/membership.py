"""Whom to be connected to, and when to dial whom next. Pure: time and randomness are given to it."""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from mesh.p2p.addresses import merged
from mesh.p2p.backoff import Backoff

# Both sides learn of each other at the same time: the smaller PeerId dials, the other gives it this long.
DEFER_S = 0.4
# A connection that held this long was a good one: the next pause is the shortest again.
SETTLED_S = 10.0
# Learned peers that cannot be reached so often in a row are forgotten until somebody finds them again.
GIVE_UP_ATTEMPTS = 30
MAX_PEERS = 4096


@dataclass
class Member:
    """What is known of one peer that we want to be connected to."""

    peer: str
    addresses: tuple[str, ...]
    static: bool
    backoff: Backoff
    due: float
    dialing: bool = False
    connected_at: float | None = None
    patience: int = GIVE_UP_ATTEMPTS


@dataclass
class Membership:
    """Every peer that this node keeps connected.

    ``admits(peer)``: whether the rules let it be dialled. ``room()``: for how many more peers there is; who is learned
    is dialled only while there is some.
    """

    own: str
    redial_min_s: float
    redial_max_s: float
    rng: random.Random
    members: dict[str, Member] = field(default_factory=dict)
    admits: Callable[[str], bool] = lambda _peer: True
    room: Callable[[], int] = lambda: MAX_PEERS

    def learn(
        self,
        peer: str,
        addresses: Sequence[str],
        now: float,
        *,
        static: bool = False,
        patience: int = GIVE_UP_ATTEMPTS,
        within_s: float = 0.0,
    ) -> bool:
        """The peer can be had at these addresses; returns whether that is news.

        A peer that could not be reached before is tried again at once when an address is new. A new one is dialled at
        some time ``within_s``, and forgotten when ``patience`` dials in a row have failed.
        """
        if peer == self.own or not addresses:
            return False
        member = self.members.get(peer)
        if member is None:
            if len(self.members) >= MAX_PEERS and not static:
                return False
            backoff = Backoff(self.redial_min_s, self.redial_max_s, self.rng)
            due = now + self._deference(peer) + (self.rng.uniform(0.0, within_s) if within_s else 0.0)
            self.members[peer] = Member(peer, merged((), addresses), static, backoff, due, patience=patience)
            return True
        known = member.addresses
        member.addresses = merged(known, addresses)
        member.static = member.static or static
        if set(member.addresses) <= set(known):
            return False
        member.backoff.succeed()
        member.due = min(member.due, now + self._deference(peer))
        return True

    def forget(self, peer: str) -> None:
        """Don't keep the peer connected any more; static ones stay."""
        member = self.members.get(peer)
        if member is not None and not member.static:
            del self.members[peer]

    def take_due(self, now: float) -> list[Member]:
        """Who is to be dialled now; each counts as being dialled until `failed` or `connected` says otherwise."""
        due, room = [], self._room()
        for member in self._waiting():
            if member.due <= now and (member.static or room > 0):
                room -= 1
                member.dialing = True
                due.append(member)
        return due

    def next_due(self) -> float | None:
        """When `take_due` has something next; None: not before something else happens."""
        room = self._room()
        return min((member.due for member in self._waiting() if member.static or room > 0), default=None)

    def admit_again(self, peers: Collection[str], now: float) -> None:
        """The rules let these be dialled from now on, and did not before."""
        for member in map(self.members.get, peers):
            if member is not None and member.connected_at is None:
                member.backoff.succeed()
                member.due = now + self._deference(member.peer)

    def _waiting(self) -> list[Member]:
        return [
            member
            for member in self.members.values()
            if not member.dialing and member.connected_at is None and self.admits(member.peer)
        ]

    def _room(self) -> int:
        return self.room() - sum(member.dialing for member in self.members.values())

    def failed(self, peer: str, now: float) -> tuple[int, float]:
        """The dial failed; returns how many did in a row, and the seconds until the next (0: none is planned)."""
        member = self.members.get(peer)
        if member is None:
            return 1, 0.0
        member.dialing = False
        pause = member.backoff.fail()
        if member.backoff.attempt >= member.patience and not member.static:
            del self.members[peer]
            return member.backoff.attempt, 0.0
        member.due = now + pause
        return member.backoff.attempt, pause

    def not_dialed(self, peer: str, now: float) -> None:
        """The dial could not even be tried, through no fault of the peer."""
        member = self.members.get(peer)
        if member is not None:
            member.dialing = False
            member.due = max(member.due, now + self.redial_min_s)  # it may have come, been refused and gone

    def connected(self, peer: str, now: float) -> None:
        """There is a connection, whoever made it."""
        member = self.members.get(peer)
        if member is not None:
            member.dialing = False
            member.connected_at = now
            member.patience = GIVE_UP_ATTEMPTS

    def disconnected(self, peer: str, now: float, *, penalty_s: float = 0.0) -> None:
        """There is none any more. ``penalty_s``: the peer did not deserve it, and is not dialled again for so long."""
        member = self.members.get(peer)
        if member is None or member.connected_at is None:
            return
        if now - member.connected_at >= SETTLED_S:
            member.backoff.succeed()
        member.connected_at = None
        pause = penalty_s or member.backoff.fail()
        member.due = now + pause + self._deference(peer)

    def overlay_restarted(self, now: float) -> None:
        """The connections were lost through no fault of the peers: dial all of them at once."""
        for member in self.members.values():
            member.backoff.succeed()
            if member.connected_at is None:
                member.due = now

    def _deference(self, peer: str) -> float:
        return 0.0 if self.own < peer else DEFER_S
