"""The mesh in WebAssembly: CPython under Pyodide in node gives, to the byte, what it gives here.

Pyodide comes from npm, as examples/pyodide/package-lock.json pins it; the wheels come by requirements.lock. Nothing is
fetched while anything runs.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mesh.events import lines
from mesh.events.audit import verify
from mesh.identity import Identity
from scripts.pyodide import NEEDED, pack_mesh
from tests.kit.golden import GOLDEN

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/pyodide"
PROGRAM = Path(__file__).with_name("replay_program.py")
BUNDLER = ROOT / "scripts/pyodide.py"
CACHE = ROOT / "build/pyodide"
INSTALLED = (EXAMPLE / "package.json", EXAMPLE / "package-lock.json", EXAMPLE / ".npmrc")
FILES = (*(GOLDEN / f"{name}.jsonl" for name in ("history", "journal-1", "journal-2", "tampered")), EXAMPLE / "ask.py")

pytestmark = pytest.mark.e2e
with_node = pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="there is no Node.js here")


def example(bundle: Path, directory: Path) -> Path:
    """A copy of the example with its modules, and the bundle in ``bundle``: of both, what can be kept is kept."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in INSTALLED)).hexdigest()[:16]
    home = CACHE / digest
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            home.mkdir(exist_ok=True)
            for path in INSTALLED:
                shutil.copy(path, home)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done(command, cwd=home)
            (home / "installed").touch()
        wheels = (
            CACHE / hashlib.sha256(BUNDLER.read_bytes() + (ROOT / "requirements.lock").read_bytes()).hexdigest()[:16]
        )
        if not (wheels / "complete").exists():
            done([sys.executable, str(BUNDLER), str(wheels)], cwd=ROOT)
            (wheels / "complete").touch()
        shutil.copytree(wheels, bundle)
    pack_mesh(bundle / "mesh.zip")
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("node_modules"))
    (directory / "node_modules").symlink_to(home / "node_modules")
    return directory


def done(command: list[str], cwd: Path) -> str:
    """What a command prints, which must succeed."""
    ended = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout


def pure_modules() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (pure,) = (contract for contract in contracts if contract["id"] == "pure")
    return [name for name in pure["source_modules"] if not name.startswith("mesh.p2p.host.")]


# Imports nothing but the standard library, the mesh and what the bundle has, as top-level modules.
ALONE = """
import importlib, sys
from importlib.abc import MetaPathFinder
allowed = set(sys.argv[1].split()) | set(sys.stdlib_module_names) | {"mesh"}
class Door(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed and not name.startswith("_sysconfigdata_"):
            raise ModuleNotFoundError(f"{name} is not in the bundle", name=name)
sys.meta_path.insert(0, Door())
here, sys.platform = sys.platform, "emscripten"
import mesh.ed25519
sys.platform = here
for name in sys.argv[2].split():
    importlib.import_module(name)
"""


def test_the_pure_core_and_the_embedded_mesh_need_nothing_that_is_not_bundled() -> None:
    wanted = {name for name in NEEDED if not name.startswith("python-")} | {"dotenv"}
    allowed = {name.replace("-", "_") for name in wanted}
    modules = [*pure_modules(), "mesh.embedded", "mesh.projections.in_memory"]
    done([sys.executable, "-c", ALONE, " ".join(allowed), " ".join(modules)], cwd=ROOT)


def native(files: dict[str, str]) -> dict[str, Any]:
    """What the program tells when it runs here."""
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(PROGRAM.read_text(), PROGRAM.name, "exec"), names)
    told: dict[str, Any] = json.loads(asyncio.run(names["main"](files)))
    return told


@with_node
def test_webassembly_gives_what_this_machine_gives_to_the_byte(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    directory = example(bundle, tmp_path / "js")
    modules = tmp_path / "modules.txt"
    modules.write_text("\n".join(pure_modules()))
    files = (*FILES, modules)
    there = json.loads(done(["node", "run.mjs", str(bundle), str(PROGRAM), *map(str, files)], cwd=directory))
    here = native({path.name: path.read_text() for path in files})
    assert there["imported"] == {}, "the pure core can be imported"
    assert there["replayed"] == here["replayed"]
    golden = json.loads((GOLDEN / "tables.json").read_text())
    assert there["replayed"]["tables"] == {name: table["digest"] for name, table in golden.items()}
    assert there["audited"] == here["audited"]
    assert there["audited"]["tampered.jsonl"] == [[5, "changed"]]
    judge(there["asked"])
    assert there["asked"] == here["asked"]
    assert there["example"] == here["example"]
    assert (there["example"]["text"], there["example"]["whole"]) == ("Hello, Wasm", True)
    assert verify(lines.read(there["asked"]["journal"]), Identity(bytes(range(32))).peer_id).ok, (
        "signed there, true here"
    )


def judge(asked: dict[str, Any]) -> None:
    """What an embedded mesh does with its requests."""
    assert {text.upper() for text in asked["texts"]} <= {f"MESH {n}" for n in range(6)} | {
        f"{n} HSEM" for n in range(6)
    }
    assert asked["streamed"] == ["onetwo", ["one", "two"]]
    assert asked["spelled"] == "abc"
    refusals = [
        told for told in asked.values() if isinstance(told, list) and len(told) == 3 and isinstance(told[0], str)
    ]
    kinds = {name: refused[0] for name, refused in asked.items() if refused in refusals}
    assert kinds == {
        "broken": "failed",
        "expired": "expired",
        "nobody": "no_candidates",
        "invalid": "invalid",
        "consensus": "needs_node",
        "status": "needs_node",
        "access": "needs_node",
        "acknowledge": "needs_node",
        "closed": "",
    }
    assert all("mesh up" in asked[name][2] for name in ("consensus", "status", "access", "acknowledge"))
    assert asked["outcomes"] == [
        {"state": "completed", "requests": 8},
        {"state": "failed", "requests": 3},
        {"state": "rejected", "requests": 2},
    ]
    assert set(asked["recomputed"]) == {"identical"}
    assert asked["whole"]


def test_the_lock_pins_every_module_and_names_no_host() -> None:
    packages = json.loads((EXAMPLE / "package-lock.json").read_text())["packages"]
    assert "node_modules/pyodide" in packages
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name
