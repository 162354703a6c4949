"""A node that the demo leaves up when it ends."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.cli import environment

# A node of which all is left out, but that it asks Linux whether it ends with who started it (PR_GET_PDEATHSIG).
NODE = """
import ctypes, os, sys, time
number = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(number))
open("dies-by", "w").write(str(number.value))
os.write(int(sys.argv[-1]), b"ready\\n")
time.sleep(600)
"""
DEMO = """
import asyncio, sys
from pathlib import Path
from mesh.demo.nodes import NodeProcess
async def main():
    node = NodeProcess("bravo", Path(sys.argv[1]), (sys.executable, "-c", sys.argv[3]), outlive=sys.argv[2] == "kept")
    node.home.logs.mkdir(parents=True)
    await node.start()
    await node.kill()
    await node.start()
    print(node.process.pid)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing ties a child's life to its parent's")
@pytest.mark.parametrize("fate", ["kept", "ended"])
async def test_a_node_that_was_killed_and_started_again_is_left_up_as_it_was_meant_to(
    tmp_path: Path, fate: str
) -> None:
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DEMO, str(tmp_path), fate, NODE,
        stdout=asyncio.subprocess.PIPE, env=environment(), cwd=tmp_path,
    )  # fmt: skip
    output, _ = await demo.communicate()
    with suppress(ProcessLookupError):
        os.kill(int(output), signal.SIGKILL)
    assert (tmp_path / "dies-by").read_text() == ("0" if fate == "kept" else str(int(signal.SIGTERM)))
