"""A node that is told to stop while its broker is away: it ends soon, and says what is missing."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from mesh.demo.nodes import NodeProcess, until
from mesh.errors import BrokerError
from mesh.events.broker import BrokerAddress
from mesh.events.broker_embedded import find_server
from mesh.events.broker_port import choose_port
from mesh.events.broker_probe import probe
from mesh.processes import wait_for_exit
from tests.kit.nodes import MATHS, config

pytestmark = pytest.mark.e2e


async def serves(address: BrokerAddress) -> bool:
    try:
        await probe(address)
    except BrokerError:
        return False
    return True


async def test_a_node_whose_broker_is_gone_for_good_stops_and_says_what_was_not_stored(tmp_path: Path) -> None:
    port = choose_port("127.0.0.1", 0, tmp_path / "port")
    settings = tmp_path / "nats.conf"
    settings.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{tmp_path}/store" }}\n')
    url = f"nats://127.0.0.1:{port}"
    node = NodeProcess("only", tmp_path)
    node.prepare(config("only", MATHS, extra=f'[broker]\nurl = "{url}"\n'))
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([find_server(), "-c", str(settings)], stdout=log, stderr=log)
    try:
        await until(lambda: serves(BrokerAddress(url)), within=60, what="the server did not come up")
        await node.start()
    finally:
        server.kill()
        server.wait()
    assert node.process is not None
    node.process.terminate()
    try:
        async with asyncio.timeout(60):
            assert await wait_for_exit(node.process) == 0
    finally:
        node.process.kill()
    log_of_node = (node.home.logs / "node.log").read_text()
    assert "the last event could not be stored" in log_of_node
    assert "Traceback" not in log_of_node
