"""Being a relay: circuit relay v2's hop side. Others meet through us, within `RelayLimits`, and we see ciphertext."""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from multiaddr import Multiaddr

from mesh.clock import SystemClock
from mesh.p2p.host.admission import Refusal
from mesh.p2p.host.complaints import Complaints
from mesh.p2p.host.connections import Connection, Connections
from mesh.p2p.host.delimited import PeerFault, receive_message, send_message
from mesh.p2p.host.muxed import lost
from mesh.p2p.host.negotiation import negotiated
from mesh.p2p.host.pump import CHUNK_BYTES, STREAM_ENDED
from mesh.p2p.host.relay_book import RelayBook, RelayLimits
from mesh.p2p.overlay import StreamRefused

HOP = TProtocol("/libp2p/circuit/relay/0.2.0/hop")
STOP = TProtocol("/libp2p/circuit/relay/0.2.0/stop")
RULE = "relay"
ANSWER_S = 10.0


class Relay:
    """Answers on hop streams: reservations, and circuits to those who have one."""

    def __init__(
        self,
        limits: RelayLimits,
        connections: Connections,
        complaints: Complaints,
        *,
        own_addresses: Callable[[], list[str]],
    ) -> None:
        self._book = RelayBook(limits)
        self._connections = connections
        self._complaints = complaints
        self._own_addresses = own_addresses
        self._clock = SystemClock()

    async def handle(self, stream: INetStream) -> None:
        """One request of a peer. Raises PeerFault."""
        connection = self._connections.carrying(stream)
        if connection is None:
            await stream.reset()
            return
        with trio.fail_after(ANSWER_S):
            message = await receive_message(stream, pb.HopMessage, RULE)
        if connection.relayed:
            await _refuse(stream, pb.PERMISSION_DENIED)
        elif message.type == pb.HopMessage.RESERVE:
            await self._reserve(stream, connection)
        elif message.type == pb.HopMessage.CONNECT:
            await self._connect(stream, connection, _peer_of(message))
        else:
            raise PeerFault(RULE, f"asked with a message of type {message.type}")

    def forget(self, peer: str) -> None:
        """The peer has no direct connection any more."""
        self._book.forget(peer)

    async def _reserve(self, stream: INetStream, connection: Connection) -> None:
        refusal = self._book.reserve(connection.peer, connection.wire.host, trio.current_time())
        if refusal is not None:
            self._refused(connection, refusal)
            await _refuse(stream, pb.RESOURCE_LIMIT_EXCEEDED)
            return
        reservation = pb.Reservation(
            expire=int(self._clock.now() + self._book.limits.reservation_s),
            addrs=[Multiaddr(address).to_bytes() for address in self._own_addresses()],
        )
        answer = pb.HopMessage(type=pb.HopMessage.STATUS, status=pb.OK, reservation=reservation, limit=self._limit())
        await send_message(stream, answer)
        await stream.close()

    async def _connect(self, stream: INetStream, source: Connection, peer: str) -> None:
        target, now = self._connections.direct(peer), trio.current_time()
        if target is None or not self._book.reserved(peer, now):
            await _refuse(stream, pb.NO_RESERVATION)
            return
        refusal = self._book.open(source.peer, peer)
        if refusal is not None:
            self._refused(source, refusal)
            await _refuse(stream, pb.RESOURCE_LIMIT_EXCEEDED)
            return
        source.inbound_streams -= 1  # circuits have limits of their own
        try:
            await self._join(stream, source, target)
        finally:
            source.inbound_streams += 1
            self._book.close(source.peer, peer)

    async def _join(self, stream: INetStream, source: Connection, target: Connection) -> None:
        onward = await self._reach(source.peer, target)
        if onward is None:
            await _refuse(stream, pb.CONNECTION_FAILED)
            return
        await send_message(stream, pb.HopMessage(type=pb.HopMessage.STATUS, status=pb.OK, limit=self._limit()))
        limits = self._book.limits
        broken = await Splice(stream, onward, limits.circuit_bytes, limits.circuit_s).run()
        if broken is not None:
            self._refused(source, broken)

    async def _reach(self, source: str, target: Connection) -> INetStream | None:
        try:
            with trio.fail_after(ANSWER_S):
                async with negotiated(target, STOP) as onward:
                    peer = pb.PeerId(id=ID.from_base58(source).to_bytes())
                    wanted = pb.StopMessage(type=pb.StopMessage.CONNECT, peer=peer, limit=self._limit())
                    await send_message(onward, wanted)
                    answer = await receive_message(onward, pb.StopMessage, RULE)
        except (*STREAM_ENDED, StreamRefused, PeerFault, trio.TooSlowError):
            return None
        if answer.type == pb.StopMessage.STATUS and answer.status == pb.OK:
            return onward
        await onward.reset()
        return None

    def _limit(self) -> pb.Limit:
        return pb.Limit(duration=int(self._book.limits.circuit_s), data=self._book.limits.circuit_bytes)

    def _refused(self, connection: Connection, refusal: Refusal) -> None:
        self._complaints.refused(connection.wire.address, refusal, connection.peer)


@dataclass
class Splice:
    """Two streams joined, until both directions have ended, one breaks, or a limit is reached."""

    near: INetStream
    far: INetStream
    max_bytes: int
    max_s: float
    passed: int = 0
    _broken: bool = field(default=False, init=False)
    _refusal: Refusal | None = field(default=None, init=False)

    async def run(self) -> Refusal | None:
        """Return once it is over; the limit that ended it, if one did."""
        with trio.move_on_after(self.max_s) as deadline:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, self.near, self.far, nursery.cancel_scope)
                nursery.start_soon(self._pass, self.far, self.near, nursery.cancel_scope)
        if deadline.cancelled_caught:
            self._broken = True
            self._refusal = Refusal("relay_duration_s", f"{self.max_s:g} s", "reached")
        with trio.CancelScope(shield=True):
            for stream in (self.near, self.far):
                await _end(stream, broken=self._broken)
        return self._refusal

    async def _pass(self, source: INetStream, target: INetStream, scope: trio.CancelScope) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                self.passed += len(data)
                if self.passed > self.max_bytes:
                    self._refusal = Refusal("relay_bytes", str(self.max_bytes), str(self.passed))
                    break
                await target.write(data)
        except STREAM_ENDED:
            pass
        if self._refusal is not None or lost(source) or lost(target):
            self._broken = True
            scope.cancel()
            return
        try:
            await target.close_write()  # type: ignore[attr-defined]
        except STREAM_ENDED:
            self._broken = True
            scope.cancel()


async def _end(stream: INetStream, *, broken: bool) -> None:
    try:
        await (stream.reset() if broken else stream.close())
    except STREAM_ENDED:
        return


async def _refuse(stream: INetStream, status: "pb.Status.ValueType") -> None:
    await send_message(stream, pb.HopMessage(type=pb.HopMessage.STATUS, status=status))
    await stream.close()


def _peer_of(message: pb.HopMessage) -> str:
    try:
        return ID(message.peer.id).to_base58() if message.peer.id else _no_peer()
    except ValueError as error:
        raise PeerFault(RULE, f"whom to reach is no PeerId: {error}") from error


def _no_peer() -> str:
    raise PeerFault(RULE, "did not say whom to reach")
