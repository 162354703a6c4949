"""The composition root: the one place that knows every part of a node, and the order in which they live."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from random import Random
from secrets import randbits
from typing import Any

import structlog

from mesh import __version__
from mesh.api.server import ApiServer
from mesh.clock import Clock, SystemClock
from mesh.commands import NodeCommands
from mesh.config import Config
from mesh.errors import JournalError, MeshError
from mesh.events.broker import Broker
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.broker_external import ExternalBroker
from mesh.events.envelope import Fact
from mesh.events.head_file import load_head
from mesh.events.journal import Emission, Journal
from mesh.events.live_state import LiveState
from mesh.events.sealer import Sealer
from mesh.events.snapshotter import Snapshotter
from mesh.events.store_nats import NatsEventStore
from mesh.events.vocabulary.node import NodeStarted, NodeStopped, ProcessRestarted
from mesh.experts.backends import make_backend, source_of
from mesh.experts.backends.nats_services import NatsServices
from mesh.experts.cache import AnswerCache
from mesh.experts.canary_keeper import CanaryKeeper
from mesh.experts.classifier import Classifier
from mesh.experts.content_keys_files import FileContentKeys
from mesh.experts.directory import Directory
from mesh.experts.embedder_worker import WorkerEmbedder
from mesh.experts.forgetting import Forgetter
from mesh.experts.host import LocalExperts
from mesh.experts.keeping import ContentKeeper
from mesh.experts.offers import OfferBoard
from mesh.experts.recruiter import Recruiter
from mesh.experts.recruiting import ExpertSource
from mesh.experts.remote import RemoteExperts, serve_experts
from mesh.experts.requests import Requests, recover
from mesh.experts.state import RoutingState
from mesh.experts.usefulness import domains_served, last_answers
from mesh.gateway.server import GatewayServer, refuse_an_open_door
from mesh.health.monitor import HealthMonitor
from mesh.health.rules.overrides import configured
from mesh.health.sampler import NodeLoad, PeerLinkSample
from mesh.health.state import HealthState
from mesh.history import NodeHistory
from mesh.home import Home, HomeLock
from mesh.identity import load_key_file
from mesh.journals import snapshot_files
from mesh.p2p import access_control
from mesh.p2p.access_state import AccessState
from mesh.p2p.addresses import check_listen, relays, static_peers
from mesh.p2p.introductions import Introducer
from mesh.p2p.mdns import MdnsDiscovery, MdnsUnavailable
from mesh.p2p.overlay_process import ProcessOverlay
from mesh.p2p.peer_book import PeerBook
from mesh.p2p.peers import Peers
from mesh.p2p.sealed_streams import Sealing
from mesh.p2p.sharing.bridge import Bridge
from mesh.p2p.sharing.feeds import FeedBook
from mesh.p2p.sharing.policy import Policy
from mesh.p2p.streams import our_hello
from mesh.p2p.tasks import TaskOwner
from mesh.p2p.trimmer import Trimmer
from mesh.p2p.trimming import Use
from mesh.projections.process import projector_process

log = structlog.get_logger(__name__)


class Node:
    """A node from `start` to `stop`. Whatever was started is stopped in reverse order, also when a start fails."""

    def __init__(self, home: Home, config: Config, *, clock: Clock | None = None) -> None:
        self._home = home
        self._config = config
        self._clock = clock or SystemClock()
        self._stack = AsyncExitStack()
        self._vital: list[asyncio.Future[Any]] = []
        self._notices: list[str] = []
        self._processes: dict[str, Callable[[], int | None]] = {}
        self._reason = "the start failed"
        self.name = config.node.name or socket.gethostname()

    async def start(self) -> None:
        """Come up: journal first, then everything that writes to it, the API last. Raises MeshError."""
        try:
            await self._start()
        except ExceptionGroup as group:
            await self._stack.aclose()
            raise group.exceptions[0] from None
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        self.identity = load_key_file(self._home.key_file)
        self._home.create()
        self._stack.enter_context(HomeLock(self._home, f"mesh up --home {self._home.root}"))
        self._check_settings()
        self.broker = await self._start_broker()
        await self._open_journal()
        async with asyncio.TaskGroup() as starting:
            starting.create_task(self._start_projector(), name="start the projector")
            starting.create_task(self._start_mesh(), name="start the mesh")
        await self._start_health()
        await self._start_gateway()
        await self._start_api()
        log.info("the node serves", name=self.name, peer=self.identity.peer_id, addresses=self.overlay.addresses)

    async def stop(self, reason: str) -> None:
        """Go down in order: no new requests, outcomes of the old ones, the last word in the journal, the broker."""
        log.info("the node is stopping", reason=reason)
        self._reason = reason
        await self._stack.aclose()

    async def failed(self) -> MeshError:
        """Return when a part has failed without which the node must not go on."""
        done, _ = await asyncio.wait(self._vital, return_when=asyncio.FIRST_COMPLETED)
        part = done.pop()
        error = None if part.cancelled() else part.exception() or part.result()
        if isinstance(error, MeshError):
            return error
        return MeshError(f"a part of the node ended: {error!r}", remedy="This is a defect; the log says more.")

    def _check_settings(self) -> None:
        """Raise ConfigError now for what a part would refuse later, when others already run."""
        configured(self._config.alerts)
        if self._config.gateway.enabled:
            refuse_an_open_door(self._config.gateway, self._home.gateway_keys)
        if self._config.storage.url:
            from mesh.projections.database import parse_url  # SQLAlchemy: a second, and only the projector needs it

            parse_url(self._config.storage.url)
        overlay = self._config.overlay
        check_listen(overlay.listen, private=bool(overlay.psk_file), certificate=bool(overlay.wss_certificate))
        static_peers([*self._config.overlay.peers, *relays(self._config.overlay.relays)], self.identity.peer_id)
        access_control.configured("block", self._config.overlay.block)
        access_control.configured("allow", self._config.overlay.allow)
        Policy(self.identity.peer_id, self._config.share)
        static_peers(self._config.overlay.bootstrap, self.identity.peer_id, "bootstrap")
        for expert in self._config.experts:
            make_backend(expert)

    # -- the parts, in the order of their lives ------------------------------------------------------------------

    async def _start_broker(self) -> Broker:
        if self._config.broker.url:
            broker: Broker = ExternalBroker(self._config.broker, self._home)
        else:
            embedded = EmbeddedBroker(
                self._home, self._config.broker, on_restart=self._restarted("broker"), clock=self._clock
            )
            self._processes["broker"] = lambda: embedded.pid
            broker = embedded
        await broker.start()
        self._stack.push_async_callback(broker.stop)
        if isinstance(broker, EmbeddedBroker) and broker.watchdog is not None:
            self._vital.append(broker.watchdog)
        return broker

    async def _open_journal(self) -> None:
        peer_id = self.identity.peer_id
        self.history = NodeHistory(peer_id)
        self.routing_state = RoutingState(local=peer_id)
        self.health_state = HealthState(node=peer_id, window=self._config.health.window)
        store = NatsEventStore(
            self.broker.address("node"),
            peer_id,
            durability=self._config.broker.durability,
            max_bytes=self._config.broker.max_bytes,
            replicas=self._config.broker.replicas,
            known=load_head(self._home.journal_head),
            complaint=self.broker.complaint,
        )
        self.peer_book = PeerBook(peer_id)
        self._share_policy = Policy(peer_id, self._config.share)
        self._feeds = FeedBook(peer_id, self._share_policy)
        self._reader = store
        self._access_state = AccessState(local=peer_id)
        states: dict[str, LiveState] = {
            "peers": self.peer_book,
            "history": self.history,
            "routing": self.routing_state,
            "health": self.health_state,
            "feeds": self._feeds,
            "access": self._access_state,
        }
        snapshots = Snapshotter(snapshot_files(self._home, self._config, peer_id), states)
        self.journal = Journal(peer_id, store, self._clock, folds=[state.apply for state in states.values()])
        self._stack.push_async_callback(self.journal.close)
        resumed_from = await self.journal.open(snapshots.resume)
        await snapshots.watch(self.journal)
        self._stack.push_async_callback(snapshots.stop)
        if snapshots.task is not None:
            self._vital.append(snapshots.task)
        self._watch(store.failure())
        self.sealer = Sealer(self.journal, self.identity, self._home, clock=self._clock)
        clean, epoch = self.history.clean, self.history.epoch + 1
        self._emit(
            NodeStarted(epoch=epoch, name=self.name, release=__version__, resumed_from=resumed_from, clean=clean)
        )
        interrupted = recover(self.routing_state, self.journal)
        await self.journal.stored()
        await self.sealer.start()
        self._stack.push_async_callback(self.sealer.stop)
        self._stack.push_async_callback(self._say_goodbye)
        log.info("journal open", resumed_from=resumed_from, epoch=epoch, clean=clean, interrupted=interrupted)

    async def _say_goodbye(self) -> None:
        try:
            await self._emit(NodeStopped(reason=self._reason)).stored()
        except JournalError as error:
            log.warning("the last event could not be stored", error=str(error))

    async def _start_projector(self) -> None:
        projector = projector_process(self._home, self._config, on_restart=self._restarted("projector"))
        self._processes["projector"] = lambda: projector.pid
        await projector.start()
        self._stack.push_async_callback(projector.stop)
        if projector.keeper is not None:
            self._vital.append(projector.keeper)

    async def _start_mesh(self) -> None:
        config, peer_id = self._config, self.identity.peer_id
        sources = [(source_of(expert), expert) for expert in config.experts]
        fixed = [expert for source, expert in sources if source is None]
        self.content_keys = FileContentKeys(self._home.content_keys)
        self._stack.callback(self.content_keys.close)
        content = ContentKeeper(config.routing, config.content, self.content_keys, self._clock)
        self.experts = LocalExperts(fixed, self.identity, self.journal, self._clock, content=content)
        cache = AnswerCache(config.cache, self._clock.monotonic)
        self.forgetter = Forgetter(
            self.content_keys,
            self.journal,
            self._clock,
            retain_days=config.content.retain_days,
            on_forgotten=cache.forget,
        )
        self.overlay = ProcessOverlay(
            self.identity,
            config.overlay,
            run_dir=self._home.root / "run",
            log_path=self._home.logs / "overlay.log",
            home=self._home.root,
            agent=f"synaptic-mesh/{__version__}",
            clock=self._clock,
        )
        self._processes["overlay"] = lambda: self.overlay.pid
        self.peers = Peers(
            self.overlay,
            self.journal,
            config.overlay,
            peer_id=peer_id,
            name=self.name,
            mesh=config.node.mesh,
            clock=self._clock,
            rng_seed=randbits(64),
            identity=self.identity,
        )
        self.access = access_control.AccessControl(
            self._access_state,
            self.journal,
            block=config.overlay.block,
            allow=config.overlay.allow,
            enforce=self.peers.restrict,
        )
        self.trimmer = Trimmer(self.peers, self.journal, config.overlay, self._clock, uses=self._uses)
        serve_experts(self.peers, self.experts)
        self.bridge = Bridge(
            self.peers,
            self.journal,
            self._feeds,
            self._share_policy,
            self._reader,
            self.identity,
            config.share,
            our_hello(config.overlay, mesh=config.node.mesh, name=self.name),
            clock=self._clock,
            rng_seed=randbits(64),
            sealing=self._sealing,
        )
        self.introducer = Introducer(self.peers, config.overlay, own=peer_id, clock=self._clock)
        self.offers = OfferBoard(
            self.peers,
            self.experts,
            self.journal,
            self.routing_state,
            interval_s=config.overlay.offer_interval_s,
            clock=self._clock,
            introductions=self.introducer,
        )
        self.directory = Directory(
            self.peers, self.introducer, self.experts, self.journal, self.routing_state, clock=self._clock
        )
        self.experts.on_change = self._experts_changed
        self.embedder = WorkerEmbedder()
        self._stack.push_async_callback(self.embedder.stop)
        self.requests = Requests(
            self.journal,
            self.routing_state,
            self.experts,
            RemoteExperts(self.peers, self.journal),
            config.routing,
            peer_id=peer_id,
            clock=self._clock,
            make_seed=lambda: randbits(53),
            seek=self.directory.seek if config.overlay.dht else None,
            cache=cache,
            content=content,
            embedder=self.embedder,
            classifier=self._classifier(),
        )
        self.canaries = CanaryKeeper(
            self.requests,
            self.journal,
            self.routing_state,
            config.routing.canaries,
            interval_s=config.routing.canary_interval_s,
            clock=self._clock,
            make_seed=lambda: randbits(53),
        )
        await self.forgetter.start()
        self._stack.push_async_callback(self.forgetter.stop)
        await self.experts.start()
        self._stack.push_async_callback(self.experts.stop)
        self.recruiter = self._recruiter([source for source, _ in sources if source is not None])
        await self.recruiter.start()
        self._stack.push_async_callback(self.recruiter.stop)
        await self.access.start()
        await self.peers.start()
        self._stack.push_async_callback(self.peers.stop)
        await self.trimmer.start()
        self._stack.push_async_callback(self.trimmer.stop)
        await self.introducer.start(self.peer_book)
        self._stack.push_async_callback(self.introducer.stop)
        await self.offers.start()
        self._stack.push_async_callback(self.offers.stop)
        await self.directory.start()
        self._stack.push_async_callback(self.directory.stop)
        await self.bridge.start()
        self._stack.push_async_callback(self.bridge.stop)
        self._stack.push_async_callback(self.requests.close)
        await self.canaries.start()
        self._stack.push_async_callback(self.canaries.stop)
        await self._start_discovery()

    def _recruiter(self, sources: list[ExpertSource]) -> Recruiter:
        broker, workers = self.broker, self._config.workers
        if workers.enabled and isinstance(broker, EmbeddedBroker):
            sources.append(NatsServices(lambda: broker.address("recruiter")))
        return Recruiter(sources, self.experts, self._clock, interval_s=workers.interval_s, most=workers.most)

    def _classifier(self) -> Classifier:
        config = self._config
        return Classifier(
            self.embedder if config.routing.classifier == "embedding" else None,
            {name: domain.examples for name, domain in config.domains.items()},
            default=config.routing.default_domain,
        )

    async def _start_discovery(self) -> None:
        config = self._config
        if not config.overlay.mdns:
            return
        mdns = MdnsDiscovery(
            self.identity.peer_id,
            config.node.mesh,
            self.overlay.addresses,
            config.overlay.mdns_interfaces,
            lambda peer, addresses: self.peers.learn(peer, addresses, "mdns"),
        )
        try:
            await mdns.start()
        except MdnsUnavailable as error:
            log.warning("mDNS is off", reason=str(error))
            self._notices.append(f"mDNS is off: {error}")
            return
        self._stack.push_async_callback(mdns.stop)

    async def _start_health(self) -> None:
        self.health = HealthMonitor(
            self.journal,
            self.health_state,
            self._config.health,
            self._config.alerts,
            home=self._home.root,
            links=self._links,
            load=lambda: NodeLoad(requests_in_flight=self.requests.in_flight, queued=self.experts.queued),
            clock=self._clock,
        )
        await self.health.start()
        self._stack.push_async_callback(self.health.stop)

    async def _start_gateway(self) -> None:
        config = self._config.gateway
        if not config.enabled:
            return
        self.gateway = GatewayServer(
            config,
            self.requests,
            lambda: self.routing_state.offers,
            keys=self._home.gateway_keys,
            memory=self._home.root / "run" / "gateway-port",
            clock=self._clock,
        )
        await self.gateway.start()
        self._stack.push_async_callback(self.gateway.stop)
        if self.gateway.task is not None:
            self._vital.append(self.gateway.task)

    async def _start_api(self) -> None:
        commands = NodeCommands(
            self._config,
            self.name,
            self.journal,
            self.overlay,
            self.peers,
            self.experts,
            self.requests,
            self.health,
            self.access,
            self.forgetter,
            clock=self._clock,
            epoch=self.history.epoch,
            broker_url=self.broker.url,
            gateway_url=self.gateway.url if self._config.gateway.enabled else "",
            processes=self._running,
            notices=lambda: tuple(self._notices),
        )
        api = ApiServer(self.broker.address("node"), commands)
        await api.start()
        self._stack.push_async_callback(api.stop)
        tasks = (self.experts.keeper, self.recruiter.keeper, self.offers.keeper, self.bridge.keeper)
        keepers = (*tasks, self.health.task, self.trimmer.keeper)
        more = (self.sealer.task, self.introducer.keeper, self.directory.keeper, self.forgetter.keeper)
        for task in (*self.peers.keepers, *more, *keepers):
            if task is not None:
                self._vital.append(task)

    def _watch(self, failure: Coroutine[Any, Any, MeshError]) -> None:
        task = asyncio.create_task(failure, name="watch the journal")
        self._vital.append(task)
        self._stack.callback(task.cancel)

    # -- what the parts ask of each other ------------------------------------------------------------------------

    def _experts_changed(self) -> None:
        self.offers.changed()
        self.directory.changed()

    def _emit(self, fact: Fact) -> Emission:
        return self.journal.emit(fact, subject=self.identity.peer_id)

    def _sealing(self, tasks: TaskOwner) -> Sealing | None:
        if self._config.overlay.seal == "off":
            return None
        rng = Random(randbits(64))  # noqa: S311 - when to say what means nothing
        return Sealing(self.identity, self._config.overlay, self._clock, rng, tasks)

    def _restarted(self, process: str) -> Callable[[str, int, float], None]:
        def record(reason: str, restarts: int, down_ms: float) -> None:
            self._emit(ProcessRestarted(process=process, reason=reason, restarts=restarts, down_ms=down_ms))

        return record

    def _running(self) -> dict[str, int]:
        pids = {name: pid() for name, pid in self._processes.items()}
        return {"node": os.getpid()} | {name: pid for name, pid in pids.items() if pid is not None}

    def _uses(self) -> tuple[dict[str, Use], frozenset[str]]:
        served, answers = domains_served(self.routing_state), last_answers(self.routing_state)
        uses = {peer: Use(served.get(peer, frozenset()), answers.get(peer, 0.0)) for peer in {*served, *answers}}
        return uses, served.get(self.identity.peer_id, frozenset())

    def _links(self) -> list[PeerLinkSample]:
        samples = []
        for peer in sorted(self.peers.connected()):
            stats = self.peers.stats(peer)
            if stats is not None:
                samples.append(
                    PeerLinkSample(
                        peer=peer,
                        latency_ms=stats.latency_ms,
                        jitter_ms=stats.jitter_ms,
                        loss=stats.loss,
                        bytes_in=stats.bytes_in,
                        bytes_out=stats.bytes_out,
                    )
                )
        return samples
