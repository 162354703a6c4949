"""The peers of this node: who they are, whether they live, and calls to and from them."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence

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
from mesh.p2p.hints import usable
from mesh.p2p.link import Link
from mesh.p2p.link_stats import LinkStats
from mesh.p2p.links import Links
from mesh.p2p.membership import GIVE_UP_ATTEMPTS
from mesh.p2p.messages import PROTOCOL
from mesh.p2p.overlay import Overlay, OverlayFact, Provider, Stream
from mesh.p2p.session import SessionRefused
from mesh.p2p.streams import our_hello
from mesh.p2p.tasks import TaskOwner
from mesh.p2p.topics import MAX_GOSSIP_BYTES, OnGossip, Topics


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
        self._handlers: dict[str, Handler] = {}
        self._acceptors: dict[str, Callable[[Stream], None]] = {}
        self._tasks = TaskOwner()
        self.keepers: tuple[asyncio.Task[None], ...] = ()
        self._links = Links(
            overlay,
            self._chronicle,
            config,
            our_hello(config, mesh=mesh, name=name),
            self._handlers,
            self._tasks,
            clock,
            random.Random(rng_seed),  # noqa: S311 - spreads redials
            peer_id=peer_id,
            identity=identity,
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
        self._links.cut_off(peer, f"misbehaved: {rule}")

    def drop(self, peer: str, reason: str) -> None:
        """Cut off a peer of which it is known from before that it broke the rules."""
        if self._links.is_connected(peer):
            self._links.cut_off(peer, reason)

    async def start(self) -> None:
        """Join. Raises ListenError."""
        protocols = [PROTOCOL, *self._acceptors]
        await self._overlay.start(self, protocols=protocols, topics=self._topics.registered(), dht=self._dht)
        for peer, addresses in self._static.items():
            self._links.learn(peer, addresses, "static", static=True)
        self.keepers = self._links.keep()

    async def stop(self) -> None:
        """Leave: no stream is open and no handler runs when this returns. Peers are told, and are given a moment."""
        self._links.say_goodbye()
        await self._tasks.end()
        await self._links.until_parted()
        await self._overlay.stop()
        self._links.end()
        await self._tasks.end()

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

    @property
    def unreached(self) -> Mapping[str, str]:
        """Configured peers that could not be dialled when it was last tried, and why."""
        return self._links.unreached

    @property
    def refused(self) -> Mapping[str, SessionRefused]:
        """Configured peers that were refused for good when they were last connected, and why."""
        return self._links.refused

    def connected(self) -> frozenset[str]:
        """The peers that can be called now."""
        return self._links.usable

    def connected_links(self) -> tuple[Link, ...]:
        """What there is with each peer that is connected."""
        return self._links.connected()

    def is_static(self, peer: str) -> bool:
        """Whether the configuration names the peer."""
        return peer in self._static

    async def restrict(self, access: Access) -> int:
        """From now on only whom ``access`` admits is connected, dialled and heard; how many were cut off for it."""
        return await self._links.restrict(access)

    def let_go(self, peer: str, reason: str) -> None:
        """Disconnect a peer that did nothing wrong; for a while it is neither dialled nor, while it is full, let in."""
        self._links.let_go(peer, reason)

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
        self._links.learn(peer, addresses, source, by=by, patience=patience, within_s=within_s)

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
        self._links.membership.forget(peer)

    def known(self) -> dict[str, tuple[str, ...]]:
        """Every peer that is kept connected, with its addresses."""
        return self._links.known()

    def on_fact(self, fact: OverlayFact) -> None:
        """See `OverlayHandler.on_fact`."""
        self._links.on_fact(fact)

    def on_stream(self, stream: Stream) -> None:
        """See `OverlayHandler.on_stream`."""
        link = self._links.get(stream.peer)
        if link is None or not link.connections or link.misbehaved:
            stream.writer.close()
        elif stream.protocol == PROTOCOL:
            self._links.streams.accept(link, stream)
        elif (accept := self._acceptors.get(stream.protocol)) is not None:
            accept(stream)
        else:
            stream.writer.close()

    def on_gossip(self, topic: str, peer: str, data: bytes) -> None:
        """See `OverlayHandler.on_gossip`."""
        if peer == self.peer_id or self._links.door.denies(peer) or self._links.is_parting(peer):
            return
        try:
            self._topics.deliver(topic, peer, data)
        except PeerMisbehaved as fault:
            self._links.misbehaved(peer, "", fault.rule, f"on {topic}: {fault.what}")
