"""The node among its peers: the overlay process, connections, discovery, and what journals tell each other."""

from random import Random
from secrets import randbits

import structlog

from mesh import __version__
from mesh.clock import Clock
from mesh.config import Config
from mesh.experts.usefulness import domains_served, last_answers
from mesh.health.sampler import PeerLinkSample
from mesh.home import Home
from mesh.identity import Identity
from mesh.node.journaling import Journaling
from mesh.node.lifetime import Lifetime
from mesh.p2p.access_control import AccessControl
from mesh.p2p.introductions import Introducer
from mesh.p2p.mdns import MdnsDiscovery, MdnsUnavailable
from mesh.p2p.overlay_process import ProcessOverlay
from mesh.p2p.peers import Peers
from mesh.p2p.sealed_streams import Sealing
from mesh.p2p.session import SessionRefused
from mesh.p2p.sharing.bridge import Bridge
from mesh.p2p.streams import our_hello
from mesh.p2p.tasks import TaskOwner
from mesh.p2p.trimmer import Trimmer
from mesh.p2p.trimming import Use

log = structlog.get_logger(__name__)


class Networking:
    """Everything that speaks with other nodes."""

    def __init__(
        self, home: Home, config: Config, identity: Identity, name: str, journaling: Journaling, clock: Clock
    ) -> None:
        overlay, mesh, journal = config.overlay, config.node.mesh, journaling.journal
        self._notices: list[str] = []
        self._config = config
        self._identity = identity
        self._clock = clock
        self._routing = journaling.routing
        self._peer_book = journaling.peer_book
        self.overlay = ProcessOverlay(
            identity,
            overlay,
            run_dir=home.root / "run",
            log_path=home.logs / "overlay.log",
            home=home.root,
            agent=f"synaptic-mesh/{__version__}",
            clock=clock,
        )
        self.peers = Peers(
            self.overlay,
            journal,
            overlay,
            peer_id=identity.peer_id,
            name=name,
            mesh=mesh,
            clock=clock,
            rng_seed=randbits(64),
            identity=identity,
        )
        self.access = AccessControl(
            journaling.access, journal, block=overlay.block, allow=overlay.allow, enforce=self.peers.restrict
        )
        self.introducer = Introducer(self.peers, overlay, own=identity.peer_id, clock=clock)
        self._trimmer = Trimmer(self.peers, journal, overlay, clock, uses=self._uses)
        self._bridge = Bridge(
            self.peers,
            journal,
            journaling.feeds,
            journaling.share_policy,
            journaling.store,
            identity,
            config.share,
            our_hello(overlay, mesh=mesh, name=name),
            clock=clock,
            rng_seed=randbits(64),
            sealing=self._sealing,
        )

    async def join(self, life: Lifetime) -> None:
        """Listen, and dial who is known. Whatever serves peers is registered by now. Raises ListenError."""
        await self.access.start()
        await life.begin(self.peers)
        life.watch(*self.peers.keepers, *self.overlay.keepers)
        await life.begin_kept(self._trimmer)
        await self.introducer.start(self._peer_book)
        life.finally_await(self.introducer.stop)
        life.watch(self.introducer.keeper.task)

    async def share(self, life: Lifetime) -> None:
        """Tell the journals of others, hear what they tell, and be found on the local network."""
        await life.begin_kept(self._bridge)
        await self._discover(life)

    async def _discover(self, life: Lifetime) -> None:
        overlay = self._config.overlay
        if not overlay.mdns:
            return
        mdns = MdnsDiscovery(
            self._identity.peer_id,
            self._config.node.mesh,
            self.overlay.addresses,
            overlay.mdns_interfaces,
            lambda peer, addresses: self.peers.learn(peer, addresses, "mdns"),
        )
        try:
            await life.begin(mdns)
        except MdnsUnavailable as error:
            log.warning("mDNS is off", reason=str(error))
            self._notices.append(f"mDNS is off: {error}")

    def notices(self) -> tuple[str, ...]:
        """What an operator should know."""
        unreached = (f"a configured peer cannot be reached: {error}" for error in self.peers.unreached.values())
        refused = (_refused(peer, refusal) for peer, refusal in self.peers.refused.items())
        return (*self._notices, *unreached, *refused)

    def links(self) -> list[PeerLinkSample]:
        """What the links to connected peers did since this was last asked."""
        stats = ((peer, self.peers.stats(peer)) for peer in sorted(self.peers.connected()))
        return [
            PeerLinkSample(
                peer=peer,
                latency_ms=link.latency_ms,
                jitter_ms=link.jitter_ms,
                loss=link.loss,
                bytes_in=link.bytes_in,
                bytes_out=link.bytes_out,
            )
            for peer, link in stats
            if link is not None
        ]

    def _uses(self) -> tuple[dict[str, Use], frozenset[str]]:
        served, answers = domains_served(self._routing), last_answers(self._routing)
        uses = {peer: Use(served.get(peer, frozenset()), answers.get(peer, 0.0)) for peer in {*served, *answers}}
        return uses, served.get(self._identity.peer_id, frozenset())

    def _sealing(self, tasks: TaskOwner) -> Sealing | None:
        if self._config.overlay.seal == "off":
            return None
        rng = Random(randbits(64))  # noqa: S311 - when to say what means nothing
        return Sealing(self._identity, self._config.overlay, self._clock, rng, tasks)


def _refused(peer: str, refusal: SessionRefused) -> str:
    if refusal.rule != "mesh":
        return f"a configured peer is refused: {peer}: {refusal.what}"
    where = f"{peer} is in {refusal.value!r}, this node in {refusal.limit!r}"
    return f"a configured peer is in another mesh: {where}; change [node] mesh of the one that is wrong"
