"""Who may connect: pure rules over counts and rates. Strangers are counted before the first byte is read."""

import ipaddress
from collections import Counter
from dataclasses import dataclass

from mesh.p2p.host.limits import Limits

_MAX_BUCKETS = 4096
_SWEEP_EVERY_S = 1.0
_EVERYBODY_ELSE = "*"
_IPV6_SITE_BITS = 64


@dataclass(frozen=True)
class Refusal:
    """The rule that turned somebody away, its limit, and the value that broke it."""

    rule: str
    limit: str
    value: str


class Admission:
    """Counts inbound connections and handshakes, in all and by address, and the rate at which an address connects."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open = 0
        self._handshakes: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}
        self._swept_at = -_SWEEP_EVERY_S

    @property
    def inbound(self) -> int:
        """Inbound connections, those in their handshake included."""
        return self._open

    def arrive(self, ip: str, now: float, *, outbound: int) -> Refusal | None:
        """Count in a connection from ``ip`` and return None, or say why not. ``now`` is in seconds."""
        site = site_of(ip)
        refusal = self._refusal(site, now, outbound)
        if refusal is None:
            self._open += 1
            self._handshakes[site] += 1
        return refusal

    def settled(self, ip: str) -> None:
        """The handshake that `arrive` counted is over, well or not."""
        site = site_of(ip)
        self._handshakes[site] -= 1
        if self._handshakes[site] <= 0:
            del self._handshakes[site]

    def leave(self) -> None:
        """A connection that `arrive` counted is closed."""
        self._open -= 1

    def _refusal(self, site: str, now: float, outbound: int) -> Refusal | None:
        limits = self._limits
        total, pending = self._open + 1, self._handshakes.total() + 1
        if self._open + 1 > limits.max_inbound:
            return Refusal("max_inbound", str(limits.max_inbound), str(self._open + 1))
        if total + outbound > limits.max_connections:
            return Refusal("max_connections", str(limits.max_connections), str(total + outbound))
        if self._handshakes[site] + 1 > limits.max_handshakes_per_address:
            value = str(self._handshakes[site] + 1)
            return Refusal("handshakes_per_address", str(limits.max_handshakes_per_address), value)
        if pending > limits.max_handshakes:
            return Refusal("handshakes", str(limits.max_handshakes), str(pending))
        if not self._take(site, now):
            rate = f"{limits.inbound_per_address_per_s:g}/s, burst {limits.inbound_burst}"
            return Refusal("inbound_per_address_per_s", rate, "over")
        return None

    def _take(self, site: str, now: float) -> bool:
        rate, burst = self._limits.inbound_per_address_per_s, float(self._limits.inbound_burst)
        if site not in self._buckets and len(self._buckets) >= _MAX_BUCKETS:
            self._sweep(now)
            site = site if len(self._buckets) < _MAX_BUCKETS else _EVERYBODY_ELSE
        tokens, filled_at = self._buckets.get(site, (burst, now))
        tokens = min(burst, tokens + (now - filled_at) * rate)
        self._buckets[site] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def _sweep(self, now: float) -> None:
        if now - self._swept_at < _SWEEP_EVERY_S:
            return
        self._swept_at = now
        rate, burst = self._limits.inbound_per_address_per_s, float(self._limits.inbound_burst)
        self._buckets = {
            site: (tokens, filled_at)
            for site, (tokens, filled_at) in self._buckets.items()
            if tokens + (now - filled_at) * rate < burst
        }


def site_of(ip: str) -> str:
    """What one party can hold: the IPv4 address, the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False))
    return str(address)
