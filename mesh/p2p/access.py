"""Who may be connected to: lists of peers and networks that are blocked, or alone allowed. Pure.

Being blocked weighs more than being allowed. An allow list that is empty allows everybody; one that is not admits only
who is on it, by PeerId or by the address of the connection.
"""

import ipaddress
from collections.abc import Iterable
from typing import Literal

import msgspec

from mesh.errors import MeshError
from mesh.p2p.addresses import is_peer_id

# Both lists together. They go to the overlay process whole, and every address is looked for in them.
MAX_RULES = 10_000
Kind = Literal["peer", "network"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


_WORDS = {"not_allowed": "not allowed", "cut_off": "cut off for what it did"}


class AccessError(MeshError):
    """A rule that cannot be made, or is not there."""

    kind = "invalid"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The rules in force: PeerIds and networks in canonical form. ``cut_off`` are peers that broke the protocol's."""

    block: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    cut_off: tuple[str, ...] = ()


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """Who is turned away: ``rule`` is ``blocked_peer``, ``blocked_address``, ``not_allowed`` or ``cut_off``."""

    rule: str
    limit: str
    value: str

    def __str__(self) -> str:
        return f"{self.value} is {_WORDS.get(self.rule, 'blocked')}"


def canonical(text: str) -> tuple[Kind, str]:
    """A PeerId, an address or a network as people write it, in the one form that rules have. Raises AccessError.

    An address is a network of one; host bits are dropped; IPv4 addresses inside IPv6 are IPv4.
    """
    written = text.strip()
    if is_peer_id(written):
        return "peer", written
    try:
        network = ipaddress.ip_network(written, strict=False)
    except ValueError:
        raise AccessError(
            f"{text!r} is neither a PeerId nor an address nor a network",
            remedy="Write 12D3Koo…, 192.0.2.7, 192.0.2.0/24 or 2001:db8::/64; `mesh peers` lists PeerIds with --json.",
        ) from None
    return "network", str(_unmapped(network))


def _unmapped(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        inner = network.network_address.ipv4_mapped
        if inner is not None:
            return ipaddress.IPv4Network((inner, network.prefixlen - 96))
    return network


class Gate:
    """`Access`, made ready to judge quickly."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._blocked = _List(access.block)
        self._allowed = _List(access.allow)
        self._cut_off = frozenset(access.cut_off)

    def deny_address(self, ip: str) -> Denied | None:
        """Before the first byte: nothing but the address is known, so that who may be an allowed peer passes."""
        address = parsed(ip)
        network = self._blocked.network_of(address)
        if network is not None:
            return Denied(rule="blocked_address", limit=str(network), value=ip)
        if self._allowed and not self._allowed.peers and self._allowed.network_of(address) is None:
            return self._not_allowed(ip)
        return None

    def deny_peer(self, peer: str, ip: str = "") -> Denied | None:
        """The whole verdict, once the PeerId is proved; ``ip`` is empty where the peer has no address of its own."""
        address = parsed(ip)
        if (denied := self._barred(peer)) is not None:
            return denied
        network = self._blocked.network_of(address)
        if network is not None:
            return Denied(rule="blocked_address", limit=str(network), value=ip)
        if self._allowed and peer not in self._allowed.peers and self._allowed.network_of(address) is None:
            return self._not_allowed(peer)
        return None

    def deny_dial(self, peer: str) -> Denied | None:
        """Whether the PeerId alone rules out a dial; the addresses are judged by `deny_address`."""
        if (denied := self._barred(peer)) is not None:
            return denied
        if self._allowed and not self._allowed.networks and peer not in self._allowed.peers:
            return self._not_allowed(peer)
        return None

    def _barred(self, peer: str) -> Denied | None:
        if peer in self._blocked.peers:
            return Denied(rule="blocked_peer", limit=peer, value=peer)
        if peer in self._cut_off:
            return Denied(rule="cut_off", limit="until its pause is over", value=peer)
        return None

    def _not_allowed(self, value: str) -> Denied:
        return Denied(rule="not_allowed", limit=f"an allow list of {len(self._allowed)}", value=value)


class _List:
    def __init__(self, entries: Iterable[str]) -> None:
        kinds = [canonical(entry) for entry in entries]
        self.peers = frozenset(entry for kind, entry in kinds if kind == "peer")
        self.networks = tuple(ipaddress.ip_network(entry) for kind, entry in kinds if kind == "network")
        # By family and length of the prefix: one look-up for each length in use, however many networks there are.
        self._lengths: dict[tuple[int, int], frozenset[int]] = {}
        for network in self.networks:
            key = (network.version, network.prefixlen)
            self._lengths[key] = self._lengths.get(key, frozenset()) | {int(network.network_address)}

    def __len__(self) -> int:
        return len(self.peers) + len(self.networks)

    def network_of(self, address: Address | None) -> Network | None:
        """The network on the list that the address is in."""
        if address is None:
            return None
        number = int(address)
        for (version, length), starts in self._lengths.items():
            if version != address.version:
                continue
            start = number >> (address.max_prefixlen - length) << (address.max_prefixlen - length)
            if start in starts:
                return ipaddress.ip_network((start, length) if version == 4 else (ipaddress.IPv6Address(start), length))
        return None


def parsed(ip: str) -> Address | None:
    """The address without its zone, IPv4 where it is one inside IPv6; None for what is none."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
