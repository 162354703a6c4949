"""Nodes with a network key, with another, and with none: nobody gets in, and everybody hears why."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mesh.config import OverlayConfig
from mesh.errors import ConfigError, ListenError
from mesh.identity import Identity
from mesh.p2p import network_key
from mesh.p2p.addresses import target_of
from mesh.p2p.overlay import Connected, DialFailed, Misbehaved, Refused
from mesh.p2p.overlay_process import ProcessOverlay
from tests.kit.overlays import Node, ProcessWorld, Recorder, reset

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
HANDSHAKE_S = 3.0
LISTEN = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessWorld]:
    directory = tmp_path_factory.mktemp("private")
    for name in ("ours", "theirs"):
        network_key.write_file(directory / name, network_key.generate())
    common = {"listen": LISTEN, "handshake_timeout_s": HANDSHAKE_S}
    keys = [{"psk_file": str(directory / "ours")}, {"psk_file": str(directory / "theirs")}, {}]
    world = ProcessWorld(directory, settings=keys, common=common)
    await world.start()
    yield world
    await world.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(processes: ProcessWorld) -> ProcessWorld:
    await reset(processes)
    return processes


def address(node: Node, transport: str) -> str:
    return next(one for one in node.overlay.addresses if target_of(one).transport == transport)


@pytest.mark.parametrize("transport", ["tcp", "ws"])
@pytest.mark.parametrize(
    ("dialler", "listener", "dialler_hears", "rule", "listener_hears"),
    [
        pytest.param(1, 0, "its network key is not ours", "network_key", "key", id="another key"),
        pytest.param(2, 0, "a private network", "network_key", "no key", id="no key"),
        pytest.param(0, 2, "its network key is not ours", "handshake", "a private network", id="nobody else has one"),
    ],
)
async def test_a_network_key_that_differs_ends_the_dial_and_both_say_so(
    world: ProcessWorld,
    transport: str,
    dialler: int,
    listener: int,
    dialler_hears: str,
    rule: str,
    listener_hears: str,
) -> None:
    a, b = world.nodes[dialler], world.nodes[listener]
    with pytest.raises(DialFailed, match=dialler_hears):
        await a.overlay.dial(b.peer, [address(b, transport)], 10)
    complaints = (Refused, Misbehaved)

    def heard() -> bool:  # among what the test before has left, which may be told late
        told = [fact for fact in b.heard.facts if isinstance(fact, complaints) and fact.rule == rule]
        return any(listener_hears in (fact.value if isinstance(fact, Refused) else fact.detail) for fact in told)

    await b.heard.until(heard)
    assert not a.heard.of(Connected) + b.heard.of(Connected)


async def test_who_says_nothing_is_waited_for_no_longer_than_the_handshake_may_take(world: ProcessWorld) -> None:
    a, b, _ = world.nodes
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        there = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}"
        with pytest.raises(DialFailed, match=r"within 3 s \(is it in our private network\?\)"):
            await a.overlay.dial(b.peer, [there], HANDSHAKE_S)


async def test_nothing_on_the_wire_tells_what_is_spoken(world: ProcessWorld) -> None:
    """A probe that has no key reads noise: a nonce, and the greeting enciphered."""
    with socket.create_connection(("127.0.0.1", target_of(address(world.nodes[0], "tcp")).port)) as probe:
        probe.settimeout(HANDSHAKE_S + 30)
        probe.sendall(bytes(24))
        heard = b""
        while data := probe.recv(4096):
            heard += data
    assert len(heard) >= 24
    assert b"multistream" not in heard


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"listen": ["/ip4/127.0.0.1/udp/0/quic"]}, "does not speak QUIC of before RFC 9000"),
        ({"listen": ["/ip4/127.0.0.1/udp/0/quic-v1"], "psk_file": "swarm.key"}, "a network key protects TCP"),
        ({"listen": ["/ip4/127.0.0.1/udp/0/webrtc-direct"], "psk_file": "swarm.key"}, "speak WebRTC: a network key"),
        ({"listen": ["/ip4/127.0.0.1/tcp/0/tls/ws"]}, "needs a certificate"),
        ({"listen": ["/ip4/127.0.0.1/tcp/4701", "/ip4/127.0.0.1/tcp/4701/ws"]}, "on one port"),
        ({"psk_file": "not-there.key"}, "not-there.key cannot be read"),
    ],
)
async def test_settings_that_cannot_be_meant_are_refused_before_anything_starts(
    tmp_path: Path, settings: dict[str, object], says: str
) -> None:
    overlay = ProcessOverlay(
        Identity.generate(),
        OverlayConfig(**settings),
        tmp_path / "run",
        tmp_path / "log",
        agent="test/1",
        home=tmp_path,
    )
    with pytest.raises(ConfigError, match=says) as raised:
        await overlay.start(Recorder(), protocols=[], topics=[])
    assert raised.value.remedy
    assert overlay.pid is None


async def test_a_certificate_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("junk")
    config = OverlayConfig(listen=["/ip4/127.0.0.1/tcp/0/tls/ws"], wss_certificate="broken.pem")
    overlay = ProcessOverlay(
        Identity.generate(), config, tmp_path / "run", tmp_path / "log", agent="test/1", home=tmp_path
    )
    with pytest.raises(ListenError, match=r"wss_certificate .*broken\.pem") as raised:
        await overlay.start(Recorder(), protocols=[], topics=[])
    assert raised.value.remedy
