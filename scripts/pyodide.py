"""Bundle the mesh for Pyodide: ``python scripts/pyodide.py DIRECTORY``.

Puts into the directory the wheels that the embedded mesh needs, those for WebAssembly among them, at the versions and
hashes of requirements.lock, and the mesh itself. `examples/pyodide` loads it.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
# What `mesh.embedded` imports, and what that imports in turn. PyNaCl is not among it: see mesh/ed25519.
NEEDED = (
    *("annotated-types", "base58", "msgspec", "platformdirs", "pydantic", "pydantic-core", "pydantic-settings"),
    *("python-dotenv", "sqlalchemy", "structlog", "typing-extensions", "typing-inspection", "uuid-utils"),
)
# The Python of the Pyodide that examples/pyodide/package-lock.json pins, and its platform (PEP 783).
PYTHON = "3.14"
PLATFORM = "pyemscripten_2026_0_wasm32"
_BLOCK = re.compile(r"^([a-z0-9.-]+)==.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def main(arguments: list[str]) -> int:
    """Make the bundle; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python scripts/pyodide.py DIRECTORY\n")
        return 2
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    fetch_wheels(directory)
    pack_mesh(directory / "mesh.zip")
    return 0


def pinned(lock: str) -> str:
    """The lines of the lock that are about what is needed."""
    blocks = {block[1]: block[0] for block in _BLOCK.finditer(lock)}
    missing = [name for name in NEEDED if name not in blocks]
    if missing:
        sys.exit(f"requirements.lock does not pin {', '.join(missing)}: run `make lock`")
    return "".join(blocks[name] for name in NEEDED)


def fetch_wheels(directory: Path) -> None:
    """Download what is not there yet, each file checked against its hash."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(pinned(LOCK.read_text()))
        requirements.flush()
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                *("--require-hashes", "--no-deps", "--only-binary", ":all:"),
                *("--platform", PLATFORM, "--python-version", PYTHON, "--implementation", "cp"),
                *("--abi", "cp" + PYTHON.replace(".", ""), "--abi", "abi3", "--abi", "none"),
                *("--dest", str(directory), "--requirement", requirements.name),
            ],
            check=True,
        )


def pack_mesh(archive: Path) -> None:
    """The package as a zip file."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for source in sorted((ROOT / "mesh").rglob("*.py")):
            packed.write(source, source.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
