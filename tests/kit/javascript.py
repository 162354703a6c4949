"""Programs in JavaScript, run by Node.js with exactly what their lock files pin."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALLED = ("package.json", "package-lock.json", ".npmrc")

needs_node = pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="there is no Node.js here")


def copy_of(example: str, directory: Path) -> Path:
    """A copy of ``examples/<example>`` below ``directory``, beside what it needs."""
    copied = directory / example
    shutil.copytree(ROOT / "examples" / example, copied, ignore=shutil.ignore_patterns("node_modules"))
    (copied / "node_modules").symlink_to(modules(ROOT / "examples" / example))
    return copied


def modules(source: Path, command: str = "ci") -> Path:
    """What the lock file in ``source`` pins, installed once for all tests that come after.

    ``command`` is ``install`` where the lock leaves out parts that are for other machines.
    """
    cache = ROOT / "build" / source.name
    digest = hashlib.sha256(b"".join((source / name).read_bytes() for name in INSTALLED)).hexdigest()[:16]
    home = cache / digest
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            home.mkdir(exist_ok=True)
            for name in INSTALLED:
                shutil.copy(source / name, home)
            line = ["npm", command, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(line, cwd=home, capture_output=True, text=True, timeout=180, check=False)
            assert done.returncode == 0, done.stderr
            (home / "installed").touch()
    return home / "node_modules"


async def run_js(directory: Path, *arguments: str, within_s: float = 120.0) -> tuple[int, str, str]:
    """Run ``node`` with these arguments to its end: exit code, output, errors."""
    async with js_process(directory, *arguments) as process:
        output, errors = await asyncio.wait_for(process.communicate(), within_s)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@asynccontextmanager
async def js_process(directory: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``node`` with these arguments and pipes to it, ended at the end."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", *arguments, cwd=directory, stdin=pipe, stdout=pipe, stderr=pipe,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
