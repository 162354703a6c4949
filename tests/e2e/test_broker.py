"""The embedded nats-server: its port, its lock, its watchdog, and errors a person can act on."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mesh.config import BrokerConfig
from mesh.errors import BrokerError, ConfigError, ListenError, MeshError
from mesh.events import broker_embedded, nkeys
from mesh.events.broker_embedded import find_server
from mesh.events.broker_external import ExternalBroker, external_address
from mesh.events.broker_port import choose_port
from mesh.events.broker_probe import probe
from mesh.events.readers import credentials_file, load_credentials, reader_instructions
from mesh.home import Home
from tests.kit.broker import embedded, running_broker
from tests.kit.freezing import freeze
from tests.kit.ports import free_ports, own_host
from tests.kit.processes import is_running
from tests.kit.waiting import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


async def test_port_and_passwords_outlive_a_restart(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        first = broker.address("node")
        await broker.health()
    async with running_broker(tmp_path) as broker:
        assert broker.address("node") == first
        await probe(first)


async def test_credentials_are_for_their_owner_only(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        home = Home(tmp_path)
        passwords = set()
        for role in ("node", "operator", "reader"):
            path = credentials_file(home, role)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert load_credentials(home, role) == broker.address(role)
            passwords.add(broker.address(role).password)
        assert len(passwords) == 3
        assert stat.S_IMODE(broker.settings.config_file.stat().st_mode) == 0o600


async def test_nobody_connects_without_a_password(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        for user, password in (("", ""), ("node", "guess")):
            address = type(broker.address("node"))(broker.url, user, password)
            with pytest.raises(BrokerError, match="Authorization Violation"):
                await probe(address)


async def test_a_configured_port_that_is_taken_is_named(tmp_path: Path, taken: int) -> None:
    with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{taken}: the port is taken"):
        await embedded(tmp_path, port=taken).start()


async def test_a_remembered_port_that_was_taken_meanwhile_is_given_up(tmp_path: Path, taken: int) -> None:
    Home(tmp_path).create()
    (Home(tmp_path).broker / "port").write_text(str(taken))
    async with running_broker(tmp_path) as broker:
        assert broker.settings.port != taken
        remembered = broker.settings.port
    async with running_broker(tmp_path) as broker:
        assert broker.settings.port == remembered


async def test_a_port_that_is_lost_while_the_server_starts_is_given_up(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between choosing a free port and listening on it a server reads its store, and anybody may take the port."""
    ports = iter([taken])
    monkeypatch.setattr(broker_embedded, "choose_port", lambda *given: next(ports, 0) or choose_port(*given))
    async with running_broker(tmp_path) as broker:
        assert broker.settings.port != taken
        await broker.health()


async def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1"):
        await embedded(tmp_path, host="192.0.2.1").start()


async def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("not a directory")
    with pytest.raises(MeshError, match=str(tmp_path / "broker")):
        await embedded(tmp_path).start()


async def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "broker" / ".writable").mkdir(parents=True)
    with pytest.raises(BrokerError, match=f"{tmp_path / 'broker'} cannot be written"):
        await embedded(tmp_path).start()


async def test_a_server_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    Home(tmp_path).create()
    (Home(tmp_path).broker / "store").write_text("not a directory")
    broker = embedded(tmp_path)
    with pytest.raises(BrokerError, match=r"(?s)exited with status 1 while starting.*\[FTL\].*store"):
        await broker.start()
    assert broker.pid is None


async def test_a_second_broker_on_one_home_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        with pytest.raises(BrokerError, match=f"in use by process {os.getpid()}"):
            await embedded(tmp_path).start()
        await broker.health()


async def test_a_killed_server_is_started_again_at_the_same_address(tmp_path: Path) -> None:
    restarts: list[str] = []
    broker = embedded(tmp_path, restarts=restarts)
    await broker.start()
    try:
        address, pid = broker.address("node"), broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: bool(restarts))
        assert restarts == ["killed by SIGKILL"]
        assert broker.pid != pid
        await probe(address)
    finally:
        await broker.stop()


async def test_a_hung_server_is_killed_and_started_again(tmp_path: Path) -> None:
    restarts: list[str] = []
    broker = embedded(tmp_path, restarts=restarts, probe_interval_s=0.2)
    await broker.start()
    try:
        assert broker.pid is not None
        freeze(broker.pid)
        await until(lambda: bool(restarts))
        assert "gave no answer to 3 probes" in restarts[0]
        await broker.health()
    finally:
        await broker.stop()


NODE = """
import asyncio, sys
from pathlib import Path
import mesh.processes
from mesh.clock import SystemClock
from mesh.config import BrokerConfig
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.home import Home
if sys.argv[2] == "outlived":
    mesh.processes.die_with_parent = lambda *_: None
async def main():
    broker = EmbeddedBroker(Home(Path(sys.argv[1])), BrokerConfig(), on_restart=lambda *_: None, clock=SystemClock())
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("fate", ["outlived", "followed"])
async def test_a_server_that_outlived_its_node_is_ended_first(tmp_path: Path, fate: str) -> None:
    """``outlived`` is what happens where the kernel cannot tie a child's life to its parent's."""
    if fate == "followed" and sys.platform != "linux":
        pytest.skip("parent-death signals are Linux's")
    node = subprocess.Popen([sys.executable, "-c", NODE, str(tmp_path), fate], stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None
    left_over = int(node.stdout.readline())
    node.kill()
    node.wait()
    node.stdout.close()
    if fate == "outlived":
        assert is_running(left_over)
    async with running_broker(tmp_path) as broker:
        assert not is_running(left_over)
        await broker.health()


async def test_stopping_leaves_no_process_and_no_lock(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        pid = broker.pid
    assert pid is not None
    assert not psutil.pid_exists(pid)
    async with running_broker(tmp_path):
        pass


async def test_an_existing_server_can_be_used(tmp_path: Path) -> None:
    async with running_broker(tmp_path / "theirs") as theirs:
        address = theirs.address("node")
        file = tmp_path / "account.json"
        file.write_text(f'{{"user": "{address.user}", "password": "{address.password}"}}')
        home = Home(tmp_path / "ours")
        broker = ExternalBroker(BrokerConfig(url=address.url, credentials=str(file)), home)
        await broker.start()
        assert broker.address("operator") == address
        assert load_credentials(home, "operator") == address
        with pytest.raises(BrokerError, match="not this node's own"):
            reader_instructions(home)
        await broker.stop()
        await theirs.health()


async def test_one_server_of_a_cluster_that_answers_is_enough(tmp_path: Path, taken: int) -> None:
    async with running_broker(tmp_path) as theirs:
        address = theirs.address("node")
        user = f"{address.user}:{address.password}"
        server = theirs.url.removeprefix("nats://")
        await ExternalBroker(BrokerConfig(url=f"nats://127.0.0.1:1, nats://{user}@{server}")).start()


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(BrokerError, match=r"nats://127\.0\.0\.1:1") as error:
        await ExternalBroker(BrokerConfig(url="nats://me:secret@127.0.0.1:1")).start()
    assert "secret" not in str(error.value)


async def test_something_else_than_nats_is_said_to_be_so() -> None:
    with pytest.raises(BrokerError, match="nats://host:port"):
        await ExternalBroker(BrokerConfig(url="http://127.0.0.1:1")).start()


@pytest.mark.parametrize("text", [None, "{}", '{"user": 1'])
def test_credentials_that_cannot_be_used_are_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "creds"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"broker\.credentials = .*creds"):
        external_address(BrokerConfig(url="nats://127.0.0.1:1", credentials=str(path)))


async def test_an_nkey_seed_logs_in(tmp_path: Path) -> None:
    """Against a server that knows only the public key."""
    seed = "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4"
    public = nkeys.answer(seed, "nonce")["nkey"]
    host = own_host()
    (port,) = free_ports(host)
    config = tmp_path / "nats.conf"
    config.write_text(
        f'listen: "{host}:{port}"\njetstream {{ store_dir: "{tmp_path}/js" }}\n'
        f"accounts {{ A: {{ jetstream: enabled, users: [ {{ nkey: {public} }} ] }} }}\n"
    )
    file = tmp_path / "user.nk"
    file.write_text(seed + "\n")
    server = subprocess.Popen([find_server(), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        broker = ExternalBroker(BrokerConfig(url=f"nats://{host}:{port}", credentials=str(file)))
        await until(lambda: _listens(host, port))
        await broker.start()
    finally:
        server.terminate()
        server.wait()


async def test_a_server_behind_tls_is_used_when_its_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = own_host()
    key, certificate, config = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "nats.conf"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-days", "2", "-subj", "/CN=localhost", "-addext", f"subjectAltName=DNS:localhost,IP:{host}"]
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate")
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    (port,) = free_ports(host)
    config.write_text(
        f'listen: "{host}:{port}"\njetstream {{ store_dir: "{tmp_path}/js" }}\n'
        f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
    )
    server = subprocess.Popen([find_server(), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await until(lambda: _listens(host, port))
        broker = ExternalBroker(BrokerConfig(url=f"tls://{host}:{port}"))
        with pytest.raises(BrokerError, match="certificate"):
            await broker.start()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await broker.start()
    finally:
        server.terminate()
        server.wait()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


def test_credentials_before_the_first_start_are_missing_not_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_credentials(Home(tmp_path), "operator")
