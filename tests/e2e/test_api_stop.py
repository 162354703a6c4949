"""The API of a node that stops, whatever has become of the broker: it lets go of its calls, and fails nobody."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from nats.aio.client import Client

from mesh.api.messages import ASK
from mesh.api.server import ApiServer
from tests.kit.broker import running_broker
from tests.kit.freezing import freeze

pytestmark = pytest.mark.e2e


class Patient:
    """A node that works on what it is asked until nobody waits for it any more."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.let_go = False

    async def ask(self, _query: dict[str, Any], _emit: object) -> None:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.let_go = True


async def stopped_after(place: Path, harm: Callable[[int], object]) -> None:
    commands: Any = Patient()
    async with running_broker(place, probe_interval_s=60) as broker:
        address = broker.address("node")
        api = ApiServer(address, commands)
        await api.start()
        client = Client()
        await client.connect(address.url, **address.options())
        await client.publish(ASK, msgspec.json.encode({"call": "1", "query": {}}), reply="where.somebody.waits")
        await commands.asked.wait()
        await client.close()
        assert broker.pid is not None
        harm(broker.pid)
        async with asyncio.timeout(8):
            await api.stop()
    assert commands.let_go


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("harm", [freeze, kill])
def test_a_broker_that_is_silent_or_lost_does_not_hold_up_the_stop(
    harm: Callable[[int], object], tmp_path: Path
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as a node has it
        runner.run(stopped_after(tmp_path, harm))
