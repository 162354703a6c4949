"""Make the project's environment: ``python3 scripts/bootstrap.py DIRECTORY``.

Needs Python 3.11 or newer with its venv module, nothing else. What gets installed is exactly what the lock files
name, each file checked against its hash. A stamp remembers what that was: the next run does nothing, unless a
lock or pyproject.toml has changed. This file itself runs, far enough to say what is missing, on Python 3.7.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
LLM_LOCK = ROOT / "requirements-llm.lock"
OLDEST = (3, 11)
BUILDERS = ("pip", "setuptools")
# The lock is complete, so pip resolves nothing and a build fetches nothing that is not pinned.
PINNED = ("--require-hashes", "--no-deps", "--no-build-isolation")
# Of all that is pinned, only fastecdsa may have to be compiled: it has wheels for Linux on x86-64 alone.
COMPILER_REMEDY = (
    "There is no wheel of fastecdsa for this machine, so it is compiled: on Debian and Ubuntu "
    "`apt install build-essential python3-dev libgmp-dev`, then run the same command again."
)


class Stop(Exception):
    """What kept the environment from being made, and what to do."""


def main(arguments: list[str]) -> int:
    """Make the environment in the directory given (default: ``.venv``); returns the exit status."""
    try:
        require_python()
        install(Path(arguments[0] if arguments else ".venv").absolute())
    except Stop as stop:
        sys.stderr.write(f"\n{stop}\n")
        return 1
    return 0


def require_python() -> None:
    """Raise Stop on a Python that is too old."""
    if sys.version_info < OLDEST:
        version = sys.version.split()[0]
        raise Stop(
            f"Synaptic Mesh needs Python {OLDEST[0]}.{OLDEST[1]} or newer; {sys.executable} is {version}.\n"
            "Install a newer one, then name it: `make PYTHON=/path/to/python3.11 test`."
        )


def install(venv: Path) -> None:
    """Bring the environment up to date with the locks, from nothing if need be."""
    stamp = venv / ".installed"
    wanted = fingerprint()
    if stamp.exists() and stamp.read_text() == wanted:
        stamp.touch()  # make compares times, we compare contents
        return
    stamp.unlink(missing_ok=True)
    if not has_pip(venv):
        create(venv)
    with tempfile.TemporaryDirectory() as scratch:
        builders = Path(scratch) / "builders.lock"
        builders.write_text(pins_of(LOCK, BUILDERS))
        for what, options in steps(builders):
            pip_install(venv, what, options)
    compile_all(venv)
    stamp.write_text(wanted)


def fingerprint() -> str:
    """Changes whenever something else has to be installed."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (LOCK, LLM_LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def steps(builders: Path) -> Iterator[tuple[str, list[str]]]:
    """What to install, in order, with pip's options."""
    yield "pip and setuptools, as pinned", [*PINNED, "-r", str(builders)]
    yield "the packages of requirements.lock", [*PINNED, "-r", str(LOCK)]
    yield "the demo's language model", [*PINNED, "-r", str(LLM_LOCK)]
    yield "mesh itself", ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]


def pins_of(lock: Path, names: tuple[str, ...]) -> str:
    """The entries of some packages, with their hashes."""
    entries = re.split(r"\n(?=[a-z0-9])", lock.read_text())
    return "\n".join(entry for entry in entries if entry.split("==")[0] in names) + "\n"


def has_pip(venv: Path) -> bool:
    """Whether there is an environment that works, made by a Python of this version."""
    python = venv / "bin" / "python"
    if not python.exists():
        return False
    done = run([str(python), "-c", "import pip, sys; print(sys.version)"])
    return done.returncode == 0 and done.stdout.strip() == sys.version


def create(venv: Path) -> None:
    """Make the empty environment. Raises Stop, and leaves nothing behind, where Python came without venv or pip."""
    sys.stdout.write(f"making {venv.name} with Python {sys.version.split()[0]}\n")
    shutil.rmtree(venv, ignore_errors=True)
    done = run([sys.executable, "-m", "venv", str(venv)])
    if done.returncode == 0 and has_pip(venv):
        return
    shutil.rmtree(venv, ignore_errors=True)
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    raise Stop(
        f"{done.stdout.strip()}\n\n{sys.executable} cannot make a virtual environment: its venv or ensurepip module "
        f"is missing.\nOn Debian and Ubuntu: `apt install python3-venv` (or {package}), then run it again."
    )


def pip_install(venv: Path, what: str, options: list[str]) -> None:
    """Run pip, silent unless it fails. Raises Stop."""
    sys.stdout.write(f"installing {what} … ")
    sys.stdout.flush()
    started = time.monotonic()
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    done = run([*pip, "--no-compile", *options])
    if done.returncode != 0:
        missing_wheel = "Building wheel for fastecdsa" in done.stdout or "build 'fastecdsa'" in done.stdout
        raise Stop(
            f"{done.stdout.strip()}\n\npip could not install {what}.\n"
            f"{COMPILER_REMEDY if missing_wheel else 'Correct what pip names, then run the same command again.'}"
        )
    sys.stdout.write(f"{time.monotonic() - started:.0f} s\n")


def compile_all(venv: Path) -> None:
    """Byte-compile what was installed on all cores: pip would do it on one, which is two thirds of its work."""
    started = time.monotonic()
    python = str(venv / "bin" / "python")
    # Some packages carry templates that are no Python: like pip, leave what does not compile as it is.
    run([python, "-m", "compileall", "-q", "-j", "0", str(venv / "lib")])
    sys.stdout.write(f"compiling them … {time.monotonic() - started:.0f} s\n")


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it prints."""
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
