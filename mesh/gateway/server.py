"""Serving the gateway: uvicorn in the node's own event loop, on a port that is kept."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import structlog
import uvicorn

from mesh.clock import Clock
from mesh.config import GatewayConfig
from mesh.errors import ConfigError, ListenError
from mesh.gateway.app import Gateway
from mesh.gateway.hosts import HostNames, is_loopback
from mesh.gateway.intake import Asked
from mesh.gateway.keys import KeyRing, load_keys
from mesh.gateway.models import Catalogue
from mesh.gateway.protocol import Bounds, bounded

_BACKLOG = 512
_KEEP_ALIVE_S = 75
_GOODBYE_S = 2
_SLACK_BYTES = 1 << 20
log = structlog.get_logger(__name__)


class GatewayServer:
    """Listens from `start` to `stop`. ``memory`` is the file that a chosen port is kept in."""

    def __init__(
        self,
        config: GatewayConfig,
        requests: Asked,
        catalogue: Callable[[], Catalogue],
        *,
        keys: Path,
        memory: Path,
        clock: Clock,
        ready: Callable[[], str] = lambda: "",
    ) -> None:
        self._config = config
        self._memory = memory
        gateway = Gateway(
            requests,
            catalogue,
            KeyRing(keys, clock, required=not is_loopback(config.host)),
            clock,
            max_body_bytes=config.max_body_bytes,
            hosts=HostNames(config.host, config.hosts),
            ready=ready,
        )
        bounds = Bounds(connections=config.max_connections, message_bytes=2 * config.max_body_bytes + _SLACK_BYTES)
        settings = uvicorn.Config(
            gateway.app,
            http=bounded(bounds),
            ws="none",
            log_config=None,
            log_level=logging.ERROR,  # what strangers send that is no HTTP fills no log
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GOODBYE_S,
        )
        self._server = _Server(settings)
        self._socket: socket.socket | None = None
        self.task: asyncio.Task[None] | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen. Raises ListenError when the address is taken or unusable."""
        self._socket = self._bind()
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self.task = asyncio.create_task(self._server.serve([self._socket]), name="serve the gateway")
        log.info("the gateway listens", url=f"{self.url}/v1")

    async def stop(self) -> None:
        """Take no more requests, give those that run a moment, and let go of the port."""
        self._server.should_exit = True
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    def _bind(self) -> socket.socket:
        if self._config.port:
            return self._listening(self._config.port)
        try:
            return self._listening(int(self._memory.read_text()))
        except (FileNotFoundError, ValueError, OverflowError, ListenError):
            listening = self._listening(0)
        self._memory.write_text(f"{listening.getsockname()[1]}\n")
        return listening

    def _listening(self, port: int) -> socket.socket:
        host = self._config.host
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listening = socket.socket(family, kind, protocol)
        except OSError as error:
            raise _unusable(host, port, error) from error
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise _unusable(host, port, error) from error
        return listening


class _Server(uvicorn.Server):
    """Signals are the node's business."""

    def install_signal_handlers(self) -> None:
        """None."""

    def capture_signals(self) -> "AbstractContextManager[None]":  # type: ignore[override]
        """None."""
        return nullcontext()


def _unusable(host: str, port: int, error: OSError) -> ListenError:
    return ListenError(
        f"the gateway cannot listen on {host}:{port}: {error.strerror or error}",
        remedy="Set another `port` or `host` in [gateway], or `enabled = false`.",
    )


def refuse_an_open_door(config: GatewayConfig, keys: Path) -> None:
    """Raise ConfigError when strangers could ask: beyond loopback there must be a key."""
    if not is_loopback(config.host) and not load_keys(keys):
        raise ConfigError(
            f"the gateway would let anybody in: {config.host!r} is not loopback, and there is no API key",
            remedy="Make one with `mesh keys add NAME`, or listen on 127.0.0.1.",
        )
