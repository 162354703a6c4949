"""What joins in-memory overlays: no sockets, exact or seeded faults, and time that a test may own."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesh.errors import ListenError
from mesh.p2p.access import Denied
from mesh.p2p.memory_conditions import Chance, Conditions
from mesh.p2p.memory_link import MemoryEnd, memory_stream
from mesh.p2p.overlay import (
    Connected,
    DialFailed,
    Disconnected,
    Identified,
    Provider,
    Refused,
    RelayLost,
    RelayReserved,
    Stream,
    StreamRefused,
)

if TYPE_CHECKING:
    from mesh.p2p.overlay_memory import MemoryOverlay

# Gossip goes to so many neighbours at most at each hop, as with gossipsub.
_GOSSIP_DEGREE = 8

CIRCUIT = "/p2p-circuit"


@dataclass(eq=False)
class _Connection:
    name: str
    ends: tuple["MemoryOverlay", "MemoryOverlay"]
    streams: list[tuple[MemoryEnd, MemoryEnd]] = field(default_factory=list)

    def far(self, near: "MemoryOverlay") -> "MemoryOverlay":
        return self.ends[1] if self.ends[0] is near else self.ends[0]


class MemoryNetwork:
    """What joins the overlays: who listens where, who is connected to whom, and what is broken between them.

    ``latency_s`` passes between writing and reading, dialling and gossip; `suffer` makes it a worse network.
    """

    def __init__(self, *, latency_s: float = 0.0, seed: int = 0) -> None:
        self._seed = seed
        self._chance = Chance(Conditions(delay_s=latency_s), seed)
        self._listening: dict[str, MemoryOverlay] = {}
        self._connections: dict[frozenset[str], _Connection] = {}
        self._beside: dict[str, dict[str, frozenset[str]]] = {}  # who is connected to whom, in the order of connecting
        self._cut: set[frozenset[str]] = set()
        self._silent: set[frozenset[str]] = set()
        self._frozen: dict[str, asyncio.Event] = {}
        self._starved: dict[str, float] = {}
        self._made = 0

    def suffer(self, conditions: Conditions) -> None:
        """Let the network be like this from now on; what is under way arrives as it was to."""
        self._seed += 1
        self._chance = Chance(conditions, self._seed)

    def delay_s(self) -> float:
        """How long the next piece of a stream travels."""
        return self._chance.of_packet()

    def starve(self, peer: str, late_s: float) -> None:
        """The peer's overlay gets so little time that it reads whatever comes ``late_s`` later; 0: no more."""
        self._starved[peer] = late_s

    def late_s(self, peer: str) -> float:
        """How late the peer's overlay reads."""
        return self._starved.get(peer, 0.0)

    def freeze(self, peer: str) -> None:
        """The peer's overlay stands still, as by SIGSTOP, while its node goes on; until `thaw`."""
        self._frozen[peer] = asyncio.Event()
        self._hold_all(peer)

    def thaw(self, peer: str) -> None:
        """The peer's overlay goes on."""
        self._frozen.pop(peer).set()
        self._hold_all(peer)

    async def until_awake(self, peer: str) -> None:
        """Return once the peer's overlay is not frozen."""
        while (frozen := self._frozen.get(peer)) is not None:
            await frozen.wait()

    def _is_silent(self, pair: frozenset[str]) -> bool:
        return pair in self._silent or not pair.isdisjoint(self._frozen)

    def _hold_all(self, peer: str) -> None:
        for pair in self._beside.get(peer, {}).values():
            self._hold(pair, self._is_silent(pair))

    def partition(self, a: str, b: str, *, silent: bool = False) -> None:
        """Separate two peers: connections are lost and dials fail.

        ``silent``: nothing is lost or refused, but bytes, dials and gossip between them go nowhere until `heal`,
        as when packets are dropped.
        """
        pair = frozenset((a, b))
        (self._silent if silent else self._cut).add(pair)
        if silent:
            self._hold(pair, True)
        else:
            self._lose(pair, "no route to the peer")

    def heal(self, a: str, b: str) -> None:
        """Undo `partition`; bytes that were held go on."""
        pair = frozenset((a, b))
        self._cut.discard(pair)
        self._silent.discard(pair)
        self._hold(pair, self._is_silent(pair))

    def kill(self, peer: str) -> None:
        """The peer is gone without a word, as by kill -9; others see their connections end."""
        overlay = self._listening.pop(peer, None)
        if overlay is not None:
            overlay.vanish()
            self._lose_all(peer, "connection reset by peer")

    def restart(self, peer: str, reason: str = "killed by SIGKILL") -> None:
        """Only the peer's overlay dies, and comes back at once; its node stays."""
        overlay = self._listening[peer]
        self._lose_all(peer, reason)
        overlay.come_back(reason)

    def join(self, overlay: "MemoryOverlay") -> None:
        """Let ``overlay`` be found. Raises ListenError when its peer is already there."""
        if overlay.peer_id in self._listening:
            raise ListenError(
                f"{overlay.addresses[0]} is taken", remedy="Stop the other node with this identity, or use another key."
            )
        self._listening[overlay.peer_id] = overlay

    def leave(self, overlay: "MemoryOverlay") -> None:
        """The orderly end of ``overlay``."""
        self._lose_all(overlay.peer_id, "stopped")
        if self._listening.get(overlay.peer_id) is overlay:
            del self._listening[overlay.peer_id]

    def connected(self, a: str, b: str) -> bool:
        """Whether the two are connected."""
        return frozenset((a, b)) in self._connections

    async def until_answered(self, a: str, b: str) -> None:
        """Return once packets between the two are not dropped; never when they are silently dropped."""
        await self.until_awake(a)
        await self.until_awake(b)
        if frozenset((a, b)) in self._silent:
            await asyncio.Event().wait()

    def reach(self, dialler: "MemoryOverlay", address: str) -> "MemoryOverlay":
        """Who listens at ``address``. Raises DialFailed when nobody does, or the two are separated."""
        if CIRCUIT in address:
            return self._reach_through_relay(dialler, address)
        transport, _, _ = address.partition("/p2p/")
        name = transport.removeprefix("/memory/")
        overlay = self._listening.get(name)
        if overlay is None or frozenset((dialler.peer_id, name)) in self._cut:
            raise DialFailed(f"{address}: connection refused", remedy="Check that the peer is up.")
        return overlay

    def _reach_through_relay(self, dialler: "MemoryOverlay", address: str) -> "MemoryOverlay":
        before, _, after = address.partition(CIRCUIT)
        relay = self.reach(dialler, before)
        name = after.removeprefix("/p2p/")
        overlay = self._listening.get(name)
        if overlay is None or not self.keeps_place(relay.peer_id, name):
            raise DialFailed(f"{address}: the relay {relay.peer_id} answered NO_RESERVATION")
        return overlay

    def keeps_place(self, relay: str, peer: str) -> bool:
        """Whether ``peer`` can be reached through ``relay``: they are connected, and it is one of the peer's relays."""
        overlay = self._listening.get(peer)
        return overlay is not None and relay in overlay.relays and self.connected(relay, peer)

    def connect(self, dialler: "MemoryOverlay", listener: "MemoryOverlay", address: str) -> None:
        """Connect the two, unless they are; both are told."""
        pair = frozenset((dialler.peer_id, listener.peer_id))
        if pair in self._connections:
            return
        denied = listener.gate.deny_peer(dialler.peer_id)
        if denied is not None:
            listener.tell(Refused(dialler.peer_id, dialler.addresses[0], denied.rule, denied.limit, denied.value))
            raise DialFailed(f"{address}: the peer hung up", remedy="It may have blocked this node.")
        self._made += 1
        connection = _Connection(f"memory-{self._made}", (dialler, listener))
        self._connections[pair] = connection
        self._beside.setdefault(dialler.peer_id, {})[listener.peer_id] = pair
        self._beside.setdefault(listener.peer_id, {})[dialler.peer_id] = pair
        setup_ms = self._chance.conditions.delay_s * 2000
        transport = "relay" if CIRCUIT in address else "memory"
        for near, direction in ((dialler, "outbound"), (listener, "inbound")):
            far = connection.far(near)
            near.tell(
                Connected(far.peer_id, connection.name, address, transport, direction, "none", "memory", setup_ms),
                Identified(far.peer_id, far.agent, far.protocols, far.addresses),
            )
            if far.peer_id in near.relays:
                near.tell(RelayReserved(far.peer_id, (near.circuit(far.peer_id),), 3600.0, 0.0, 0))

    def open_stream(self, opener: "MemoryOverlay", peer: str, protocol: str) -> Stream:
        """A stream from ``opener``; the peer hears of it. Raises StreamRefused."""
        pair = frozenset((opener.peer_id, peer))
        connection = self._connections.get(pair)
        if connection is None:
            raise StreamRefused(f"not connected to {peer}", remedy="Dial it first.")
        listener = connection.far(opener)
        if protocol not in listener.protocols:
            raise StreamRefused(f"{peer} does not speak {protocol}")
        connection.streams = [ends for ends in connection.streams if not all(end.is_closing() for end in ends)]
        near, far = memory_stream(
            lambda: self.delay_s() + self.late_s(peer),
            lambda: self.delay_s() + self.late_s(opener.peer_id),
            held=self._is_silent(pair),
        )
        connection.streams.append((near, far))
        listener.accept(Stream(opener.peer_id, protocol, far.reader, far.writer))
        return Stream(peer, protocol, near.reader, near.writer)

    def disconnect(self, a: str, b: str, reason: str) -> None:
        """End the connection between the two, if there is one."""
        self._lose(frozenset((a, b)), reason)

    def denied(self, near: "MemoryOverlay") -> "list[tuple[str, Denied]]":
        """The peers that ``near`` is connected to and must not be."""
        peers = [connection.far(near).peer_id for connection in self._connections.values() if near in connection.ends]
        return [(peer, denied) for peer in peers if (denied := near.gate.deny_peer(peer)) is not None]

    def gossip(self, publisher: "MemoryOverlay", topic: str, data: bytes) -> None:
        """Tell everyone whom subscribers of the topic reach from ``publisher``, from neighbour to neighbour."""
        self._pass_on(publisher, topic, publisher.peer_id, data, {publisher.peer_id})

    def _pass_on(self, near: "MemoryOverlay", topic: str, author: str, data: bytes, heard: set[str]) -> None:
        loop = asyncio.get_running_loop()
        for name in self._chance.some(self._neighbours(near, topic), _GOSSIP_DEGREE):
            far = self._listening[name]
            for copy, delay_s in enumerate(self._chance.of_message()):
                loop.call_later(delay_s, self._arrive, far, topic, author, data, heard, copy > 0)

    def _arrive(
        self, far: "MemoryOverlay", topic: str, author: str, data: bytes, heard: set[str], duplicate: bool
    ) -> None:
        """Whoever hears something for the first time passes it on; only what the network doubles is heard again."""
        if self._listening.get(far.peer_id) is not far or (far.peer_id in heard and not duplicate):
            return
        far.hear(topic, author, data)
        if far.peer_id not in heard:
            heard.add(far.peer_id)
            self._pass_on(far, topic, author, data, heard)

    def find_providers(self, asking: "MemoryOverlay", name: str) -> tuple[Provider, ...]:
        """Who provides ``name`` among all whom members of the DHT lead to, and who led there."""
        met, frontier, found = {asking.peer_id}, [asking], []
        while frontier:
            near = frontier.pop(0)
            for pair in self._beside.get(near.peer_id, {}).items():
                far = self._listening.get(pair[0])
                if far is None or self._is_silent(pair[1]) or far.dht != asking.dht or far.peer_id in met:
                    continue
                met.add(far.peer_id)
                frontier.append(far)
                if name in far.provided:
                    by = far if near is asking else near
                    found.append(Provider(far.peer_id, far.addresses, by.peer_id, by.addresses[0]))
        return tuple(found)

    def _neighbours(self, near: "MemoryOverlay", topic: str) -> list[str]:
        neighbours = self._beside.get(near.peer_id, {})
        return [
            name
            for name, pair in neighbours.items()
            if not self._is_silent(pair) and name in self._listening and topic in self._listening[name].topics
        ]

    def _hold(self, pair: frozenset[str], held: bool) -> None:
        connection = self._connections.get(pair)
        for ends in connection.streams if connection is not None else ():
            for end in ends:
                end.hold(held)

    def _lose_all(self, peer: str, reason: str) -> None:
        for pair in list(self._beside.get(peer, {}).values()):
            self._lose(pair, reason)

    def _lose(self, pair: frozenset[str], reason: str) -> None:
        connection = self._connections.pop(pair, None)
        if connection is None:
            return
        for near, far in (connection.ends, connection.ends[::-1]):
            del self._beside[near.peer_id][far.peer_id]
        for ends in connection.streams:
            for end in ends:
                end.lose()
        for near in connection.ends:
            far = connection.far(near)
            near.tell(Disconnected(far.peer_id, connection.name, reason))
            if far.peer_id in near.relays:
                near.tell(RelayLost(far.peer_id, reason))
