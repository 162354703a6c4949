"""The peers of this node: who they are, whether they live, and calls to and from them."""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import assert_never

import structlog
from pydantic import JsonValue

from mesh.clock import Clock
from mesh.config import OverlayConfig
from mesh.errors import PeerMisbehaved
from mesh.events.journal import Journal
from mesh.identity import Identity
from mesh.p2p.access import Access
from mesh.p2p.addresses import merged, relays, static_peers
from mesh.p2p.calls import CallFailed, Handler, OnChunk, Reply
from mesh.p2p.chronicle import Chronicle
from mesh.p2p.dialer import Dialer
from mesh.p2p.door import Door
from mesh.p2p.hearing import Hearing
from mesh.p2p.heartbeat import Heartbeat
from mesh.p2p.hints import usable
from mesh.p2p.link import Link
from mesh.p2p.link_stats import LinkStats
from mesh.p2p.liveness import Change, ConfirmedDown
from mesh.p2p.membership import GIVE_UP_ATTEMPTS, Membership
from mesh.p2p.messages import PROTOCOL, VERSION, Hello
from mesh.p2p.overlay import (
    Connected,
    Disconnected,
    HolePunched,
    Identified,
    Misbehaved,
    Overlay,
    OverlayDown,
    OverlayFact,
    PathChanged,
    PortMapped,
    Provider,
    ReachabilityChanged,
    Refused,
    RelayLost,
    RelayReserved,
    Restarted,
    Stream,
)
from mesh.p2p.sealed_streams import Sealing
from mesh.p2p.streams import Fault, Streams, our_hello
from mesh.p2p.tasks import TaskOwner
from mesh.p2p.topics import MAX_GOSSIP_BYTES, OnGossip, Topics

log = structlog.get_logger(__name__)

# A peer that is down and has not been heard of for this long leaves no trace but the journal.
_FORGET_S = 600.0
# Who is cut off for what it said on a stream has this long to read why.
_FAREWELL_S = 0.25
# How long a node that leaves waits for its peers to hang up.
_GOODBYE_S = 1.0


class Peers:
    """This node among its peers, over any overlay. Everything that happens to a peer becomes a fact in the journal.

    Handlers and topics are registered before `start`. Raises ConfigError for static peers that are no multiaddr.
    ``identity`` is what calls are sealed with, where ``[overlay] seal`` asks for that.
    ``keepers`` are the tasks that dial and beat: they end only by `stop`, so their owner watches them for failure.
    """

    def __init__(
        self,
        overlay: Overlay,
        journal: Journal,
        config: OverlayConfig,
        *,
        peer_id: str,
        name: str,
        mesh: str,
        clock: Clock,
        rng_seed: int,
        identity: Identity | None = None,
    ) -> None:
        self.peer_id = peer_id
        self._overlay = overlay
        self._chronicle = Chronicle(journal)
        self._topics = Topics(mesh)
        self._mesh = mesh
        self._dht = f"/mesh/{mesh}/kad/1.0.0" if config.dht else ""
        self._clock = clock
        self._static = static_peers([*config.peers, *relays(config.relays if config.relay != "off" else ())], peer_id)
        self._links: dict[str, Link] = {}
        self._usable: frozenset[str] = frozenset()
        self._parted = asyncio.Event()
        self._handlers: dict[str, Handler] = {}
        self._acceptors: dict[str, Callable[[Stream], None]] = {}
        self._heartbeat_s = config.heartbeat_s
        self._tasks = TaskOwner()
        self.keepers: tuple[asyncio.Task[None], ...] = ()
        rng = random.Random(rng_seed)  # noqa: S311 - spreads redials
        self._low_water = config.low_water
        self._door = Door(overlay, clock, pause_s=config.redial_max_s, known=self.known, on_admitted=self._on_admitted)
        self._membership = Membership(
            peer_id,
            config.redial_min_s,
            config.redial_max_s,
            rng,
            admits=lambda peer: not self._door.denies(peer),
            room=lambda: self._low_water - len(self.connected_links()),
        )
        self._dialer = Dialer(
            overlay,
            self._membership,
            self._tasks,
            clock,
            timeout_s=config.dial_timeout_s,
            is_connected=self._is_connected,
            on_failed=self._chronicle.dial_failed,
        )
        self._heartbeat = Heartbeat(
            self._links,
            clock,
            config.heartbeat_s,
            hearing=Hearing(overlay.check, self._tasks, clock, config.heartbeat_s),
            on_change=self._on_change,
            on_idle=self._on_idle,
            us=peer_id,
        )
        sealing = None
        if identity is not None and config.seal != "off":
            sealing = Sealing(identity, config, clock, rng, self._tasks)
        self._streams = Streams(
            overlay,
            config,
            our_hello(config, mesh=mesh, name=name),
            self._handlers,
            clock,
            rng,
            self._tasks,
            sealing=sealing,
            on_usable=self._on_usable,
            on_unusable=self._on_unusable,
            on_fault=self._on_fault,
            on_greeted=self._on_greeted,
            on_leaving=self._on_leaving,
            on_pong=self._heartbeat.on_pong,
            on_ping=self._heartbeat.on_ping,
        )

    def serve(self, method: str, handler: Handler) -> None:
        """Answer calls of ``method`` with ``handler``; before `start`."""
        self._handlers[method] = handler

    def register(self, topic: str, callback: OnGossip) -> None:
        """Call ``callback(signer, data)`` with what peers gossip on a topic; before `start`.

        The callback raises PeerMisbehaved for what breaks the rules; that is recorded, and the peer dropped.
        """
        self._topics.register(topic, callback)

    def accept(self, protocol: str, on_stream: Callable[[Stream], None]) -> None:
        """Hand the streams of another protocol that peers open to ``on_stream``; before `start`."""
        self._acceptors[protocol] = on_stream

    async def open_stream(self, peer: str, protocol: str, timeout: float) -> Stream:
        """A stream of another protocol. Raises StreamRefused or OverlayDown."""
        return await self._overlay.open_stream(peer, protocol, timeout)

    def misbehaved(self, peer: str, rule: str, detail: str) -> None:
        """The peer broke a rule of what is built on this: record it, and cut the peer off for a while."""
        self._chronicle.misbehaved(peer, "", rule=rule, detail=detail)
        self._cut_off(peer, f"misbehaved: {rule}")

    def drop(self, peer: str, reason: str) -> None:
        """Cut off a peer of which it is known from before that it broke the rules."""
        if self._is_connected(peer):
            self._cut_off(peer, reason)

    async def start(self) -> None:
        """Join. Raises ListenError."""
        protocols = [PROTOCOL, *self._acceptors]
        await self._overlay.start(self, protocols=protocols, topics=self._topics.registered(), dht=self._dht)
        for peer, addresses in self._static.items():
            self._learn(peer, addresses, "static", static=True)
        self.keepers = (
            self._tasks.start(self._dialer.run(), "dial peers"),
            self._tasks.start(self._heartbeat.run(), "beat"),
            self._tasks.start(self._door.run(), "admit again"),
        )

    async def stop(self) -> None:
        """Leave: no stream is open and no handler runs when this returns. Peers are told, and are given a moment."""
        for link in self._links.values():
            self._streams.say_goodbye(link, "this node is stopping")
        await self._tasks.end()
        await self._until_parted()
        await self._overlay.stop()
        for link in self._links.values():
            for connection in list(link.connections):
                self._on_disconnected(Disconnected(link.peer, connection, "this node stopped"))
        await self._tasks.end()

    async def _until_parted(self) -> None:
        """A peer that heard our goodbye hangs up; what was not read when the overlay ends is lost."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                while any(link.connections for link in self._links.values()):
                    self._parted.clear()
                    await self._parted.wait()
        except TimeoutError:
            log.debug("some peers did not hang up")

    async def call(
        self,
        peer: str,
        method: str,
        header: Mapping[str, JsonValue],
        body: bytes = b"",
        *,
        timeout: float,
        on_chunk: OnChunk | None = None,
    ) -> Reply:
        """Ask ``peer``, and wait at most ``timeout`` seconds for its answer.

        ``on_chunk`` takes the pieces of a streamed answer, in order, before this returns; without it they are the
        beginning of the reply's body. Raises CallFailed. Cancelling the task cancels the call at the peer.
        """
        link = self._links.get(peer)
        calling = link.calling if link is not None else None
        if calling is None:
            raise CallFailed("disconnected", f"there is no stream to {peer}")
        return await (calling.sealed or calling).call(method, header, body, timeout, on_chunk)

    async def gossip(self, topic: str, data: bytes) -> None:
        """Tell everyone, best effort. Raises OverlayDown; ValueError when it is more than 32 KiB."""
        if len(data) > MAX_GOSSIP_BYTES:
            raise ValueError(f"gossip of {len(data)} bytes; the limit is {MAX_GOSSIP_BYTES}")
        await self._overlay.publish(self._topics.on_wire(topic), data)

    async def provide(self, names: Iterable[str]) -> None:
        """Let others of this mesh find us by exactly these names from now on. Raises OverlayDown."""
        await self._overlay.provide([self._in_mesh(name) for name in names])

    async def find_providers(self, name: str, timeout: float) -> tuple[Provider, ...]:
        """Who is said to provide ``name`` in this mesh: hints. Raises OverlayDown."""
        return await self._overlay.find_providers(self._in_mesh(name), timeout)

    def _in_mesh(self, name: str) -> str:
        return f"/mesh/{self._mesh}/{name}"

    def connected(self) -> frozenset[str]:
        """The peers that can be called now."""
        return self._usable

    def connected_links(self) -> tuple[Link, ...]:
        """What there is with each peer that is connected."""
        return tuple(link for link in self._links.values() if link.connections)

    def is_static(self, peer: str) -> bool:
        """Whether the configuration names the peer."""
        return peer in self._static

    async def restrict(self, access: Access) -> int:
        """From now on only whom ``access`` admits is connected, dialled and heard; how many were cut off for it."""
        before = self.connected_links()
        await self._door.restrict(access)
        return sum(not link.connections for link in before)

    def _on_admitted(self, peers: Collection[str]) -> None:
        self._membership.admit_again(peers, self._clock.monotonic())
        self._dialer.wake()

    def let_go(self, peer: str, reason: str) -> None:
        """Disconnect a peer that did nothing wrong; for a while it is neither dialled nor, while it is full, let in."""
        self._door.let_go(peer)
        link = self._links.get(peer)
        if link is not None:
            link.misbehaved = True  # the longest pause, and no more streams
        self._disconnect(peer, reason)

    def _come_back_too_soon(self, link: Link) -> None:
        pause = self._door.stays_away_s(link.peer)
        connected = len(self.connected_links())
        if pause <= 0 or connected <= self._low_water:
            return
        limit, value = f"{self._low_water} for {pause:.0f} s more", str(connected)
        self._chronicle.refused(link.peer, link.address, rule="trimmed", limit=limit, value=value)
        link.misbehaved = True
        self._disconnect(link.peer, "it was let go a moment ago, and there are as many peers as before")

    def stats(self, peer: str) -> LinkStats | None:
        """The link to a peer since this was last asked; None when there never was one."""
        link = self._links.get(peer)
        return link.read_stats(self._clock.monotonic()) if link is not None else None

    def name_of(self, peer: str) -> str:
        """What the peer calls itself; empty when not known."""
        link = self._links.get(peer)
        return link.hello.name if link is not None and link.hello is not None else ""

    def learn(
        self,
        peer: str,
        addresses: Sequence[str],
        source: str,
        *,
        by: str = "",
        patience: int = GIVE_UP_ATTEMPTS,
        within_s: float = 0.0,
    ) -> None:
        """The peer was found at these addresses by ``source``, or was told of by ``by``: keep it connected.

        See `PeerDiscovered` for the sources, and `Membership.learn` for ``patience`` and ``within_s``.
        """
        self._learn(peer, addresses, source, by=by, patience=patience, within_s=within_s)

    def address_of(self, peer: str) -> str:
        """The other end of the connection to a peer; empty when there is none."""
        link = self._links.get(peer)
        return link.address if link is not None and link.connections else ""

    def acquaintances(self) -> dict[str, tuple[str, ...]]:
        """The nodes of this mesh that are connected now, each with addresses where others may reach it."""
        return {
            link.peer: merged(usable(link.peer, link.listening, link.address), link.proved)
            for link in self._links.values()
            if link.connections and link.hello is not None and link.hello.role == "node"
        }

    def forget(self, peer: str) -> None:
        """Don't dial the peer any more, unless it is static or found again."""
        self._membership.forget(peer)

    def known(self) -> dict[str, tuple[str, ...]]:
        """Every peer that is kept connected, with its addresses."""
        return {member.peer: member.addresses for member in self._membership.members.values()}

    def on_fact(self, fact: OverlayFact) -> None:
        """See `OverlayHandler.on_fact`."""
        match fact:
            case Connected():
                self._on_connected(fact)
            case Disconnected():
                self._on_disconnected(fact)
            case Identified():
                self._on_identified(fact)
            case Refused(peer, address, rule, limit, value):
                self._chronicle.refused(peer, address, rule=rule, limit=limit, value=value)
            case Misbehaved(peer, address, rule, detail):
                self._on_misbehaved(peer, address, rule, detail)
            case PathChanged():
                self._on_path_changed(fact)
            case HolePunched() | RelayReserved() | RelayLost() | ReachabilityChanged() | PortMapped():
                self._chronicle.nat(fact)
            case Restarted():
                self._chronicle.restarted(fact)
                self._membership.overlay_restarted(self._clock.monotonic())
                self._dialer.wake()
            case _:
                assert_never(fact)

    def on_stream(self, stream: Stream) -> None:
        """See `OverlayHandler.on_stream`."""
        link = self._links.get(stream.peer)
        if link is None or not link.connections or link.misbehaved:
            stream.writer.close()
        elif stream.protocol == PROTOCOL:
            self._streams.accept(link, stream)
        elif (accept := self._acceptors.get(stream.protocol)) is not None:
            accept(stream)
        else:
            stream.writer.close()

    def on_gossip(self, topic: str, peer: str, data: bytes) -> None:
        """See `OverlayHandler.on_gossip`."""
        if peer == self.peer_id or self._door.denies(peer):
            return
        try:
            self._topics.deliver(topic, peer, data)
        except PeerMisbehaved as fault:
            self._on_misbehaved(peer, "", fault.rule, f"on {topic}: {fault.what}")

    def _learn(
        self,
        peer: str,
        addresses: Sequence[str],
        source: str,
        *,
        static: bool = False,
        by: str = "",
        patience: int = GIVE_UP_ATTEMPTS,
        within_s: float = 0.0,
    ) -> None:
        now = self._clock.monotonic()
        if not self._membership.learn(peer, addresses, now, static=static, patience=patience, within_s=within_s):
            return
        if self._is_connected(peer):
            self._membership.connected(peer, self._clock.monotonic())
        self._chronicle.discovered(peer, self._membership.members[peer].addresses, source, by)
        self._dialer.wake()

    def _is_connected(self, peer: str) -> bool:
        link = self._links.get(peer)
        return link is not None and bool(link.connections)

    def _on_connected(self, fact: Connected) -> None:
        now = self._clock.monotonic()
        link = self._links.get(fact.peer)
        if link is None:
            link = self._links[fact.peer] = Link(fact.peer, self._heartbeat_s, now)
        first = not link.connections
        link.connections[fact.connection] = now
        link.address = fact.address
        link.proved = (fact.address,) if fact.direction == "outbound" else link.proved
        self._chronicle.connected(fact)
        if first:
            link.connected_at = now
            link.misbehaved = link.leaving = False
            self._membership.connected(fact.peer, now)
            self._streams.keep(link)
            self._come_back_too_soon(link)

    def _on_path_changed(self, fact: PathChanged) -> None:
        link = self._links.get(fact.peer)
        if link is None or fact.connection not in link.connections:
            return
        link.address = fact.address
        self._chronicle.path_changed(fact)
        if fact.path == "direct":
            self._streams.renew(link)

    def _on_identified(self, fact: Identified) -> None:
        self._chronicle.identified(fact)
        link = self._links.get(fact.peer)
        if link is not None:
            link.listening = fact.addresses

    def _on_disconnected(self, fact: Disconnected) -> None:
        link = self._links.get(fact.peer)
        if link is None or link.connections.pop(fact.connection, None) is None or link.connections:
            return
        now = self._clock.monotonic()
        self._parted.set()
        self._streams.drop(link, f"the connection was lost: {fact.reason}")
        self._chronicle.disconnected(fact.peer, fact.connection, fact.reason, now - link.connected_at)
        self._membership.disconnected(fact.peer, now, penalty=link.misbehaved)
        self._dialer.wake()
        if link.liveness is None or link.leaving:
            del self._links[fact.peer]
        self._forget_the_dead(now)

    def _on_greeted(self, link: Link, hello: Hello) -> None:
        if link.hello is None or (hello.name, hello.role) != (link.hello.name, link.hello.role):
            self._chronicle.greeted(link.peer, hello, VERSION)
        link.hello = hello

    def _on_leaving(self, link: Link, reason: str) -> None:
        if link.leaving or not link.connections:
            return
        link.leaving = True
        self._chronicle.left(link.peer, reason)
        self._streams.drop(link, f"the peer left: {reason}")
        self._disconnect(link.peer, f"the peer left: {reason}")

    def _on_usable(self, link: Link) -> None:
        self._heartbeat.begin(link)
        self._usable |= {link.peer}

    def _on_unusable(self, link: Link) -> None:
        self._usable -= {link.peer}

    def _on_change(self, link: Link, change: Change) -> None:
        reason = "no answer to heartbeats" if link.connections else "not connected"
        self._chronicle.changed(link.peer, change, reason=reason)
        if isinstance(change, ConfirmedDown) and link.connections:
            self._streams.drop(link, f"nothing was heard of the peer for {change.silent_s:.1f} s")
            self._disconnect(link.peer, "confirmed down")

    def _on_idle(self, link: Link, silent_s: float) -> None:
        limit, value = "5 heartbeats", f"{silent_s:.1f} s"
        self._chronicle.refused(link.peer, link.address, rule="idle", limit=limit, value=value)
        self._streams.end_answering(link)

    def _on_fault(self, link: Link, fault: Fault) -> None:
        if isinstance(fault, PeerMisbehaved):
            self._on_misbehaved(link.peer, link.address, fault.rule, fault.what, farewell_s=_FAREWELL_S)
            return
        self._chronicle.refused(link.peer, link.address, rule=fault.rule, limit=fault.limit, value=fault.value)
        if fault.final:
            link.misbehaved = True
            self._disconnect(link.peer, fault.what, farewell_s=_FAREWELL_S)

    def _on_misbehaved(self, peer: str, address: str, rule: str, detail: str, *, farewell_s: float = 0.0) -> None:
        self._chronicle.misbehaved(peer, address, rule=rule, detail=detail)
        if self._is_connected(peer):  # else it did not prove yet who it is
            self._cut_off(peer, f"misbehaved: {rule}", farewell_s=farewell_s)

    def _cut_off(self, peer: str, reason: str, *, farewell_s: float = 0.0) -> None:
        link = self._links.get(peer)
        if link is not None:
            link.misbehaved = True
        self._tasks.start(self._keep_out(peer, reason, farewell_s), f"keep out {peer}")

    async def _keep_out(self, peer: str, reason: str, farewell_s: float) -> None:
        await self._disconnect_soon(peer, reason, farewell_s)
        await self._door.keep_out(peer)

    def _disconnect(self, peer: str, reason: str, *, farewell_s: float = 0.0) -> None:
        self._tasks.start(self._disconnect_soon(peer, reason, farewell_s), f"disconnect {peer}")

    async def _disconnect_soon(self, peer: str, reason: str, farewell_s: float) -> None:
        if farewell_s:
            await self._clock.sleep(farewell_s)
        try:
            await self._overlay.disconnect(peer, reason)
        except OverlayDown:
            log.debug("the overlay is down, and with it the connection", peer=peer)

    def _forget_the_dead(self, now: float) -> None:
        for link in list(self._links.values()):
            dead = not link.connections and link.liveness is not None and link.liveness.state == "down"
            if dead and now - link.heard_before > _FORGET_S:
                del self._links[link.peer]
