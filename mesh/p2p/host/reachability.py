"""AutoNAT v1: peers dial us back and say whether they got through; we do the same for them."""

import ipaddress
from collections.abc import Callable

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from mesh.p2p.addresses import Target, target_of, udp_target_of
from mesh.p2p.host.admission import site_of
from mesh.p2p.host.circuit import CIRCUIT
from mesh.p2p.host.connections import Connection, Connections
from mesh.p2p.host.damping import Damper
from mesh.p2p.host.delimited import PeerFault, receive_message, send_message
from mesh.p2p.host.dialling import Dialler
from mesh.p2p.host.identify import readable
from mesh.p2p.host.negotiation import negotiated
from mesh.p2p.host.pump import STREAM_ENDED
from mesh.p2p.host.verdicts import Verdicts
from mesh.p2p.overlay import OverlayFact, ReachabilityChanged, StreamRefused

AUTONAT = TProtocol("/libp2p/autonat/1.0.0")
RULE = "autonat"
_MAX_ADDRESSES = 8
_DIAL_BACK_S = 5.0
_ANSWER_S = 15.0
# Each peer is asked when it is new, and again after this; a verdict is no older than that.
ASK_EVERY_S = 300.0
# A connection that is younger may be one of many that come and go.
_SETTLE_S = 2.0
# How often one peer, or one address, may have us dial.
_BURST, _PER_S = 3, 1 / 60


class Reachability:
    """Asks, answers, and reports when the picture changes."""

    def __init__(
        self,
        own_id: ID,
        connections: Connections,
        dialler: Dialler,
        report: Callable[[OverlayFact], None],
        *,
        own_addresses: Callable[[], list[str]],
    ) -> None:
        self._own_id = own_id
        self._connections = connections
        self._dialler = dialler
        self._report = report
        self._own_addresses = own_addresses
        self._verdicts = Verdicts()
        self._pace = Damper(burst=_BURST, per_s=_PER_S)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others have reached us, as they said."""
        return self._verdicts.addresses()

    # --- asking --------------------------------------------------------------------------------------------------

    async def ask(self, connection: Connection) -> None:
        """Have a peer dial us back soon, and every five minutes while it is connected."""
        pause_s = _SETTLE_S
        while not connection.wire.closed.is_set():
            with trio.move_on_after(pause_s):
                await connection.wire.closed.wait()
            if not connection.wire.closed.is_set():
                await self._ask_once(connection)
            pause_s = ASK_EVERY_S

    def gone(self, peer: str) -> None:
        """A peer is not connected any more; the state stays until others say otherwise."""
        self._verdicts.forget(peer)

    def may_ask(self, connection: Connection) -> bool:
        """Whether the peer answers such questions, and sees us at a public address: a LAN knows nothing of NATs.

        Who has punched its way to us comes through where nobody else does, and cannot tell.
        """
        if connection.relayed or connection.wire.punched:
            return False
        return AUTONAT in connection.protocols and is_public(connection.observed)

    async def _ask_once(self, connection: Connection) -> None:
        request = Message(type=Message.DIAL)
        request.dial.peer.id = self._own_id.to_bytes()
        request.dial.peer.addrs.extend(Multiaddr(address).to_bytes() for address in self._candidates(connection))
        try:
            with self._connections.probing(connection.peer), trio.fail_after(_ANSWER_S):
                async with negotiated(connection, AUTONAT) as stream:
                    await send_message(stream, request)
                    answer = (await receive_message(stream, Message, RULE)).dialResponse
                    await stream.close()
        except (*STREAM_ENDED, StreamRefused, PeerFault, trio.TooSlowError):
            self._verdicts.hear_nothing(connection.peer)
        else:
            self._hear(connection.peer, answer)
        self._decide()

    def _hear(self, peer: str, answer: "Message.DialResponse") -> None:
        match answer.status:
            case Message.OK:
                self._verdicts.hear(peer, str(readable(answer.addr) or ""))
            case Message.E_DIAL_ERROR:
                self._verdicts.hear(peer, None)
            case _:
                self._verdicts.hear_nothing(peer)

    def _candidates(self, connection: Connection) -> list[str]:
        """Our addresses, and our ports at the address that the peer sees."""
        own = self._own_addresses()
        seen = _place(connection.observed)
        if seen is not None:
            own += [f"/{seen.kind}/{seen.host}/{rest}" for rest in (a.split("/", 3)[3] for a in own if _is_plain(a))]
        return list(dict.fromkeys(own))[:_MAX_ADDRESSES]

    def _decide(self) -> None:
        askable = {connection.peer for connection in self._connections if self.may_ask(connection)}
        state = self._verdicts.decide(askable)
        if state is not None:
            self._report(ReachabilityChanged(state, self.addresses, len(askable)))

    # --- answering -----------------------------------------------------------------------------------------------

    async def handle(self, stream: INetStream) -> None:
        """Dial a peer back at its own address, and nowhere else. Raises PeerFault."""
        connection = self._connections.carrying(stream)
        if connection is None:
            await stream.reset()
            return
        with trio.fail_after(_ANSWER_S):
            request = await receive_message(stream, Message, RULE)
        if request.type != Message.DIAL:
            raise PeerFault(RULE, f"asked with a message of type {request.type}")
        answer = Message(type=Message.DIAL_RESPONSE)
        answer.dialResponse.status, reached = await self._dial_back(connection, list(request.dial.peer.addrs))
        if reached:
            answer.dialResponse.addr = Multiaddr(reached).to_bytes()
        await send_message(stream, answer)
        await stream.close()

    async def _dial_back(
        self, connection: Connection, raw: list[bytes]
    ) -> "tuple[Message.ResponseStatus.ValueType, str]":
        parsed = [str(address) for address in map(readable, raw[:_MAX_ADDRESSES]) if address is not None]
        addresses = [address for address in parsed if not connection.relayed and is_at(address, connection.wire.host)]
        if not addresses or any(one.wire.punched for one in self._connections.all_of(connection.peer)):
            return Message.E_DIAL_REFUSED, ""
        dialled = self._connections.dialled(connection.peer)
        if dialled is not None:  # we have reached it already
            return Message.OK, dialled.wire.address
        now = trio.current_time()
        if any(self._pace.admit(key, now) is None for key in (connection.peer, site_of(connection.wire.host))):
            return Message.E_DIAL_REFUSED, ""
        with self._connections.probing(connection.peer):
            reached = await self._dialler.probe(connection.peer, addresses, _DIAL_BACK_S)
        return (Message.OK, reached) if reached else (Message.E_DIAL_ERROR, "")


def is_public(address: str) -> bool:
    """Whether an address is one of the whole internet's."""
    target = _place(address)
    try:
        return target is not None and ipaddress.ip_address(target.host).is_global
    except ValueError:
        return False


def _place(address: str) -> Target | None:
    return target_of(address) or udp_target_of(address)


def is_at(address: str, host: str) -> bool:
    """Whether a TCP address is at the IP address ``host``."""
    target = target_of(address)
    if target is None or CIRCUIT in address or target.kind not in ("ip4", "ip6"):
        return False
    try:
        return ipaddress.ip_address(target.host) == ipaddress.ip_address(host)
    except ValueError:
        return False


def _is_plain(address: str) -> bool:
    return target_of(address) is not None and CIRCUIT not in address
