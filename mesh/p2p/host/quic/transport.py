"""QUIC as one of py-libp2p's transports."""

from collections.abc import Sequence
from ipaddress import ip_address

import trio
from libp2p.abc import IListener, IRawConnection, ITransport
from libp2p.custom_types import THandler
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from mesh.p2p.addresses import QUIC, Target, udp_target_of
from mesh.p2p.host.doorkeeper import Doorkeeper
from mesh.p2p.host.listener import DoorListener
from mesh.p2p.host.listening import Bound
from mesh.p2p.host.quic.endpoint import QuicEndpoint
from mesh.p2p.host.quic.machine import Identity
from mesh.p2p.host.quic.resets import Resets
from mesh.p2p.host.receiving import ReceiveBudget


class DoorQuic(ITransport):
    """Listens at UDP sockets that are bound already, and dials from them: who does not listen does not dial."""

    def __init__(
        self,
        bound: Sequence[Bound],
        seed: bytes,
        identity: Identity,
        keeper: Doorkeeper,
        budget: ReceiveBudget,
        nursery: trio.Nursery,
    ) -> None:
        self._bound = [one for one in bound if one.transport == QUIC]
        self._endpoints = {
            one.address: QuicEndpoint(one, identity, Resets(seed, one.address), keeper, budget) for one in self._bound
        }
        self._nursery = nursery

    async def serve(self, bound: Bound, handler: THandler) -> None:
        """Take datagrams at ``bound`` for ever."""
        await self._endpoints[bound.address].serve(handler)

    def can_dial(self, maddr: Multiaddr) -> bool:
        """Whether it is an address of QUIC, and we have a socket of its family."""
        target = udp_target_of(str(maddr))
        return target is not None and target.transport == QUIC and bool(self._sockets(target))

    def can_listen(self, maddr: Multiaddr) -> bool:
        """Whether a socket was bound for it."""
        return str(maddr) in self._endpoints

    def protocols(self) -> list[str]:
        """Names in multiaddrs of QUIC."""
        return [QUIC]

    def create_listener(self, handler_function: THandler) -> IListener:
        """See `DoorListener`."""
        return DoorListener(self, self._bound, handler_function, self._nursery)

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """A connection to the peer that ``maddr`` ends in, else to whoever is there. Raises OpenConnectionError."""
        target = udp_target_of(str(maddr))
        assert target is not None
        peer = str(maddr).partition("/p2p/")[2]
        failure: Exception = OpenConnectionError(f"{target.host} has no address that can be reached from here")
        for bound in self._sockets(target):
            try:
                found = await trio.socket.getaddrinfo(target.host, target.port, bound.raw.family, bound.raw.type)
                return await self._endpoints[bound.address].connect(found[0][4], self._nursery, peer)  # type: ignore[return-value]
            except (OSError, trio.BrokenResourceError) as error:
                failure = error
        raise OpenConnectionError("no QUIC connection") from failure

    def _sockets(self, target: Target) -> list[Bound]:
        """Those to dial from, one of a family: one of all interfaces, and for our own machine one of loopback."""
        kind = {"ip4": "ip4", "dns4": "ip4", "ip6": "ip6", "dns6": "ip6"}.get(target.kind, "")
        local = target.kind.startswith("ip") and ip_address(target.host).is_loopback
        usable = [one for one in self._bound if one.address.split("/")[1] == kind or not kind]
        usable.sort(key=lambda one: (_is_loopback(one) != local, not _is_anywhere(one)))
        return list({one.raw.family: one for one in reversed(usable)}.values())


def _host(bound: Bound) -> str:
    return bound.address.split("/")[2]


def _is_loopback(bound: Bound) -> bool:
    return ip_address(_host(bound)).is_loopback


def _is_anywhere(bound: Bound) -> bool:
    return ip_address(_host(bound)).is_unspecified
