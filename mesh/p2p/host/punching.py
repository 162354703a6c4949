"""DCUtR: from a relayed connection to a direct one, by both sides opening a hole in their NAT at the same moment.

The SYNs leave from the port of the connection to the relay: a NAT that keeps a port's mapping shows the other side the
address that the relay saw. It is a simultaneous open of TCP (RFC 9293, section 3.5): there is one connection, and both
sides connected. Who had dialled the relayed connection counts as client of what runs over it.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from multiaddr import Multiaddr

from mesh.p2p.addresses import Target, target_of
from mesh.p2p.host.circuit import CircuitWire
from mesh.p2p.host.connections import Connection, Connections
from mesh.p2p.host.damping import Damper
from mesh.p2p.host.delimited import PeerFault, receive_message, send_message
from mesh.p2p.host.identify import readable
from mesh.p2p.host.negotiation import negotiated
from mesh.p2p.host.pump import STREAM_ENDED
from mesh.p2p.host.punch_targets import punchable
from mesh.p2p.overlay import HolePunched, OverlayFact, StreamRefused

DCUTR = TProtocol("/libp2p/dcutr")
RULE = "dcutr"
ATTEMPTS = 3
_ANSWER_S = 10.0
_DIRECT_S = 3.0
_PUNCH_S = 5.0
_RETRY_S = 0.05
# How often one peer may have us punch.
_BURST, _PER_S = 6, 1 / 30

Secure = Callable[[trio.SocketStream, Target, str, bool], Awaitable[None]]
Reach = Callable[[str, Sequence[str], float], Awaitable[bool]]


class Puncher:
    """Makes relayed connections direct.

    ``secure(socket, target, peer, as_client)`` makes a connection out of what was punched; ``reach(peer, addresses,
    seconds)`` dials in the ordinary way, and returns whether there is a direct connection now; ``may_dial(ip)`` is what
    the operator's rules say.
    """

    def __init__(
        self,
        connections: Connections,
        report: Callable[[OverlayFact], None],
        *,
        secure: Secure,
        reach: Reach,
        may_dial: Callable[[str], bool],
    ) -> None:
        self._connections = connections
        self._report = report
        self._secure = secure
        self._reach = reach
        self._may_dial = may_dial
        self._pace = Damper(burst=_BURST, per_s=_PER_S)

    async def upgrade(self, connection: Connection, addresses: Sequence[str]) -> None:
        """Whoever was dialled through a relay tries: the peer's own addresses first, then up to three punches."""
        began = trio.current_time()
        error = "the peer does not speak DCUtR"
        if not await self._reach(connection.peer, addresses, _DIRECT_S) and DCUTR in connection.protocols:
            for attempt in range(1, ATTEMPTS + 1):
                error = await self._ask(connection)
                if self._is_over(connection):
                    break
                if self._connections.direct(connection.peer) is None and attempt < ATTEMPTS:
                    await trio.sleep(attempt)
            self._tell(connection, began, attempt, error)

    async def _ask(self, connection: Connection) -> str:
        """One attempt as the side that begins; what went wrong."""
        local = self._local(connection)
        if local is None:
            return "the relay is not connected over plain TCP, or has not said from where it sees us"
        try:
            with trio.fail_after(_ANSWER_S):
                async with negotiated(connection, DCUTR) as stream:
                    asked = trio.current_time()
                    await send_message(stream, _message(HolePunch.CONNECT, [local.observed]))
                    targets = _targets(await receive_message(stream, HolePunch, RULE), local)
                    round_trip = trio.current_time() - asked
                    await send_message(stream, _message(HolePunch.SYNC))
                    await stream.close()
        except (*STREAM_ENDED, StreamRefused, PeerFault, trio.TooSlowError) as error:
            return f"the peer did not answer: {str(error) or type(error).__name__}"
        await trio.sleep(round_trip / 2)
        return await self._punch(connection, local, targets, as_client=False)

    async def handle(self, stream: INetStream) -> None:
        """The other side begins; it dialled nothing, so that we are the client. Raises PeerFault."""
        connection = self._connections.carrying(stream)
        if connection is None:
            await stream.reset()
            return
        if not connection.relayed:
            raise PeerFault(RULE, "wants a hole where the connection is direct")
        if self._pace.admit(connection.peer, trio.current_time()) is None:
            await stream.reset()
            return
        began, local = trio.current_time(), self._local(connection)
        with trio.fail_after(_ANSWER_S):
            request = _of_type(await receive_message(stream, HolePunch, RULE), HolePunch.CONNECT)
            await send_message(stream, _message(HolePunch.CONNECT, [local.observed] if local is not None else []))
            _of_type(await receive_message(stream, HolePunch, RULE), HolePunch.SYNC)
        await stream.close()
        if local is not None:
            error = await self._punch(connection, local, _targets(request, local), as_client=True)
            if self._connections.direct(connection.peer) is not None:
                self._tell(connection, began, 1, error)

    async def _punch(
        self, connection: Connection, local: "_Local", targets: Sequence[Target], *, as_client: bool
    ) -> str:
        """Connect to every target at once until one holds; what went wrong, or an empty text."""
        targets = [target for target in targets if self._may_dial(target.host)]
        if not targets:
            return "the peer named no address that can be dialled"
        failures: dict[str, str] = {}
        with trio.move_on_after(_PUNCH_S):
            async with trio.open_nursery() as nursery:
                for target in targets:
                    nursery.start_soon(
                        self._knock, connection, local, target, as_client, failures, nursery.cancel_scope
                    )
        if self._connections.direct(connection.peer) is not None:
            return ""
        said = "; ".join(f"{address}: {why}" for address, why in failures.items())
        silent = ", ".join(f"{target.host}:{target.port}" for target in targets)
        return said or f"no answer from {silent} within {_PUNCH_S:g} s"

    async def _knock(
        self,
        connection: Connection,
        local: "_Local",
        target: Target,
        as_client: bool,
        failures: dict[str, str],
        scope: trio.CancelScope,
    ) -> None:
        while not self._is_over(connection):
            try:
                stream = await connect_from(local.host, local.port, target.host, target.port)
            except OSError as error:
                failures[f"{target.host}:{target.port}"] = error.strerror or str(error)
                await trio.sleep(_RETRY_S)
                continue
            with trio.CancelScope(shield=True):
                await self._secure(stream, target, connection.peer, as_client)
            scope.cancel()
            return

    def _local(self, connection: Connection) -> "_Local | None":
        wire = connection.wire
        relay = self._connections.direct(wire.relay) if isinstance(wire, CircuitWire) else None
        if relay is None or relay.wire.inbound or relay.wire.socket is None or target_of(relay.observed) is None:
            return None
        relay.wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, port = relay.wire.socket.getsockname()[:2]
        return _Local(str(host), int(port), relay.observed)

    def _is_over(self, connection: Connection) -> bool:
        return connection.wire.closed.is_set() or self._connections.direct(connection.peer) is not None

    def _tell(self, connection: Connection, began: float, attempts: int, error: str) -> None:
        direct = self._connections.direct(connection.peer)
        if direct is None and connection.wire.closed.is_set():
            return
        address = direct.wire.address if direct is not None else ""
        took_ms = round((trio.current_time() - began) * 1000, 3)
        error = "" if direct is not None else error
        self._report(HolePunched(connection.peer, address, attempts, took_ms, direct is not None, error))


class _Local:
    """Where our SYNs leave from, and how that looks from outside."""

    def __init__(self, host: str, port: int, observed: str) -> None:
        self.host = host
        self.port = port
        self.observed = observed


async def connect_from(host: str, port: int, to_host: str, to_port: int) -> trio.SocketStream:
    """A TCP connection from a port that is in use by another of ours. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await sock.bind((host, port))
        await sock.connect((to_host, to_port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def _message(kind: "HolePunch.Type.ValueType", addresses: Sequence[str] = ()) -> HolePunch:
    return HolePunch(type=kind, ObsAddrs=[Multiaddr(address).to_bytes() for address in addresses])


def _of_type(message: HolePunch, kind: "HolePunch.Type.ValueType") -> HolePunch:
    if message.type != kind:
        raise PeerFault(RULE, f"a message of type {message.type} where {HolePunch.Type.Name(kind)} belongs")
    return message


def _targets(message: HolePunch, local: _Local) -> list[Target]:
    parsed = (readable(raw) for raw in message.ObsAddrs[:32])
    return punchable((str(address) for address in parsed if address is not None), local.host)
