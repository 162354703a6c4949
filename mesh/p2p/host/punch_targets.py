"""Where a stranger may have us send SYNs. Pure."""

import ipaddress
from collections.abc import Iterable

from mesh.p2p.addresses import Target, target_of

MAX_TARGETS = 4


def punchable(addresses: Iterable[str], local: str) -> list[Target]:
    """The first four plain TCP addresses, of the family of ``local``, that may be another machine's.

    Loopback counts where we are on loopback ourselves: a peer must not have us knock at our own services.
    """
    ours = ipaddress.ip_address(local)
    found: dict[Target, None] = {}
    for address in addresses:
        target = target_of(address) if "/p2p-circuit" not in address else None
        if target is not None and target.transport == "tcp" and target.port and _may_be_theirs(target, ours):
            found[target] = None
    return list(found)[:MAX_TARGETS]


def elsewhere(addresses: Iterable[str], own: Iterable[str], relay: str) -> list[str]:
    """Those addresses of a relayed peer that do not lead to ourselves: none of ours, none on loopback.

    Loopback counts where the relay is on it.
    """
    ours = {target_of(address) for address in own}
    local = _is_loopback(target_of(relay))
    direct = {address: target_of(address) for address in addresses if "/p2p-circuit" not in address}
    return [address for address, target in direct.items() if target not in ours and (local or not _is_loopback(target))]


def _is_loopback(target: Target | None) -> bool:
    try:
        return target is not None and ipaddress.ip_address(target.host).is_loopback
    except ValueError:
        return target is not None and target.host == "localhost"


def _may_be_theirs(target: Target, ours: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        ip = ipaddress.ip_address(target.host)
    except ValueError:
        return False
    if ip.version != ours.version or ip.is_multicast or ip.is_unspecified or ip.is_link_local:
        return False
    return ip.is_loopback == ours.is_loopback
