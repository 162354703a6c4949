"""A node in the foreground that is told to stop, at whatever moment."""

import asyncio
import signal
from pathlib import Path

import pytest

from mesh import running
from mesh.config import Config
from mesh.home import Home


class Starting:
    """In place of a node: one that is told to stop so many turns of the loop before its start is done."""

    def __init__(self, turns: int) -> None:
        self._turns = turns
        self.started = False
        self.stopped = ""

    async def start(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        for _ in range(self._turns):
            await asyncio.sleep(0)
        self.started = True

    async def failed(self) -> None:
        await asyncio.Event().wait()

    async def stop(self, reason: str) -> None:
        self.stopped = reason


@pytest.mark.parametrize("turns", range(6))
async def test_a_node_whose_start_was_done_when_it_was_told_to_stop_is_stopped(
    turns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Starting(turns)
    monkeypatch.setattr(running, "Node", lambda _home, _config: node)
    async with asyncio.timeout(10):
        await running.run_node(Home(tmp_path), Config())
    assert node.stopped == ("received SIGTERM" if node.started else "")
