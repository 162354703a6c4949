"""A PostgreSQL server of the tests' own, where its programs are installed."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from mesh.processes import die_with_parent

_DEBIAN = Path("/usr/lib/postgresql")  # which does not put them on the PATH
_STARTS_WITHIN_S = 60.0
_ANSWERS = 0  # of pg_isready


def programs() -> Path | None:
    """The directory of ``initdb``, ``postgres`` and ``pg_isready``; None where they are not installed."""
    found = [Path(path) for path in [shutil.which("postgres"), *_DEBIAN.glob("*/bin/postgres")] if path]
    return found[0].resolve().parent if found else None


@contextmanager
def own_server(programs: Path) -> Iterator[str]:
    """The URL of an empty database; its server listens on a socket file alone, and ends with the context."""
    directory = Path(mkdtemp(prefix="mesh-postgresql-"))  # not pytest's, which nobody but its owner may enter
    user = _unprivileged(directory)
    try:
        data = directory / "data"
        _run(programs / "initdb", "-D", data, "-U", "mesh", "--auth=trust", "--no-sync", "-E", "UTF8", user=user)
        command = [programs / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                command, user=user, cwd=directory, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        try:
            _wait_until_ready(programs, directory, server)
            yield f"postgresql://mesh@/postgres?host={directory}"
        finally:
            server.send_signal(signal.SIGINT)  # "fast shutdown": clients are cut off
            server.wait(_STARTS_WITHIN_S)
    finally:
        shutil.rmtree(directory)


def _unprivileged(directory: Path) -> str | None:
    """PostgreSQL refuses to run as root: the account that it runs as instead."""
    if os.geteuid() != 0:
        return None
    shutil.chown(directory, "nobody")
    return "nobody"


def _run(*command: str | Path, user: str | None) -> None:
    done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _wait_until_ready(programs: Path, directory: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    asked = [programs / "pg_isready", "-q", "-h", directory]
    while subprocess.run(asked).returncode != _ANSWERS:
        assert server.poll() is None, (directory / "log").read_text()
        assert time.monotonic() < deadline, f"no PostgreSQL within {_STARTS_WITHIN_S:g} s"
        time.sleep(0.05)
