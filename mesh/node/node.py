"""A node: its parts, from `Node.start` to `Node.stop`."""

import asyncio
import os
import socket
from collections.abc import Callable

import structlog

from mesh.api.server import ApiServer
from mesh.clock import Clock, SystemClock
from mesh.commands import NodeCommands
from mesh.config import Config
from mesh.errors import MeshError
from mesh.events.broker import Broker
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.broker_external import ExternalBroker
from mesh.events.vocabulary.node import ProcessRestarted
from mesh.gateway.models import Catalogue
from mesh.gateway.server import GatewayServer
from mesh.health.monitor import HealthMonitor
from mesh.health.sampler import NodeLoad
from mesh.home import Home, HomeLock
from mesh.identity import Identity, load_key_file
from mesh.node.answering import Answering
from mesh.node.journaling import Journaling
from mesh.node.lifetime import Lifetime
from mesh.node.networking import Networking
from mesh.node.settings import check_settings
from mesh.processes import SupervisedProcess
from mesh.projections.process import projector_process

log = structlog.get_logger(__name__)


class Node:
    """A node from `start` to `stop`. Whatever was started is stopped in reverse order, also when a start fails."""

    identity: Identity
    journaling: Journaling
    networking: Networking
    answering: Answering

    def __init__(self, home: Home, config: Config, *, clock: Clock | None = None) -> None:
        self._home = home
        self._config = config
        self._clock = clock or SystemClock()
        self._life = Lifetime()
        self._processes: dict[str, Callable[[], int | None]] = {}
        self.name = config.node.name or socket.gethostname()

    async def start(self) -> None:
        """Come up: journal first, then everything that writes to it, the API last. Raises MeshError."""
        try:
            await self._start()
        except ExceptionGroup as group:
            await self._life.end()
            raise group.exceptions[0] from None
        except BaseException:
            await self._life.end()
            raise

    async def stop(self, reason: str) -> None:
        """Go down in order: no new requests, outcomes of the old ones, the last word in the journal, the broker."""
        log.info("the node is stopping", reason=reason)
        self.journaling.reason = reason
        await self._life.end()

    async def failed(self) -> MeshError:
        """Return when a part has failed without which the node must not go on."""
        return await self._life.failed()

    async def _start(self) -> None:
        self.identity = load_key_file(self._home.key_file)
        self._home.create()
        self._life.hold(HomeLock(self._home, f"mesh up --home {self._home.root}"))
        check_settings(self._home, self._config, self.identity.peer_id)
        broker = await self._start_broker()
        projector = self._make_projector()
        self._life.finally_await(projector.stop)  # once the journal is closed, so that its tables have the last word
        self.journaling = Journaling(self._home, self._config, self.identity, broker, self._clock)
        await self.journaling.open(self._life, self.name)
        async with asyncio.TaskGroup() as starting:
            starting.create_task(projector.start(), name="start the projector")
            starting.create_task(self._start_mesh(broker), name="start the mesh")
        self._life.watch(projector.keeper.task)
        health = await self._start_health()
        gateway_url = await self._start_gateway()
        await self._life.begin(ApiServer(broker.address("node"), self._commands(health, broker.url, gateway_url)))
        addresses = self.networking.overlay.addresses
        log.info("the node serves", name=self.name, peer=self.identity.peer_id, addresses=addresses)

    # -- the parts, in the order of their lives ------------------------------------------------------------------

    async def _start_broker(self) -> Broker:
        if self._config.broker.url:
            external = ExternalBroker(
                self._config.broker, self._home, recruiter_credentials=self._config.workers.credentials
            )
            await self._life.begin(external)
            return external
        embedded = EmbeddedBroker(
            self._home, self._config.broker, on_restart=self._restarted("broker"), clock=self._clock
        )
        self._processes["broker"] = lambda: embedded.pid
        await self._life.begin_kept(embedded)
        return embedded

    def _make_projector(self) -> SupervisedProcess:
        projector = projector_process(self._home, self._config, on_restart=self._restarted("projector"))
        self._processes["projector"] = lambda: projector.pid
        return projector

    async def _start_mesh(self, broker: Broker) -> None:
        home, config, identity, clock = self._home, self._config, self.identity, self._clock
        networking = self.networking = Networking(home, config, identity, self.name, self.journaling, clock)
        answering = self.answering = Answering(home, config, identity, broker, self.journaling, networking, clock)
        self._processes["overlay"] = lambda: networking.overlay.pid
        await answering.begin_local(self._life)
        await networking.join(self._life)
        await answering.begin_shared(self._life)
        await networking.share(self._life)
        await answering.begin_asking(self._life)

    async def _start_health(self) -> HealthMonitor:
        requests, experts = self.answering.requests, self.answering.experts
        health = HealthMonitor(
            self.journaling.journal,
            self.journaling.health,
            self._config.health,
            self._config.alerts,
            home=self._home.root,
            links=self.networking.links,
            load=lambda: NodeLoad(requests_in_flight=requests.in_flight, queued=experts.queued),
            clock=self._clock,
        )
        await self._life.begin(health)
        self._life.watch(health.task)
        return health

    async def _start_gateway(self) -> str:
        config = self._config.gateway
        if not config.enabled:
            return ""
        gateway = GatewayServer(
            config,
            self.answering.requests,
            lambda: Catalogue(self.journaling.routing.offers, self.journaling.routing.withdrawn),
            keys=self._home.gateway_keys,
            memory=self._home.root / "run" / "gateway-port",
            clock=self._clock,
        )
        await self._life.begin(gateway)
        self._life.watch(gateway.task)
        return gateway.url

    def _commands(self, health: HealthMonitor, broker_url: str, gateway_url: str) -> NodeCommands:
        networking, answering = self.networking, self.answering
        return NodeCommands(
            self._config,
            self.name,
            self.journaling.journal,
            networking.overlay,
            networking.peers,
            answering.experts,
            answering.requests,
            health,
            networking.access,
            answering.forgetter,
            clock=self._clock,
            epoch=self.journaling.history.epoch,
            broker_url=broker_url,
            gateway_url=gateway_url,
            processes=self._running,
            notices=networking.notices,
        )

    # -- what is known of its processes --------------------------------------------------------------------------

    def _restarted(self, process: str) -> Callable[[str, int, float], None]:
        def record(reason: str, restarts: int, down_ms: float) -> None:
            fact = ProcessRestarted(process=process, reason=reason, restarts=restarts, down_ms=down_ms)
            self.journaling.emit(fact)

        return record

    def _running(self) -> dict[str, int]:
        pids = {name: pid() for name, pid in self._processes.items()}
        return {"node": os.getpid()} | {name: pid for name, pid in pids.items() if pid is not None}
