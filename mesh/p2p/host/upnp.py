"""Asking the router to pass our ports on (UPnP IGD), beside everything else: finding it takes seconds."""

import ipaddress
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import miniupnpc  # type: ignore[import-untyped,import-not-found,unused-ignore]
import trio

from mesh.p2p.addresses import target_of

_DISCOVER_MS = 2000
_AGAIN_S = 1200.0
_LEASE_S = 3600
T = TypeVar("T")


class NoGateway(Exception):
    """There is no router that would do it, or none with a public address."""


async def keep_mapped(listening: Sequence[str]) -> AsyncIterator[tuple[str, str]]:
    """Map every TCP port, and again every 20 minutes: yields the address outside and the gateway, for each that worked.

    Where there is no gateway, it is looked for again then.
    """
    ports = sorted({target.port for target in map(target_of, listening) if target is not None})
    while True:
        try:
            gateway = await _in_thread(find_gateway)
            for port in ports:
                outside = await _in_thread(partial(map_port, gateway, port))
                for address in (one for one in listening if f"/tcp/{port}" in one):
                    rest = address.split("/", 3)[3]
                    yield f"/ip4/{outside}/{rest}", str(gateway.lanaddr)
        except NoGateway:
            pass
        await trio.sleep(_AGAIN_S)


def find_gateway() -> Any:  # noqa: ANN401 - miniupnpc has no types
    """The router; takes two seconds. Raises NoGateway."""
    gateway = miniupnpc.UPnP()
    gateway.discoverdelay = _DISCOVER_MS
    with _router_faults():
        if gateway.discover():
            gateway.selectigd()
            outside = gateway.externalipaddress()
            if outside and ipaddress.ip_address(outside).is_global:  # else it is a router behind another router
                return gateway
    raise NoGateway


def map_port(gateway: Any, port: int) -> str:  # noqa: ANN401 - as above
    """Have it pass ``port`` on to us; the address outside. Raises NoGateway."""
    with _router_faults():
        if gateway.addportmapping(port, "TCP", gateway.lanaddr, port, "synaptic-mesh", "", _LEASE_S):
            return str(gateway.externalipaddress())
    raise NoGateway


@contextmanager
def _router_faults() -> Iterator[None]:
    """Whatever a router answers, miniupnpc raises bare Exception."""
    try:
        yield
    except Exception as error:
        raise NoGateway from error


async def _in_thread(work: Callable[[], T]) -> T:
    """In a thread; the process ends without waiting for it (see `mesh.p2p.host.control.leave`)."""
    return await trio.to_thread.run_sync(work)
