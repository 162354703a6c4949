"""The overlay process at work: commands of the node in, facts and streams out."""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.tools.anyio_service import background_trio_service

from mesh import garbage
from mesh.errors import ListenError, MeshError
from mesh.p2p.access import Access, Gate
from mesh.p2p.addresses import OVER_UDP
from mesh.p2p.host import gossip, identify, wire
from mesh.p2p.host.admission import Admission, Refusal, refusal_of
from mesh.p2p.host.complaints import Complaints
from mesh.p2p.host.connections import Connection, Connections
from mesh.p2p.host.control import Control, connect_local
from mesh.p2p.host.dht import Dht
from mesh.p2p.host.dialling import Dialler
from mesh.p2p.host.doorkeeper import Doorkeeper
from mesh.p2p.host.host_streams import HostStreams
from mesh.p2p.host.layers import Layers
from mesh.p2p.host.listening import Bound, bind
from mesh.p2p.host.negotiation import negotiate
from mesh.p2p.host.pump import STREAM_ENDED
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.router import Router
from mesh.p2p.host.settings import HostSettings
from mesh.p2p.host.swarm import make_host, multiaddrs
from mesh.p2p.host.transports import announced, make_transports
from mesh.p2p.host.traversal import Traversal
from mesh.p2p.host.wires import unread_of
from mesh.p2p.interfaces import dialable, interface_ips
from mesh.p2p.overlay import Identified, OverlayFact, StreamRefused

_WATCH_EVERY_S = 1.0
# Of trio's scheduler: a heartbeat takes 1 turn from the node to the socket, and its answer 2 back (counted).
_TURNS_OF_A_HEARTBEAT = 4


async def serve(settings: HostSettings) -> None:
    """Serve the node until it is gone; return at once when an address cannot be listened on."""
    control = Control(await connect_local(settings, 0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control.write)
        try:
            layers = Layers(settings.network_key, settings.wss)
            layers.check()
            bound = announced(bind(settings.listen), settings.seed)
        except ListenError as error:
            control.send(wire.StartFailed(error.what, error.remedy))
            await control.finish()
            return
        await Service(settings, control, layers, bound, nursery).run()


class Service:
    """Everything that one overlay process does."""

    def __init__(
        self,
        settings: HostSettings,
        control: Control,
        layers: Layers,
        bound: Sequence[Bound],
        nursery: trio.Nursery,
    ) -> None:
        self._settings = settings
        self._control = control
        self._bound = bound
        self._nursery = nursery
        limits = settings.limits
        self._complaints = Complaints(self._report, handshake_s=limits.handshake_s)
        self._admission = Admission(limits)
        self._admission.gate = Gate(settings.access)
        keeper = Doorkeeper(
            self._admission,
            handshake_s=limits.handshake_s,
            outbound=lambda: self._connections.outbound + self._dialler.in_progress,
            on_refused=self._complaints.refused,
            on_unsettled=self._complaints.unsettled,
        )
        budget = ReceiveBudget(limits.max_receive_bytes)
        door, transports = make_transports(settings, bound, keeper, layers, budget, nursery)
        self._host, self._swarm = make_host(settings.seed, transports, limits, budget, settings.security)
        self._connections = Connections(
            str(self._host.get_id()), nursery, report=self._report, on_settled=keeper.settle
        )
        self._connections.on_connected = self._greet
        self._connections.on_left = self._forget
        self._connections.on_own_identity = self._refuse_own_identity
        self._connections.is_denied = self._refuse_denied
        self._dialler = Dialler(
            self._swarm, self._connections, max_connections=limits.max_connections, private=layers.private
        )
        self._dialler.gate = lambda: self._admission.gate
        self._dialler.others = lambda: self._admission.inbound + self._connections.outbound
        self._identifier = identify.Identifier(self._host, settings.agent, self._report)
        self._traversal = Traversal(
            settings.nat,
            self._host,
            self._swarm,
            self._connections,
            self._dialler,
            door,
            layers,
            self._complaints,
            bound,
            nursery,
            self._report,
            announce=self._identifier.push,
        )
        self._router = Router()
        self._pubsub = gossip.SafePubsub(
            self._host,
            self._router,
            settings.topics,
            on_misbehaved=self._gossip_misbehaved,
            on_paced=self._gossip_paced,
            is_connected=lambda peer: self._connections.of(peer) is not None,
        )
        self._dht = self._make_dht() if settings.dht else None
        self._streams = HostStreams(settings, control, self._connections, self._complaints, on_misbehaved=self._drop)
        control.before_leaving = self._say_goodbye

    async def run(self) -> None:
        """Serve until `Control.leave`."""
        self._nursery.start_soon(self._control.leave_when_told)
        self._swarm.register_notifee(self._connections)
        self._swarm.set_stream_handler(self._streams.guarded(self._swarm.common_stream_handler))
        for protocol in self._settings.protocols:
            self._host.set_stream_handler(TProtocol(protocol), self._streams.accept)
        if self._dht is not None:
            self._host.set_stream_handler(TProtocol(self._dht.protocol), self._dht.serve)
            self._nursery.start_soon(self._dht.keep)
        self._traversal.start()
        listen = multiaddrs([one.address for one in self._bound])
        async with self._host.run(listen):
            await self._swarm.auto_connector.stop()
            async with background_trio_service(self._pubsub), background_trio_service(self._router):
                await self._pubsub.wait_until_ready()
                for topic in self._settings.topics:
                    await self._nursery.start(gossip.drain, self._pubsub, topic, self._heard)
                self._nursery.start_soon(self._watch)
                garbage.settle()
                self._control.send(wire.Listening(tuple(one.address for one in self._bound)))
                async for command in self._control.commands():
                    self._obey(command)

    # --- commands ------------------------------------------------------------------------------------------------

    def _obey(self, command: wire.Command) -> None:
        match command:
            case wire.CloseStream():
                self._streams.let_go(command.stream)
            case wire.AreYouThere():
                self._nursery.start_soon(self._prove_life, command.id)
            case wire.Dial():
                dial = self._dialler.dial
                self._answer(command.id, lambda: dial(command.peer, command.addresses, command.timeout_s))
            case wire.Disconnect():
                self._disconnect(command)
            case wire.Restrict():
                self._restrict(command.access)
                self._control.send(wire.Done(command.id))
            case wire.OpenStream():
                self._answer(command.id, lambda: self._streams.open(command), says_done=False)
            case wire.Provide() | wire.FindProviders():
                self._obey_about_dht(command)
            case wire.Publish():
                self._answer(command.id, lambda: self._pubsub.publish(command.topic, command.data))

    def _answer(self, command_id: int, work: Callable[[], Awaitable[None]], *, says_done: bool = True) -> None:
        async def task() -> None:
            try:
                await work()
            except MeshError as error:
                self._control.send(wire.Failed(command_id, error.what, error.remedy))
            except Exception as error:  # noqa: BLE001 - the node is told, the log has the trace, the others go on
                traceback.print_exception(error)
                self._control.send(wire.Failed(command_id, f"the overlay failed: {error!r}"))
            else:
                if says_done:
                    self._control.send(wire.Done(command_id))

        self._nursery.start_soon(task)

    async def _prove_life(self, command_id: int) -> None:
        """Take as long as a heartbeat and its answer do here: with many peers and little time a turn is a long time."""
        for _ in range(_TURNS_OF_A_HEARTBEAT):
            await trio.lowlevel.checkpoint()
        unread = unread_of(connection.wire for connection in self._connections)
        peers = {connection.peer for connection in self._connections if connection.wire in unread}
        self._control.send(wire.Here(command_id, tuple(peers)))

    def _make_dht(self) -> Dht:
        own, protocol = str(self._host.get_id()), self._settings.dht
        dht = Dht(
            protocol,
            own,
            self._connections,
            addresses=lambda: tuple(f"{at}/p2p/{own}" for at in dialable(self._listening(), interface_ips())),
            dial=self._dialler.dial,
            open_stream=lambda connection: negotiate(connection, protocol),
            on_misbehaved=self._drop,
            on_refused=lambda connection, refusal: self._complaints.refused(
                connection.wire.address, refusal, connection.peer
            ),
        )
        dht.provide(self._settings.provided)
        return dht

    def _listening(self) -> list[str]:
        return [one.address for one in self._bound]

    def _obey_about_dht(self, command: wire.Provide | wire.FindProviders) -> None:
        if isinstance(command, wire.FindProviders):
            self._answer(command.id, lambda: self._find(command), says_done=False)
            return
        if self._dht is not None:
            self._dht.provide(command.names)
        self._control.send(wire.Done(command.id))

    async def _find(self, command: wire.FindProviders) -> None:
        found = await self._dht.find(command.name, command.timeout_s) if self._dht is not None else ()
        self._control.send(wire.Found(command.id, found))

    def _disconnect(self, command: wire.Disconnect) -> None:
        for connection in self._connections.all_of(command.peer):
            connection.wire.abort(command.reason)
            self._connections.leave(connection)
        self._control.send(wire.Done(command.id))

    def _restrict(self, access: Access) -> None:
        gate = self._admission.gate = Gate(access)
        for connection in self._connections:
            denied = gate.deny_peer(connection.peer, connection.wire.host)
            if denied is not None:
                connection.wire.abort(str(denied))
                self._connections.leave(connection)

    # --- connections ---------------------------------------------------------------------------------------------

    def _greet(self, connection: Connection) -> None:
        if not connection.probe:
            self._nursery.start_soon(self._identify, connection)

    async def _identify(self, connection: Connection) -> None:
        try:
            identified = await self._identifier.ask(connection, await negotiate(connection, identify.IDENTIFY))
            self._traversal.identified(connection, identified.addresses)
        except ValueError as error:
            self._drop(connection, "identify", str(error))
        except (*STREAM_ENDED, StreamRefused, trio.TooSlowError):
            return  # it does not speak it, or is gone: neither is a fault

    def _forget(self, connection: Connection) -> None:
        peer_id = connection.muxed.peer_id
        if connection.muxed.overflowed:
            detail = "sent more than the windows of its streams allow"
            self._complaints.misbehaved(connection.wire.address, "receive_window", detail, connection.peer)
        if connection.muxed.fault:
            self._complaints.misbehaved(connection.wire.address, "connection", connection.muxed.fault, connection.peer)
        if connection.muxed.refusal is not None:
            self._complaints.refused(connection.wire.address, connection.muxed.refusal, connection.peer)
        self._pubsub.connection_lost(peer_id, connection.muxed)
        self._traversal.left(connection)
        if self._connections.of(connection.peer) is None:
            with suppress(PeerStoreError):
                self._host.get_peerstore().clear_peerdata(peer_id)

    def _say_goodbye(self) -> None:
        """To those whose connection the kernel does not close for us."""
        for connection in self._connections:
            if connection.wire.transport in OVER_UDP:
                connection.wire.abort("closed by us")

    def _refuse_own_identity(self, connection: Connection) -> None:
        refusal = Refusal("own_identity", "one node with an identity", connection.peer)
        self._complaints.refused(connection.wire.address, refusal, connection.peer)

    def _refuse_denied(self, connection: Connection) -> str:
        denied = self._admission.gate.deny_peer(connection.peer, connection.wire.host)
        if denied is None:
            return ""
        self._complaints.refused(connection.wire.address, refusal_of(denied), connection.peer)
        return str(denied)

    def _drop(self, connection: Connection, rule: str, detail: str) -> None:
        self._complaints.misbehaved(connection.wire.address, rule, detail, connection.peer)
        connection.wire.abort(f"misbehaved: {rule}")

    async def _watch(self) -> None:
        """A peer that is frozen, or a network that swallows packets, shows as silence: ask first, then give it up."""
        silent_s = self._settings.limits.silent_s
        last = trio.current_time()
        while True:
            await trio.sleep(_WATCH_EVERY_S)
            now = trio.current_time()
            paused, last = now - last > _WATCH_EVERY_S + max(_WATCH_EVERY_S, silent_s / 3), now
            for connection in self._connections:
                if paused:  # it was us who were not there
                    connection.wire.heard_at = now
                self._watch_one(connection, now - connection.wire.heard_at, silent_s)
            self._traversal.tidy()

    def _watch_one(self, connection: Connection, silence_s: float, silent_s: float) -> None:
        if silence_s > silent_s:
            connection.wire.abort(f"silent for {silence_s:.0f} s")
        elif silence_s > silent_s / 3:
            self._nursery.start_soon(connection.muxed.ask_for_life)
        if not connection.protocols.isdisjoint(self._pubsub.protocols):
            self._pubsub.heal(connection.muxed.peer_id)

    # --- reports -------------------------------------------------------------------------------------------------

    def _report(self, fact: OverlayFact) -> None:
        if isinstance(fact, Identified) and self._dht is not None:
            self._dht.identified(fact)
        self._control.send(wire.happened(fact))

    def _heard(self, topic: str, peer: str, data: bytes) -> None:
        self._control.send(wire.Gossip(topic, peer, data))

    def _gossip_misbehaved(self, peer: ID, rule: str, detail: str) -> None:
        for connection in self._connections.all_of(str(peer)):
            self._drop(connection, rule, detail)

    def _gossip_paced(self, peer: ID, refusal: Refusal) -> None:
        connection = self._connections.of(str(peer))
        if connection is not None:
            self._complaints.refused(connection.wire.address, refusal, connection.peer)
