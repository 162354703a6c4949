"""What a relay gives to whom: reservations and circuits within limits. Pure: time is an argument, in seconds."""

from collections import Counter

import msgspec

from mesh.p2p.host.admission import Refusal, site_of


class RelayLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, seconds and bytes. A circuit's bytes are those of both directions together."""

    max_reservations: int
    max_reservations_per_address: int
    reservation_s: float
    max_circuits: int
    max_circuits_per_peer: int
    circuit_s: float
    circuit_bytes: int


class RelayBook:
    """Counts reservations and circuits."""

    def __init__(self, limits: RelayLimits) -> None:
        self.limits = limits
        self._until: dict[str, float] = {}
        self._sites: dict[str, str] = {}
        self._circuits: Counter[str] = Counter()
        self._open = 0

    @property
    def circuits(self) -> int:
        """Circuits that are open."""
        return self._open

    def reserved(self, peer: str, now: float) -> bool:
        """Whether the peer can be reached through us."""
        return self._until.get(peer, now) > now

    def reserve(self, peer: str, ip: str, now: float) -> Refusal | None:
        """Keep a place for ``peer`` for ``reservation_s`` from now, or say why not. Renewing needs no other place."""
        self._expire(now)
        if peer not in self._until:
            refusal = self._no_room(site_of(ip))
            if refusal is not None:
                return refusal
        self._until[peer] = now + self.limits.reservation_s
        self._sites[peer] = site_of(ip)
        return None

    def forget(self, peer: str) -> None:
        """The peer is not connected any more: nobody can reach it through us."""
        self._until.pop(peer, None)
        self._sites.pop(peer, None)

    def open(self, source: str, target: str) -> Refusal | None:
        """Count a circuit in, or say why not."""
        limits = self.limits
        if self._open + 1 > limits.max_circuits:
            return Refusal("relay_max_circuits", str(limits.max_circuits), str(self._open + 1))
        for peer in (source, target):
            if self._circuits[peer] + 1 > limits.max_circuits_per_peer:
                value = str(self._circuits[peer] + 1)
                return Refusal("relay_max_circuits_per_peer", str(limits.max_circuits_per_peer), value)
        self._open += 1
        self._circuits.update((source, target))
        return None

    def close(self, source: str, target: str) -> None:
        """A circuit that `open` counted has ended."""
        self._open -= 1
        for peer in (source, target):
            self._circuits[peer] -= 1
            if not self._circuits[peer]:
                del self._circuits[peer]

    def _no_room(self, site: str) -> Refusal | None:
        limits = self.limits
        if len(self._until) + 1 > limits.max_reservations:
            return Refusal("relay_max_reservations", str(limits.max_reservations), str(len(self._until) + 1))
        same = sum(other == site for other in self._sites.values())
        if same + 1 > limits.max_reservations_per_address:
            limit = str(limits.max_reservations_per_address)
            return Refusal("relay_reservations_per_address", limit, str(same + 1))
        return None

    def _expire(self, now: float) -> None:
        for peer in [peer for peer, until in self._until.items() if until <= now]:
            self.forget(peer)
