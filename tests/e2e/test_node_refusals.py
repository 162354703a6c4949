"""What ``mesh up`` does not start with: one clear error, its own exit code, quickly, and nothing begun."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from mesh.demo.nodes import NodeProcess
from mesh.home import Home
from mesh.setup import initialise
from tests.kit.cli import mesh
from tests.kit.nodes import config, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CONFIG, KEY, TAKEN = 78, 77, 69
PLAIN = config("plain")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeProcess]:
    async with running_node(tmp_path_factory.mktemp("holder"), "holder", config("holder")) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    initialise(made, config=PLAIN)
    return made


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        yield holder.getsockname()[1]


def contents(home: Home) -> set[str]:
    return {str(path.relative_to(home.root)) for path in home.root.rglob("*")}


def expert(options: str, backend: str = "python") -> str:
    return f'[[experts]]\nname = "mine"\nbackend = "{backend}"\ndomains = ["language"]\noptions = {{ {options} }}\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            PLAIN.replace("name =", "nmae ="), ("node.nmae = 'plain'", "did you mean name?", "config.toml"), id="key"
        ),
        pytest.param(PLAIN + "[overlya]\nmdns = true\n", ("overlya", "did you mean overlay?"), id="table"),
        pytest.param(
            PLAIN.replace("\ninterval_s = 1.0", "\ninterval_s = -1"),
            ("health.interval_s = -1", "greater than 0", "config.toml"),
            id="range",
        ),
        pytest.param(PLAIN + "[broker]\nport = 99999\n", ("broker.port = 99999", "65535"), id="port"),
        pytest.param(PLAIN + "[[[", ("config.toml", "not readable TOML", "line"), id="not TOML"),
        pytest.param(
            PLAIN + expert('path = "tests.kit.slow_experts:patient", pth = 1'),
            ("'mine'", "options.pth = 1", "did you mean path?"),
            id="an expert's option",
        ),
        pytest.param(PLAIN + expert(""), ("'mine'", "options.path is missing"), id="an expert's missing option"),
        pytest.param(PLAIN + expert("", "pyton"), ("experts (number 1).backend = 'pyton'", "'python'"), id="a backend"),
        pytest.param(PLAIN + 2 * expert("", "tools"), ("mine is given to more than one",), id="an expert's name twice"),
        pytest.param(
            PLAIN + "[alerts.rules.peer_lots]\nfor_s = 1\n",
            ("alerts.rules.peer_lots", "Did you mean peer_lost?"),
            id="an alert rule",
        ),
        pytest.param(
            PLAIN + "[alerts.rules.high_latency]\nthreshold = -3\n", ("threshold = -3", "above 0"), id="a threshold"
        ),
        pytest.param(
            config("plain", peers=["/ip4/127.0.0.1/tcp/1"]), ("'/ip4/127.0.0.1/tcp/1'", "/p2p/<PeerId>"), id="a peer"
        ),
        pytest.param(
            PLAIN + '[storage]\nurl = "mysql://x/y"\n', ("storage.url = 'mysql://x/y'", "sqlite:"), id="a database"
        ),
        pytest.param(
            PLAIN + '[broker]\nurl = "nats://127.0.0.1:1"\ncredentials = "/nowhere/at.all"\n',
            ("broker.credentials = '/nowhere/at.all'",),
            id="credentials",
        ),
    ],
)
async def test_a_setting_that_is_wrong_is_named_with_its_remedy(home: Home, text: str, words: tuple[str, ...]) -> None:
    home.config_file.write_text(text)
    before = contents(home)
    (await mesh(home.root, "up")).refused(CONFIG, *words)
    assert contents(home) - before <= {"lock"}, "something was begun"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MESH_HEALTH__INTERVALL_S", "5", ("MESH_HEALTH__INTERVALL_S='5'", "Did you mean MESH_HEALTH__INTERVAL_S?")),
        ("MESH_XYZZY", "1", ("MESH_XYZZY='1' is not a setting",)),
        ("MESH_HEALTH__INTERVAL_S", "often", ("'often'", "number", "Correct it in MESH_HEALTH__INTERVAL_S")),
        ("MESH_OVERLAY__PEERS", "x", ("MESH_OVERLAY__PEERS='x' is not JSON",)),
    ],
)
async def test_a_variable_that_is_wrong_is_named_with_its_remedy(
    home: Home, name: str, value: str, words: tuple[str, ...]
) -> None:
    (await mesh(home.root, "up", env={name: value})).refused(CONFIG, *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda key: key.unlink(), ("there is no key file", "mesh init"), id="missing"),
        pytest.param(lambda key: key.chmod(0o644), ("mode 0644", "limit: 0600", "chmod 600"), id="open to others"),
        pytest.param(lambda key: key.write_bytes(b"\xff\x00\xfe"), ("cannot be read",), id="bytes"),
        pytest.param(lambda key: key.write_text("not a key\n"), ("is not hex", "backup"), id="text"),
        pytest.param(lambda key: key.write_text("abcd\n"), ("is damaged", "32 bytes, this one has 2"), id="short"),
        pytest.param(lambda key: (key.unlink(), key.mkdir(0o700)), ("Is a directory",), id="a directory"),
    ],
)
async def test_a_key_that_cannot_be_used_is_named(
    home: Home, change: Callable[[Path], object], words: tuple[str, ...]
) -> None:
    change(home.key_file)
    before = contents(home)
    (await mesh(home.root, "up")).refused(KEY, str(home.key_file), *words)
    assert contents(home) - before <= {"lock"}


async def test_a_second_node_on_the_same_home_is_refused_at_once_and_named_the_holder(node: NodeProcess) -> None:
    before = await node.status()
    ran = await mesh(node.home.root, "up")
    ran.refused(75, str(node.home.root), f"process {before.pid}", "mesh up", "--home")
    after = await node.status()
    assert (after.pid, after.epoch, after.processes) == (before.pid, before.epoch, before.processes)


async def test_an_overlay_port_that_is_taken_is_named(home: Home, taken: int) -> None:
    home.config_file.write_text(PLAIN.replace("127.0.0.1/tcp/0", f"127.0.0.1/tcp/{taken}"))
    (await mesh(home.root, "up")).refused(TAKEN, f"/ip4/127.0.0.1/tcp/{taken}", "[overlay]")
    assert await _runs(home, PLAIN), "the start that failed left something behind"


async def test_the_overlay_port_of_another_node_is_not_shared_in_silence(home: Home, node: NodeProcess) -> None:
    address = (await node.status()).addresses[0].partition("/p2p/")[0]
    home.config_file.write_text(PLAIN.replace("/ip4/127.0.0.1/tcp/0", address))
    (await mesh(home.root, "up")).refused(TAKEN, address, "[overlay]")


async def test_a_broker_port_that_is_taken_is_named(home: Home, taken: int) -> None:
    home.config_file.write_text(PLAIN + f"[broker]\nport = {taken}\n")
    (await mesh(home.root, "up")).refused(TAKEN, f"127.0.0.1:{taken}", "[broker]", "the port is taken")
    assert not (home.broker / "store").exists()


async def test_a_broker_that_is_not_there_is_named(home: Home, taken: int) -> None:
    home.config_file.write_text(PLAIN + '[broker]\nurl = "nats://127.0.0.1:1"\n')
    (await mesh(home.root, "up")).refused(TAKEN, "nats://127.0.0.1:1", "[broker]")


async def test_a_database_that_cannot_be_opened_is_named(home: Home) -> None:
    home.config_file.write_text(PLAIN + '[storage]\nurl = "sqlite:////nowhere/at/all.sqlite"\n')
    (await mesh(home.root, "up")).refused(74, "/nowhere/at/all.sqlite", "projector.log")


async def test_the_store_of_another_node_is_refused(home: Home, tmp_path: Path) -> None:
    assert await _runs(home, PLAIN)
    other = Home(tmp_path / "other")
    initialise(other)
    home.key_file.write_bytes(other.key_file.read_bytes())
    (await mesh(home.root, "up")).refused(74, "position 1")


async def _runs(home: Home, text: str) -> bool:
    """Whether a node starts in ``home`` with this config, answers, and ends well."""
    home.config_file.write_text(text)
    node = NodeProcess(home.root.name, home.root.parent)
    await node.start()
    try:
        return (await node.status()).pid > 0
    finally:
        await node.stop()


async def test_a_signal_while_it_starts_ends_it_in_order(home: Home) -> None:
    node = NodeProcess(home.root.name, home.root.parent)
    starting = asyncio.create_task(node.start())
    while not (home.broker / "nats-server.pid").exists():
        assert not starting.done()
        await asyncio.sleep(0.01)
    assert node.process is not None
    node.process.terminate()
    await asyncio.gather(starting, return_exceptions=True)
    assert node.process.wait(60) == 0
    assert "Traceback" not in (home.logs / "node.log").read_text()
    assert await _runs(home, PLAIN)
