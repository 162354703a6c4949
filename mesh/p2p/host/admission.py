"""Who may connect: pure rules over counts and rates. Strangers are counted before the first byte is read."""

import ipaddress
from collections import Counter
from dataclasses import dataclass

from mesh.p2p.access import Access, Denied, Gate, parsed
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


def refusal_of(denied: Denied) -> Refusal:
    """A verdict of the access rules in the form of all others."""
    return Refusal(denied.rule, denied.limit, denied.value)


class Admission:
    """Counts inbound connections and handshakes, in all, by subnet and address, and the rate at which one connects.

    ``gate`` are the access rules in force.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.gate = Gate(Access())
        self._own = tuple(ipaddress.ip_network(network) for network in limits.own_networks)
        self._open = 0
        self._subnets: Counter[str] = Counter()
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
        denied = self.gate.deny_address(ip)
        if denied is not None:
            return refusal_of(denied)
        refusal = self._crowded(ip) or self._refusal(site, now, outbound)
        if refusal is None:
            self._open += 1
            self._handshakes[site] += 1
            self._subnets[self._subnet_of(ip)] += 1
        return refusal

    def settled(self, ip: str) -> None:
        """The handshake that `arrive` counted is over, well or not."""
        site = site_of(ip)
        self._handshakes[site] -= 1
        if self._handshakes[site] <= 0:
            del self._handshakes[site]

    def leave(self, ip: str) -> None:
        """A connection from ``ip`` that `arrive` counted is closed."""
        self._open -= 1
        subnet = self._subnet_of(ip)
        self._subnets[subnet] -= 1
        if self._subnets[subnet] <= 0:
            del self._subnets[subnet]

    def _crowded(self, ip: str) -> Refusal | None:
        limit, subnet = self._limits.max_inbound_per_subnet, self._subnet_of(ip)
        here = self._subnets[subnet] + 1
        if here <= limit or not subnet:
            return None
        return Refusal("max_inbound_per_subnet", f"{limit} of one subnet", f"{here} of {subnet}")

    def _subnet_of(self, ip: str) -> str:
        """The subnet that an address counts for; empty for one of our own networks."""
        address = parsed(ip)
        if address is None or any(address in network for network in self._own):
            return ""
        bits = self._limits.subnet_ipv4_bits if address.version == 4 else self._limits.subnet_ipv6_bits
        return str(ipaddress.ip_network((address, bits), strict=False))

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
