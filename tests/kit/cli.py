"""``mesh`` commands as processes of their own: what they print, and how they end."""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.clock import SystemClock


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    output: str
    errors: str
    seconds: float

    def refused(self, code: int, *words: str) -> None:
        """Assert one clear error with this exit code that holds every one of ``words``, and nothing else."""
        said = " ".join(self.errors.split())
        assert self.code == code, f"exit code {self.code}, not {code}: {self.output}{self.errors}"
        assert "Traceback" not in self.errors, self.errors
        assert re.match(r"mesh: |\S* ?\[error", said) or "\nmesh: " in self.errors, self.errors
        missing = [word for word in words if word not in said]
        assert not missing, f"{missing} not in: {self.errors}"


def environment(**more: str) -> dict[str, str]:
    """This process's environment without any ``MESH_*`` variable, and with ``more``."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("MESH_")} | more


async def begin(home: Path, *arguments: str, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Start a ``mesh`` command on ``home`` with pipes to it."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh",
        *arguments,
        "--home",
        str(home),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**(env or {})),
    )


async def mesh(
    home: Path, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None, within: float = 120
) -> Ran:
    """Run a ``mesh`` command on ``home`` to its end. Fails when it is not there ``within`` seconds."""
    clock = SystemClock()
    started = clock.monotonic()
    process = await begin(home, *arguments, env=env)
    talking = asyncio.create_task(process.communicate(stdin.encode()))
    await asyncio.wait([talking], timeout=within)
    if not talking.done():
        process.terminate()
        output, errors = await talking
        raise AssertionError(f"mesh {' '.join(arguments)} did not end:\n{output.decode()}{errors.decode()}")
    output, errors = talking.result()
    assert process.returncode is not None
    return Ran(process.returncode, output.decode(), errors.decode(), clock.monotonic() - started)


async def shell(home: Path, command: str) -> Ran:
    """Run a line of a shell, where ``mesh`` is the command on ``home``; the code is that of the first in a pipe."""
    clock = SystemClock()
    started = clock.monotonic()
    mesh = f'mesh() {{ {shlex.quote(sys.executable)} -m mesh "$@" --home {shlex.quote(str(home))}; }}'
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"{mesh}; {command}; exit ${{PIPESTATUS[0]}}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return Ran(process.returncode, output.decode(), errors.decode(), clock.monotonic() - started)
