"""Which names a request may call this node by. Pure.

A page that a browser has from elsewhere can point its own name at 127.0.0.1 (DNS rebinding) and then reads and asks
whatever listens there without a key; the name it has to use, in ``Host``, gives it away.
"""

import ipaddress
from collections.abc import Sequence

ANY = "*"


class HostNames:
    """The names that are let through. ``listening`` is the host that the gateway listens on.

    Beyond loopback every name is let through: there a key is needed, which no strange page has.
    """

    def __init__(self, listening: str, more: Sequence[str] = ()) -> None:
        self._names = {name.lower() for name in (listening, *more)}
        self._any = ANY in self._names or not is_loopback(listening)

    def admits(self, hosts: Sequence[str]) -> bool:
        """Whether the values of a request's ``Host`` headers are one name that may be meant."""
        if self._any or not hosts:  # HTTP/1.0 needs none, and no browser leaves it out
            return True
        name = name_of(hosts[0])
        return len(hosts) == 1 and (is_loopback(name) or name in self._names)


def name_of(host: str) -> str:
    """A ``Host`` without its port, in lower case; an IPv6 address without brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether a name or an address means this machine alone, whatever a DNS server says."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
