"""Getting through NATs: what of it this node does, and when."""

from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.abc import INetStream, IRawConnection
from libp2p.custom_types import TProtocol
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.transport.exceptions import OpenConnectionError

from mesh.p2p.addresses import Target
from mesh.p2p.host import upnp
from mesh.p2p.host.circuit import CIRCUIT, split_circuit
from mesh.p2p.host.complaints import Complaints
from mesh.p2p.host.connections import Connection, Connections
from mesh.p2p.host.dialling import Dialler
from mesh.p2p.host.layers import Layers
from mesh.p2p.host.listening import Bound
from mesh.p2p.host.nat import NatSettings
from mesh.p2p.host.pump import STREAM_ENDED
from mesh.p2p.host.punch_targets import elsewhere
from mesh.p2p.host.punching import DCUTR, Puncher
from mesh.p2p.host.reachability import AUTONAT, Reachability
from mesh.p2p.host.relay import HOP, STOP, Relay
from mesh.p2p.host.relay_client import RelayClient
from mesh.p2p.host.swarm import DoorSwarm, QuietHost
from mesh.p2p.host.tcp import ByteDoor
from mesh.p2p.host.wires import tcp_wire
from mesh.p2p.interfaces import dialable, interface_ips
from mesh.p2p.overlay import DialFailed, OverlayFact, PortMapped, RelayReserved, StreamRefused

_RELAY_DIAL_S = 10.0
# A relayed connection that is younger may be the peer's only one: it knows better whether the direct one works.
_SETTLE_S = 5.0


class Traversal:
    """Relays, hole punching, reachability and port mapping of one host."""

    def __init__(
        self,
        settings: NatSettings,
        host: QuietHost,
        swarm: DoorSwarm,
        connections: Connections,
        dialler: Dialler,
        door: ByteDoor,
        layers: Layers,
        complaints: Complaints,
        bound: Sequence[Bound],
        nursery: trio.Nursery,
        report: Callable[[OverlayFact], None],
        *,
        announce: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._host = host
        self._swarm = swarm
        self._connections = connections
        self._dialler = dialler
        self._door = door
        self._layers = layers
        self._bound = bound
        self._nursery = nursery
        self._report = report
        self._announce = announce
        self._mapped: list[str] = []
        self._client = RelayClient(settings.relays, swarm, connections, door, nursery, self._tell)
        self._relay = Relay(settings.limits, connections, complaints, own_addresses=self._named_addresses)
        self._puncher = Puncher(
            connections,
            report,
            secure=self._secure,
            reach=self._reach,
            may_dial=lambda ip: dialler.gate().deny_address(ip) is None,
        )
        self._reachability = Reachability(
            swarm.get_peer_id(), connections, dialler, report, own_addresses=self._own_addresses
        )

    def start(self) -> None:
        """Serve what is switched on."""
        settings = self._settings
        if settings.relay != "off":
            self._serve(STOP, self._client.handle_stop)
            self._dialler.circuits = self._circuits
            self._dialler.dial_circuit = self._dial_circuit
            self._host.more_addresses = self._more_addresses
        if settings.relay == "server":
            self._serve(HOP, self._relay.handle)
        if settings.hole_punching:
            self._serve(DCUTR, self._puncher.handle)
        if settings.autonat:
            self._serve(AUTONAT, self._reachability.handle)
        if settings.upnp:
            self._nursery.start_soon(self._map_ports)

    def _serve(self, protocol: TProtocol, handler: "Callable[[INetStream], object]") -> None:
        self._host.set_stream_handler(protocol, handler)  # type: ignore[arg-type]

    def identified(self, connection: Connection, addresses: Sequence[str]) -> None:
        """A peer has said what it is and where."""
        settings = self._settings
        if settings.relay != "off":
            self._client.identified(connection)
        if settings.autonat and self._reachability.may_ask(connection):
            self._nursery.start_soon(self._reachability.ask, connection)
        if settings.hole_punching and connection.relayed and connection.wire.inbound:
            direct = elsewhere(addresses, self._own_addresses(), connection.wire.address)
            self._nursery.start_soon(self._puncher.upgrade, connection, direct)

    def left(self, connection: Connection) -> None:
        """A connection is over."""
        self._client.lost(connection)
        if self._connections.direct(connection.peer) is None:
            self._relay.forget(connection.peer)
        if self._connections.of(connection.peer) is None:
            self._reachability.gone(connection.peer)

    def tidy(self) -> None:
        """Close relayed connections on which nothing runs any more because there is a direct one."""
        for connection in self._connections:
            idle = trio.current_time() - connection.wire.opened_at > _SETTLE_S and not connection.joined_streams
            if connection.relayed and idle and self._connections.direct(connection.peer) is not None:
                connection.wire.abort("replaced by a direct connection")

    # --- dialling ------------------------------------------------------------------------------------------------

    def _circuits(self, peer: str, addresses: Sequence[str]) -> list[str]:
        """Circuit addresses to try: those that were given, and through our own relays."""
        given = [address for address in addresses if CIRCUIT in address]
        relays = {relay for address in given for relay in _relay_of(address)}
        own = [address for address in self._client.candidates(peer) if not relays.issuperset(_relay_of(address))]
        return [*given, *own]

    async def _dial_circuit(self, address: str, peer: ID) -> IRawConnection:
        """Connect to ``peer`` through the relay that ``address`` names. Raises OpenConnectionError."""
        try:
            relay, transport = split_circuit(address)
            if relay == str(peer):
                raise OpenConnectionError("a relay is not reached through itself")
            await self._dialler.dial(relay, [f"{transport}/p2p/{relay}"] if transport else [], _RELAY_DIAL_S)
        except (ValueError, DialFailed) as error:
            raise OpenConnectionError(str(error)) from error
        connection = self._connections.direct(relay)
        if connection is None:
            raise OpenConnectionError(f"the relay {relay} is itself behind a relay")
        return await self._client.dial(connection, peer)

    async def _reach(self, peer: str, addresses: Sequence[str], timeout_s: float) -> bool:
        return bool(addresses) and await self._dialler.reach_directly(peer, addresses, timeout_s)

    async def _secure(self, stream: trio.SocketStream, target: Target, peer: str, as_client: bool) -> None:
        """Make a connection out of a punched hole, in the part that falls to us."""
        try:
            wire = tcp_wire(stream, inbound=not as_client)
        except OSError:
            stream.socket.close()
            return
        wire.punched = True
        if not as_client:
            self._nursery.start_soon(self._door.receive, wire, self._swarm.receive, "tcp")
            await self._connections.settled(wire)
            return
        try:
            await self._layers.connect(wire, target)
            await self._swarm.secure_and_add(RawConnection(wire, True), ID.from_base58(peer))
        except (*STREAM_ENDED, trio.BrokenResourceError, trio.ClosedResourceError, ValueError):
            wire.abort("the handshake failed")

    # --- telling -------------------------------------------------------------------------------------------------

    def _tell(self, fact: OverlayFact) -> None:
        """Report; and let peers know where we are when that is news."""
        self._report(fact)
        if isinstance(fact, RelayReserved | PortMapped):
            for connection in self._connections:
                self._nursery.start_soon(self._push, connection)

    async def _push(self, connection: Connection) -> None:
        try:
            await self._announce(connection)
        except (*STREAM_ENDED, StreamRefused):
            return  # it is gone, or does not want to know

    # --- addresses -----------------------------------------------------------------------------------------------

    def _own_addresses(self) -> list[str]:
        return [*dialable([one.address for one in self._bound], interface_ips()), *self._mapped]

    def _named_addresses(self) -> list[str]:
        return [f"{address}/p2p/{self._swarm.get_peer_id()}" for address in self._own_addresses()]

    def _more_addresses(self) -> list[str]:
        own = str(self._swarm.get_peer_id())
        return [*(f"{address}/p2p/{own}" for address in self._mapped), *self._client.candidates(own)]

    async def _map_ports(self) -> None:
        async for address, gateway in upnp.keep_mapped([one.address for one in self._bound]):
            if address not in self._mapped:
                self._mapped.append(address)
                self._tell(PortMapped(address, gateway))


def _relay_of(address: str) -> set[str]:
    try:
        return {split_circuit(address)[0]}
    except ValueError:
        return set()
