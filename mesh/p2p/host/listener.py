"""A listener of py-libp2p's kind, over sockets that are bound already."""

from collections.abc import Sequence
from typing import Protocol

import trio
from libp2p.abc import IListener
from libp2p.custom_types import THandler
from multiaddr import Multiaddr

from mesh.p2p.host.listening import Bound


class Door(Protocol):
    """Serves who comes to a socket."""

    async def serve(self, bound: Bound, handler: THandler) -> None:
        """Serve for ever: ``handler`` is given each connection."""
        ...


class DoorListener(IListener):
    """Has a `Door` serve each socket."""

    def __init__(self, door: Door, bound: Sequence[Bound], handler: THandler, nursery: trio.Nursery) -> None:
        self._door = door
        self._bound = {Multiaddr(one.address): one for one in bound}
        self._handler = handler
        self._nursery = nursery
        self._serving: list[Bound] = []

    async def listen(self, maddr: Multiaddr) -> None:
        """Serve the socket that was bound for ``maddr``."""
        one = self._bound[maddr]
        self._serving.append(one)
        self._nursery.start_soon(self._door.serve, one, self._handler)

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """Where it listens."""
        return tuple(Multiaddr(one.address) for one in self._serving)

    async def close(self) -> None:
        """Close the sockets."""
        for one in self._serving:
            one.socket.close()
