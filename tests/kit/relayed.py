"""A relay and two peers that can meet through it, as real overlay processes."""

from collections.abc import Mapping
from pathlib import Path

from mesh.p2p.overlay import RelayReserved
from tests.kit.overlays import Node, ProcessWorld, reset


class ProcessRelayed:
    """``near`` and ``far`` have the relay among their own, and are not connected to it."""

    def __init__(self, directory: Path, limits: Mapping[str, object] | None = None) -> None:
        for name in ("relay", "others"):
            (directory / name).mkdir()
        server = {"relay": "server", "autonat": False, **(limits or {})}
        self._first = ProcessWorld(directory / "relay", 1, [server])
        self._directory = directory
        self.nodes = self._first.nodes
        self.relay = self._first.nodes[0]
        self.near: Node
        self.far: Node

    async def start(self) -> None:
        await self._first.start()
        client: dict[str, object] = {"relays": list(self.relay.overlay.addresses[:1]), "hole_punching": False}
        self._others = ProcessWorld(self._directory / "others", 2, [client, client])
        self.near, self.far = self._others.nodes
        self.nodes = [self.relay, self.near, self.far]
        await self._others.start()

    async def stop(self) -> None:
        await self._others.stop()
        await self._first.stop()

    async def crash(self, node: Node) -> None:
        raise NotImplementedError

    async def reset(self) -> None:
        """Nobody is connected, nobody has heard anything."""
        await reset(self)

    async def place(self) -> str:
        """The circuit address of ``far``, which takes its place at the relay."""
        await self.far.overlay.dial(self.relay.peer, self.relay.overlay.addresses, 10)
        await self.far.heard.until(lambda: self.far.heard.of(RelayReserved))
        return next(address for address in self.far.overlay.addresses if "p2p-circuit" in address)

    async def meet(self) -> None:
        """``near`` dials ``far`` through the relay."""
        circuit = next(address for address in self.far.overlay.addresses if "p2p-circuit" in address)
        await self.near.overlay.dial(self.far.peer, [circuit], 10)
        await self.far.heard.until(lambda: self.far.is_connected(self.near))
