"""Nodes as real processes: ``mesh up`` each, started, killed and started again."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from mesh.api.client import Mesh
from mesh.api.messages import NodeStatus
from mesh.clock import SystemClock
from mesh.demo.layout import Member
from mesh.errors import MeshError
from mesh.home import Home
from mesh.identity import load_key_file
from mesh.processes import die_with_parent, wait_for_exit
from mesh.setup import initialise

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


class NodeProcess:
    """A home below ``root``, and its ``mesh up`` process while it runs. ``enter`` goes before every command.

    ``outlive``: it goes on when who started it ends, also once it was started again.
    """

    def __init__(self, name: str, root: Path, enter: Sequence[str] = (), *, outlive: bool = False) -> None:
        self.name = name
        self._enter = tuple(enter)
        self._outlive = outlive
        self.home = Home(root / name)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def peer_id(self) -> str:
        """Its PeerId, from its key file."""
        return load_key_file(self.home.key_file).peer_id

    def prepare(self, config: str = "") -> None:
        """Make its home and identity; ``config`` is the text of its config.toml."""
        initialise(self.home, config=config)

    async def start(self) -> None:
        """Start ``mesh up`` and wait until the node serves."""
        readable, writable = os.pipe()
        log_path = self.home.logs / "node.log"
        with log_path.open("ab") as log_file:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - ours; starts at once; prctl is all
                [
                    *self._enter,
                    sys.executable,
                    "-m",
                    "mesh",
                    "up",
                    "--home",
                    str(self.home.root),
                    "--ready-fd",
                    str(writable),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                pass_fds=(writable,),
                start_new_session=True,
                preexec_fn=None if self._outlive else die_with_parent,  # noqa: PLW1509 - it is one system call
            )
        os.close(writable)
        async with asyncio.timeout(READY_TIMEOUT_S):
            ready = await _read_line(readable)
        if not ready:
            tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
            raise MeshError(f"node {self.name} did not start:\n{tail}")

    async def command(self, *arguments: str) -> "tuple[int, str, str]":
        """Run a ``mesh`` command on its home: exit code, standard output, standard error."""
        process = await asyncio.create_subprocess_exec(
            *self._enter,
            sys.executable,
            "-m",
            "mesh",
            *arguments,
            "--home",
            str(self.home.root),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        return process.returncode or 0, output.decode(), errors.decode()

    async def kill(self) -> None:
        """SIGKILL, as a power cut for this process."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await wait_for_exit(self.process)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL when it does not end."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await wait_for_exit(self.process)
        except TimeoutError:
            await self.kill()

    async def status(self) -> NodeStatus:
        """What it says of itself."""
        async with Mesh.connect(self.home.root) as mesh:
            return await mesh.status()


class DemoNode(NodeProcess):
    """One member of the demo."""

    def __init__(self, member: Member, root: Path, *, outlive: bool) -> None:
        super().__init__(member.name, root, outlive=outlive)
        self.member = member


async def _read_line(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        return await reader.readline()
    finally:
        transport.close()


async def until(condition: Callable[[], Awaitable[bool]], *, within: float, what: str) -> float:
    """Wait for a condition and return the seconds it took. Raises MeshError that names ``what`` when it is late."""
    clock = SystemClock()
    started = clock.monotonic()
    while not await condition():
        if clock.monotonic() - started > within:
            raise MeshError(f"{what}: not within {within:.0f} s", remedy="The nodes' logs are below the demo's home.")
        await clock.sleep(0.05)
    return clock.monotonic() - started
