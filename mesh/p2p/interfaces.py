"""The addresses of this machine, and what others can dial of what is listened on here."""

from collections.abc import Iterable, Sequence

import psutil

_EVERY_INTERFACE = {"ip4": "0.0.0.0", "ip6": "::"}  # noqa: S104 - recognised here, not bound


def dialable(listening: Iterable[str], interfaces: Sequence[str]) -> tuple[str, ...]:
    """``listening`` with "every interface" spelt out as the ``interfaces`` (IP addresses) of this machine.

    Loopback is named only where there is nothing else: another machine that dials it reaches itself.
    """
    found: list[str] = []
    for address in listening:
        _, kind, host, rest = address.split("/", 3)
        hosts = _of_kind(kind, interfaces) if host == _EVERY_INTERFACE.get(kind) else [host]
        found += [f"/{kind}/{one}/{rest}" for one in hosts]
    return tuple(dict.fromkeys(found))


def _of_kind(kind: str, interfaces: Sequence[str]) -> list[str]:
    same = [ip for ip in interfaces if (":" in ip) == (kind == "ip6") and not ip.startswith("fe80:")]
    return [ip for ip in same if not is_loopback(ip)] or same


def is_loopback(ip: str) -> bool:
    """Whether the address never leaves this machine."""
    return ip.startswith("127.") or ip == "::1"


def interface_ips() -> list[str]:
    """The IP addresses of this machine, as they are now."""
    return [
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name in ("AF_INET", "AF_INET6")
    ]
