"""What the journal says about health: the live state that statuses and alerts are decided from.

`HealthState` folds this node's own events and nothing else, so that after a restart the journal gives back the
statuses, the open alerts and the samples of before. Time enters only as the time of an event, or as an argument.
"""

from collections.abc import Mapping
from hashlib import sha256

import msgspec

from mesh.events.envelope import Event
from mesh.health.folds import FOLDS
from mesh.health.records import COUNTS_AFTER_S, START_GRACE_S, Alert, Offer, PeerHealth, Watched


class HealthState(Watched):
    """The health of everything that the node watches, as a pure fold of its journal."""

    def apply(self, event: Event) -> None:
        """Fold one event; events must come in the order of the journal."""
        self.position = event.position
        fold = FOLDS.get(type(event.fact))
        if fold is not None and event.origin == self.node:
            fold(self, event, event.fact)

    def snapshot(self) -> bytes:
        """The whole state as JSON; equal states give equal bytes, also where one holds 5 and the other 5.0."""
        read_back = msgspec.json.decode(msgspec.json.encode(self), type=HealthState)
        return msgspec.json.encode(read_back, order="deterministic")

    @classmethod
    def restore(cls, snapshot: bytes) -> "HealthState":
        """The inverse of `snapshot`. Raises msgspec.ValidationError for anything else."""
        return msgspec.json.decode(snapshot, type=cls)

    def digest(self) -> str:
        """SHA-256 of `snapshot`, in hex."""
        return sha256(self.snapshot()).hexdigest()

    def open_alerts(self) -> Mapping[str, Alert]:
        """Alerts that are raised or acknowledged, by id; a pending one is not an alert yet."""
        return {name: alert for name, alert in self.alerts.items() if alert.phase != "pending"}

    def here(self, peer: str) -> bool:
        """Whether the peer can be reached now, as far as is known; this node always can."""
        if peer == self.node:
            return True
        known = self.peers.get(peer)
        return known is not None and known.connected and not known.down

    def counts_from(self, peer: str) -> float:
        """From when on the connection to a peer that is here counts, if it lasts; our own at once."""
        return self.started_at if peer == self.node else self.peers[peer].connected_since + COUNTS_AFTER_S

    @property
    def grace_until(self) -> float:
        """Until when what was there before this start may still come back without being missed."""
        return self.started_at + START_GRACE_S

    def missed_since(self, peer: PeerHealth) -> float:
        """From when on a peer that is gone is missed: at once, or after the grace when it was gone at the start."""
        return peer.gone_since if peer.gone_since > self.started_at else self.grace_until

    def believed_until(self, peer: str, offer: Offer) -> float:
        """When an offer of a peer that is here must have been renewed; a fresh connection starts it anew."""
        if peer == self.node or not offer.valid_s:
            return float("inf")
        return max(offer.at, self.peers[peer].connected_since) + offer.valid_s

    def live(self, peer: str, offer: Offer, now: float) -> bool:
        """Whether the expert can be asked: its peer is here, the offer holds, and says that it is available."""
        if not self.here(peer) or not offer.available:
            return False
        return not offer.expired_at and now <= self.believed_until(peer, offer)

    def availability(self, peer: str, now: float) -> tuple[int, int]:
        """How many experts the peer offers, and how many of them can be asked."""
        offers = self.experts.get(peer, {}).values()
        return sum(not o.expired_at for o in offers), sum(self.live(peer, o, now) for o in offers)
