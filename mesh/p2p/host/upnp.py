"""Asking the router to pass our ports on (UPnP IGD), beside everything else: finding it takes seconds."""

import ipaddress
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import miniupnpc  # type: ignore[import-untyped,import-not-found,unused-ignore]
import trio

from mesh.p2p.addresses import target_of

_DISCOVER_MS = 2000
_AGAIN_S = 1200.0
_LEASE_S = 3600
_PORTS_TRIED = 8  # another machine behind the same router may have been first
_LAST_PORT = 65535
T = TypeVar("T")


class NoGateway(Exception):
    """There is no router that would do it, or none with a public address."""


class Gateway(NamedTuple):
    """A router that answers, our address on its side, and its own."""

    igd: Any
    ours: str
    address: str


async def keep_mapped(listening: Sequence[str]) -> AsyncIterator[tuple[str, str]]:
    """Map every TCP port, and again every 20 minutes: yields the address outside and the gateway, for each that worked.

    Where there is no gateway, it is looked for again then.
    """
    ports = {target.port: target.port for target in map(target_of, listening) if target is not None}
    while True:
        try:
            gateway = await _in_thread(find_gateway)
            for port, first in sorted(ports.items()):
                outside, outer = await _in_thread(partial(map_port, gateway, port, first))
                ports[port] = outer  # peers have been told of it
                for address in (one for one in listening if f"/tcp/{port}" in one):
                    rest = address.split("/", 5)[5:]
                    yield "/".join([f"/ip4/{outside}/tcp/{outer}", *rest]), gateway.address
        except NoGateway:
            pass
        await trio.sleep(_AGAIN_S)


def find_gateway() -> Gateway:
    """The router; takes two seconds. Raises NoGateway."""
    igd = miniupnpc.UPnP()
    igd.discoverdelay = _DISCOVER_MS
    with _router_faults():
        if igd.discover():
            description = igd.selectigd()
            outside = igd.externalipaddress()
            if outside and ipaddress.ip_address(outside).is_global:  # else it is a router behind another router
                return Gateway(igd, str(igd.lanaddr), urlsplit(description).hostname or "")
    raise NoGateway


def map_port(gateway: Gateway, port: int, first: int) -> tuple[str, int]:
    """Have it pass ``first``, or the next that is free, on to our ``port``; the address outside. Raises NoGateway."""
    for outer in range(first, min(first + _PORTS_TRIED, _LAST_PORT + 1)):
        with suppress(NoGateway), _router_faults():
            if gateway.igd.addportmapping(outer, "TCP", gateway.ours, port, "synaptic-mesh", "", _LEASE_S):
                return str(gateway.igd.externalipaddress()), outer
    raise NoGateway


@contextmanager
def _router_faults() -> Iterator[None]:
    """Whatever a router answers, miniupnpc raises bare Exception."""
    try:
        yield
    except Exception as error:
        raise NoGateway from error


async def _in_thread(work: Callable[[], T]) -> T:
    """In a thread; the process ends without waiting for it (see `Control.leave`)."""
    return await trio.to_thread.run_sync(work)
