"""The overlay that runs py-libp2p in a supervised process of its own. See `mesh.p2p.host` for the other side."""

import asyncio
import functools
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from mesh.clock import Clock, SystemClock
from mesh.config import OverlayConfig
from mesh.errors import ListenError, MeshError
from mesh.identity import Identity
from mesh.keeper import Keeper
from mesh.p2p.access import Access
from mesh.p2p.deliveries import Deliveries
from mesh.p2p.host import wire
from mesh.p2p.host.settings import HostSettings, hand_over
from mesh.p2p.host_config import checked_network_key, limits, nat_settings, websocket_tls
from mesh.p2p.host_link import HostLink, LocalConnection
from mesh.p2p.interfaces import dialable, interface_ips
from mesh.p2p.overlay import (
    Connected,
    DialFailed,
    Disconnected,
    OverlayDown,
    OverlayFact,
    OverlayHandler,
    PortMapped,
    Provider,
    RelayLost,
    RelayReserved,
    Restarted,
    Stream,
    StreamRefused,
)
from mesh.processes import SupervisedProcess, wait_for_exit

_START_S = 60.0
_COMMAND_GRACE_S = 2.0
_CHECK_EVERY_S = 5.0
_CHECK_TIMEOUT_S = 15.0
_MAX_GOSSIP_BYTES = 128 * 1024

log = structlog.get_logger(__name__)


class ProcessOverlay:
    """See `mesh.p2p.overlay.Overlay`. Start it from the main thread; one per node."""

    def __init__(
        self,
        identity: Identity,
        config: OverlayConfig,
        run_dir: Path,
        log_path: Path,
        *,
        agent: str,
        home: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._identity = identity
        self._config = config
        self._home = home or Path()
        self._network_key = b""
        self._clock = clock or SystemClock()
        self._agent = agent
        self._access = Access()
        self._protocols: tuple[str, ...] = ()
        self._topics: tuple[str, ...] = ()
        self._dht = ""
        self._provided: tuple[str, ...] = ()
        self._deliveries = Deliveries()
        self._link = HostLink(run_dir, on_notice=self._noticed, on_stream=self._joined, on_lost=self._link_lost)
        self._settings_pipe = os.open(os.devnull, os.O_RDONLY)
        self._process = SupervisedProcess(
            "overlay",
            self._command,
            log_path=log_path,
            ready=self._ready,
            on_restart=self._restarted,
            on_exit=self._lose,
            pass_fds=(self._settings_pipe,),
            clock=self._clock,
        )
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[wire.Notice | Stream]] = {}
        self._connected: dict[str, Connected] = {}
        self._streams: dict[str, set[int]] = {}
        self._circuits: dict[str, tuple[str, ...]] = {}
        self._mapped: dict[str, None] = {}
        self._listening: asyncio.Future[wire.Listening] | None = None
        self._bound: tuple[str, ...] = ()
        self._watchdog = Keeper("overlay watchdog")

    @property
    def keepers(self) -> tuple[asyncio.Task[None] | None, ...]:
        """The tasks that keep the process running and answering: they end only by `stop`, or by a defect."""
        return self._watchdog.task, self._process.keeper.task

    @property
    def pid(self) -> int | None:
        """The overlay process, or None while there is none."""
        return self._process.pid

    @property
    def addresses(self) -> tuple[str, ...]:
        """See `Overlay.addresses`."""
        listening = (f"{address}/p2p/{self._identity.peer_id}" for address in dialable(self._bound, interface_ips()))
        through_relays = (address for addresses in self._circuits.values() for address in addresses)
        return tuple(dict.fromkeys((*listening, *self._mapped, *through_relays)))

    async def start(
        self, handler: OverlayHandler, *, protocols: Sequence[str], topics: Sequence[str], dht: str = ""
    ) -> None:
        """See `Overlay.start`. Raises ConfigError for settings that cannot be meant."""
        self._network_key = checked_network_key(self._home, self._config)
        self._deliveries.handler = handler
        self._protocols, self._topics, self._dht = tuple(protocols), tuple(topics), dht
        await self._link.open()
        try:
            await self._process.start()
        except BaseException:
            await self._link.close()
            self._deliveries.handler = None
            raise
        self._deliveries.release()
        self._watchdog.begin(self._watch())

    async def stop(self) -> None:
        """See `Overlay.stop`."""
        if self._deliveries.handler is None:
            return
        await self._watchdog.end()
        self._lose("stopped")
        await self._process.stop()
        await self._link.close()
        self._deliveries.handler = None
        os.close(self._settings_pipe)

    async def dial(self, peer: str, addresses: Sequence[str], timeout: float) -> None:
        """See `Overlay.dial`."""
        if peer in self._connected:
            return
        command = wire.Dial(next(self._ids), peer, tuple(addresses), timeout)
        await self._ask(command, timeout + _COMMAND_GRACE_S, DialFailed)

    async def disconnect(self, peer: str, reason: str) -> None:
        """See `Overlay.disconnect`."""
        if peer in self._connected:
            await self._ask(wire.Disconnect(next(self._ids), peer, reason), _CHECK_TIMEOUT_S, OverlayDown)

    async def restrict(self, access: Access) -> None:
        """See `Overlay.restrict`. A process that is being started gets the rules with its settings, or just after."""
        self._access = access
        if self._deliveries.handler is not None:
            with suppress(OverlayDown):
                await self._ask(wire.Restrict(next(self._ids), access), _CHECK_TIMEOUT_S, OverlayDown)

    async def open_stream(self, peer: str, protocol: str, timeout: float) -> Stream:
        """See `Overlay.open_stream`."""
        stream = await self._ask(wire.OpenStream(next(self._ids), peer, protocol), timeout, StreamRefused)
        assert isinstance(stream, Stream)
        return stream

    async def provide(self, names: Sequence[str]) -> None:
        """See `Overlay.provide`."""
        self._provided = tuple(names)
        if self._dht or self._deliveries.handler is None:
            await self._ask(wire.Provide(next(self._ids), self._provided), _CHECK_TIMEOUT_S, OverlayDown)

    async def find_providers(self, name: str, timeout: float) -> tuple[Provider, ...]:
        """See `Overlay.find_providers`."""
        if not self._dht and self._deliveries.handler is not None:
            return ()
        command = wire.FindProviders(next(self._ids), name, timeout)
        found = await self._ask(command, timeout + _COMMAND_GRACE_S, OverlayDown)
        assert isinstance(found, wire.Found)
        return found.providers

    async def publish(self, topic: str, data: bytes) -> None:
        """See `Overlay.publish`."""
        if len(data) > _MAX_GOSSIP_BYTES:
            raise MeshError(
                f"a gossip message of {len(data)} bytes is over the limit of {_MAX_GOSSIP_BYTES}",
                remedy="Gossip a reference, and let those who want it ask for it over a stream.",
            )
        await self._ask(wire.Publish(next(self._ids), topic, data), _CHECK_TIMEOUT_S, OverlayDown)

    async def check(self) -> frozenset[str]:
        """See `Overlay.check`."""
        here = await self._ask(wire.AreYouThere(next(self._ids)), _CHECK_TIMEOUT_S, OverlayDown)
        assert isinstance(here, wire.Here)
        return frozenset(here.unread)

    # --- commands ------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        command: wire.Question,
        timeout_s: float,
        failure: type[MeshError],
    ) -> wire.Notice | Stream:
        """Send a command and wait for its answer. The wait ends in time; what it started is never cancelled."""
        answer: asyncio.Future[wire.Notice | Stream] = asyncio.get_running_loop().create_future()
        self._pending[command.id] = answer
        try:
            if not self._link.send(command):
                raise OverlayDown("the overlay is being restarted", remedy="Try again in a moment.")
            async with asyncio.timeout(timeout_s):
                reply = await answer
        except TimeoutError:
            what = f"the overlay did not finish {type(command).__name__} within {timeout_s:g} s"
            raise failure(what, remedy="Try again, or another peer.") from None
        finally:
            del self._pending[command.id]
        if isinstance(reply, wire.Failed):
            raise failure(reply.what, remedy=reply.remedy)
        return reply

    def _settle(self, command_id: int, answer: wire.Notice | Stream) -> bool:
        pending = self._pending.get(command_id)
        if pending is None or pending.done():
            return False
        pending.set_result(answer)
        return True

    # --- notices -------------------------------------------------------------------------------------------------

    def _noticed(self, notice: wire.Notice) -> None:
        match notice:
            case wire.Listening() if self._listening is not None and not self._listening.done():
                self._listening.set_result(notice)
            case wire.StartFailed() if self._listening is not None and not self._listening.done():
                self._listening.set_exception(ListenError(notice.what, remedy=notice.remedy))
            case wire.Here() | wire.Done() | wire.Failed() | wire.Found():
                self._settle(notice.id, notice)
            case wire.Happened():
                self._happened(wire.fact_of(notice))
            case wire.Gossip():
                self._deliveries.tell(lambda handler: handler.on_gossip(notice.topic, notice.peer, notice.data))

    def _happened(self, fact: OverlayFact) -> None:
        if isinstance(fact, Connected):
            self._connected[fact.peer] = fact
        elif isinstance(fact, Disconnected):
            self._connected.pop(fact.peer, None)
            for stream in self._streams.pop(fact.peer, set()):
                self._link.forget_stream(stream)
        elif isinstance(fact, RelayReserved):
            self._circuits[fact.relay] = fact.addresses
        elif isinstance(fact, RelayLost):
            self._circuits.pop(fact.relay, None)
        elif isinstance(fact, PortMapped):
            self._mapped[f"{fact.address}/p2p/{self._identity.peer_id}"] = None
        self._deliveries.tell(lambda handler: handler.on_fact(fact))

    def _joined(self, opened: wire.StreamOpened, local: LocalConnection) -> None:
        stream = Stream(opened.peer, opened.protocol, local.reader, local.writer)
        self._streams.setdefault(opened.peer, set()).add(opened.stream)
        local.on_lost = lambda: self._streams.get(opened.peer, set()).discard(opened.stream)
        if opened.id == 0:
            self._deliveries.tell(lambda handler: handler.on_stream(stream))
        elif not self._settle(opened.id, stream):
            local.abort()  # whoever asked for it has stopped waiting

    # --- the process ---------------------------------------------------------------------------------------------

    def _command(self) -> list[str]:
        config = self._config
        settings = HostSettings(
            seed=self._identity.seed,
            token=self._link.new_token(),
            socket=str(self._link.path),
            listen=self._bound or tuple(config.listen),
            agent=self._agent,
            protocols=self._protocols,
            topics=self._topics,
            dht=self._dht,
            provided=self._provided,
            limits=limits(config),
            nat=nat_settings(config),
            access=self._access,
            security=tuple(config.security),
            network_key=self._network_key,
            wss=websocket_tls(config, self._home),
        )
        hand_over(settings, self._settings_pipe)
        self._listening = asyncio.get_running_loop().create_future()
        return [sys.executable, "-m", "mesh.p2p.host", str(self._settings_pipe)]

    async def _ready(self, process: "subprocess.Popen[bytes]") -> None:
        assert self._listening is not None
        listening, exited = self._listening, asyncio.ensure_future(wait_for_exit(process))
        either: set[asyncio.Future[Any]] = {listening, exited}
        try:
            await asyncio.wait(either, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                self._bound = listening.result().addresses
                self._link.send(wire.Restrict(0, self._access))  # they may have changed since the settings were made
                return
            state = f"exited with status {exited.result()}" if exited.done() else f"was not ready after {_START_S:g} s"
            raise MeshError(f"the overlay process {state}", remedy="Its log, logs/overlay.log, says why.")
        finally:
            exited.cancel()
            await asyncio.gather(exited, return_exceptions=True)

    def _restarted(self, reason: str, restarts: int, down_ms: float) -> None:
        fact = Restarted(reason, restarts, down_ms)
        self._deliveries.tell_first(lambda handler: handler.on_fact(fact))
        self._deliveries.release()

    def _link_lost(self) -> None:
        """The process is dead or dying; whichever we see first, its end or the end of the link."""
        self._lose("the overlay process ended")
        self._process.kill()

    def _lose(self, reason: str) -> None:
        for pending in self._pending.values():
            if not pending.done():
                pending.set_exception(OverlayDown(f"the overlay is down: {reason}", remedy="Try again in a moment."))
        self._link.drop()
        self._streams.clear()
        self._mapped.clear()
        circuits, self._circuits = self._circuits, {}
        for relay in circuits:
            self._deliveries.tell(functools.partial(_report, RelayLost(relay, reason)))
        connected, self._connected = self._connected, {}
        for connection in connected.values():
            fact = Disconnected(connection.peer, connection.connection, reason)
            self._deliveries.tell(functools.partial(_report, fact))
        self._deliveries.hold()

    async def _watch(self) -> None:
        """An overlay process that does not answer is as good as dead: it is killed, and so started again."""
        while True:
            await self._clock.sleep(_CHECK_EVERY_S)
            try:
                await self._ask(wire.AreYouThere(next(self._ids)), _CHECK_TIMEOUT_S, MeshError)
            except OverlayDown:
                continue
            except MeshError:
                log.warning("the overlay process does not answer", pid=self.pid)
                self._process.kill()


def _report(fact: OverlayFact, handler: OverlayHandler) -> None:
    handler.on_fact(fact)
