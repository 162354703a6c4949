"""Addresses that somebody tells of a third peer: hints to dial, and a way to make us dial what a stranger likes. Pure.

Who is told "dial 192.168.1.1" knocks at a door of its *own* network. So a hint counts only as far as the one who gave
it could see for itself: who is reached over the internet may name addresses of the internet, who is in our local
network those too that are private, and who is on this machine those of this machine.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

from mesh.p2p.addresses import MAX_ADDRESS_CHARS, is_peer_id

MAX_HINT_ADDRESSES: Final = 8
# How far an address reaches.
NOWHERE, MACHINE, NETWORK, INTERNET = -1, 0, 1, 2
_MAX_SOURCES = 4096
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def reach_of(address: str) -> int:
    """How far an address reaches: this machine, a private network, the internet; NOWHERE for what cannot be dialled.

    A name may stand for anything, and who gives hints may choose what: it reaches nowhere. An address through a relay
    reaches as far as the relay does.
    """
    first, kind, host, *rest = [*address.split("/"), "", ""][:4] + address.split("/")[4:]
    if first or not host:
        return NOWHERE
    if kind == "memory":
        return MACHINE
    if kind not in ("ip4", "ip6") or not rest or not rest[0]:
        return NOWHERE
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return NOWHERE
    return _reach_of_ip(ip)


def _reach_of_ip(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:  # what counts is where it ends
            return _reach_of_ip(inner)
    if ip.is_unspecified or ip.is_multicast or ip == ipaddress.IPv4Address("255.255.255.255"):
        return NOWHERE
    if ip.is_loopback:
        return MACHINE
    return INTERNET if ip.is_global else NETWORK


def usable(peer: str, addresses: Iterable[str], via: str) -> tuple[str, ...]:
    """Those addresses of ``peer`` that may be dialled when they were told over a connection with ``via``; at most 8.

    Each ends in ``/p2p/<peer>`` afterwards. Who is connected through a relay may be anywhere: it counts as far away.
    """
    least = INTERNET if "/p2p-circuit" in via else reach_of(via)
    if least == NOWHERE:
        return ()
    named = (_named(peer, address) for address in addresses if len(address) <= MAX_ADDRESS_CHARS)
    return tuple(dict.fromkeys(a for a in named if a and reach_of(a) >= least))[:MAX_HINT_ADDRESSES]


def _named(peer: str, address: str) -> str:
    """With the peer at its end; empty where it is another's."""
    if not address.isascii() or not address.isprintable():
        return ""
    _, found, last = address.rpartition("/p2p/")
    if found and "/" not in last:
        return address if last == peer else ""
    return f"{address.rstrip('/')}/p2p/{peer}"


class HintBudget:
    """How many new peers one source may name: ``burst`` at once, then one in ``every_s`` seconds."""

    def __init__(self, *, burst: int = 32, every_s: float = 30.0) -> None:
        self._burst = float(burst)
        self._every_s = every_s
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, source: str, now: float) -> bool:
        """Whether ``source`` may name one more."""
        if source not in self._left and len(self._left) >= _MAX_SOURCES:
            del self._left[min(self._left, key=lambda known: self._left[known][1])]
        left, at = self._left.get(source, (self._burst, now))
        left = min(self._burst, left + (now - at) / self._every_s)
        self._left[source] = (left - 1 if left >= 1 else left, now)
        return left >= 1


def is_name_of_peer(peer: str, own: str) -> bool:
    """Whether it is the PeerId of somebody else."""
    return peer != own and is_peer_id(peer)
