"""Using relays: places that are kept for us there, circuits to us and from us."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio
from libp2p.abc import INetStream, IRawConnection
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from libp2p.transport.exceptions import OpenConnectionError

from mesh.clock import SystemClock
from mesh.p2p.host.circuit import CIRCUIT, CircuitWire, raw_circuit
from mesh.p2p.host.connections import Connection, Connections
from mesh.p2p.host.delimited import PeerFault, receive_message, send_message
from mesh.p2p.host.negotiation import negotiated
from mesh.p2p.host.pump import STREAM_ENDED
from mesh.p2p.host.relay import ANSWER_S, HOP, RULE
from mesh.p2p.host.swarm import DoorSwarm
from mesh.p2p.host.tcp import ByteDoor
from mesh.p2p.overlay import OverlayFact, RelayLost, RelayReserved, StreamRefused

# Without configured relays, so many of the peers that offer it are used.
MAX_CHOSEN = 2
_RETRY_S = 30.0
_MAX_HOLD_S = 3600.0
_MIN_HOLD_S = 10.0


@dataclass
class _Place:
    """What a relay keeps for us, on one connection."""

    connection: Connection
    until: float


class RelayClient:
    """Reserves at relays while they are connected, and answers and dials circuits."""

    def __init__(
        self,
        relays: Sequence[str],
        swarm: DoorSwarm,
        connections: Connections,
        door: ByteDoor,
        nursery: trio.Nursery,
        report: Callable[[OverlayFact], None],
    ) -> None:
        self._configured = {address.rpartition("/p2p/")[2]: address for address in relays}
        self._swarm = swarm
        self._connections = connections
        self._door = door
        self._nursery = nursery
        self._report = report
        self._places: dict[str, _Place] = {}
        self._asking: set[str] = set()
        self._clock = SystemClock()

    def candidates(self, peer: str) -> list[str]:
        """Circuit addresses at which a peer might be met: through each relay that keeps a place for us."""
        return [
            f"{place.connection.wire.address}/p2p/{relay}{CIRCUIT}/p2p/{peer}"
            for relay, place in self._places.items()
            if relay != peer and not place.connection.wire.inbound
        ]

    def identified(self, connection: Connection) -> None:
        """What a peer speaks is known: is it a relay for us?"""
        peer = connection.peer
        chosen = peer in self._configured or (not self._configured and len(self._places) < MAX_CHOSEN)
        usable = not connection.relayed and not connection.wire.inbound and HOP in connection.protocols
        if chosen and usable and peer not in self._asking:
            self._asking.add(peer)
            self._nursery.start_soon(self._hold, connection)

    def lost(self, connection: Connection) -> None:
        """A connection is over, and with it the place that was kept on it."""
        place = self._places.get(connection.peer)
        if place is not None and place.connection is connection:
            self._give_up(connection.peer, connection.wire.end_reason or "the connection was lost")

    # --- places --------------------------------------------------------------------------------------------------

    async def _hold(self, connection: Connection) -> None:
        """Reserve and renew for as long as the connection lives."""
        try:
            while not connection.wire.closed.is_set():
                with trio.move_on_after(await self._reserve_once(connection)):
                    await connection.wire.closed.wait()
        finally:
            self._asking.discard(connection.peer)

    async def _reserve_once(self, connection: Connection) -> float:
        """Seconds until the next attempt."""
        try:
            answer = await self._reserve(connection)
        except (*STREAM_ENDED, StreamRefused, PeerFault, OpenConnectionError, trio.TooSlowError) as error:
            self._give_up(connection.peer, _said(error))
            return _RETRY_S
        holds_s = min(max(answer.reservation.expire - self._clock.now(), _MIN_HOLD_S), _MAX_HOLD_S)
        if not connection.wire.closed.is_set():
            first = connection.peer not in self._places
            self._places[connection.peer] = _Place(connection, trio.current_time() + holds_s)
            if first:
                self._report(self._reserved(connection, holds_s, answer.limit))
        return holds_s / 2

    async def _reserve(self, connection: Connection) -> pb.HopMessage:
        with trio.fail_after(ANSWER_S):
            async with negotiated(connection, HOP) as stream:
                await send_message(stream, pb.HopMessage(type=pb.HopMessage.RESERVE))
                answer = await receive_message(stream, pb.HopMessage, RULE)
                await stream.close()
        _require_ok(answer, connection.peer)
        return answer

    def _reserved(self, connection: Connection, holds_s: float, limit: pb.Limit) -> RelayReserved:
        own = self._swarm.get_peer_id()
        address = f"{connection.wire.address}/p2p/{connection.peer}{CIRCUIT}/p2p/{own}"
        return RelayReserved(connection.peer, (address,), round(holds_s, 3), float(limit.duration), int(limit.data))

    def _give_up(self, relay: str, reason: str) -> None:
        if self._places.pop(relay, None) is not None:
            self._report(RelayLost(relay, reason))

    # --- circuits ------------------------------------------------------------------------------------------------

    async def dial(self, connection: Connection, peer: ID) -> IRawConnection:
        """A circuit to ``peer`` through the relay that is connected. Raises OpenConnectionError."""
        try:
            with trio.fail_after(ANSWER_S):
                async with negotiated(connection, HOP) as stream:
                    wanted = pb.HopMessage(type=pb.HopMessage.CONNECT, peer=pb.PeerId(id=peer.to_bytes()))
                    await send_message(stream, wanted)
                    answer = await receive_message(stream, pb.HopMessage, RULE)
        except (*STREAM_ENDED, StreamRefused, PeerFault, trio.TooSlowError) as error:
            raise OpenConnectionError(f"the relay did not answer: {_said(error)}") from error
        try:
            _require_ok(answer, connection.peer)
        except OpenConnectionError:
            with suppress(*STREAM_ENDED):
                await stream.close()
            raise
        return raw_circuit(self._wire(stream, connection, inbound=False))

    async def handle_stop(self, stream: INetStream) -> None:
        """A relay brings us a connection. Only those at which we have a place may. Raises PeerFault."""
        connection = self._connections.carrying(stream)
        if connection is None:
            await stream.reset()
            return
        with trio.fail_after(ANSWER_S):
            message = await receive_message(stream, pb.StopMessage, RULE)
        if message.type != pb.StopMessage.CONNECT:
            raise PeerFault(RULE, f"opened a circuit with a message of type {message.type}")
        place = self._places.get(connection.peer)
        if place is None or place.connection is not connection:
            await send_message(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=pb.PERMISSION_DENIED))
            await stream.close()
            return
        await send_message(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=pb.OK))
        connection.inbound_streams -= 1  # circuits are counted as connections
        try:
            await self._door.receive(self._wire(stream, connection, inbound=True), self._swarm.receive)
        finally:
            connection.inbound_streams += 1

    def _wire(self, stream: INetStream, connection: Connection, *, inbound: bool) -> CircuitWire:
        address = connection.wire.address
        return CircuitWire(stream, connection.peer, address, inbound=inbound, nursery=self._nursery)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _require_ok(answer: pb.HopMessage, relay: str) -> None:
    if answer.type != pb.HopMessage.STATUS or answer.status != pb.OK:
        name = pb.Status.Name(answer.status) if answer.status in pb.Status.values() else str(answer.status)
        raise OpenConnectionError(f"the relay {relay} answered {name}")
