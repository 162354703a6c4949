"""Write requirements.lock and requirements-llm.lock from pyproject.toml: exact versions and hashes, no index.

``python scripts/lock.py`` keeps every pin that still fits; ``--upgrade`` renews all of them,
``--upgrade-package NAME`` one.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.11"
# A lock that named an index, a host or a directory would tie everybody to the machine it was made on.
FORBIDDEN = ("://", "--index", "--extra-index", "--find-links", " @ ", "file:", "\n/")


def main(upgrade: list[str]) -> int:
    """Compile both locks; the exit status is uv's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    compile_lock("requirements.lock", ["pyproject.toml", "--group", "dev", *upgrade])
    llm = "\n".join(project["optional-dependencies"]["llm"])
    compile_lock("requirements-llm.lock", ["-", "--no-deps", *upgrade], stdin=llm)
    return 0


def compile_lock(name: str, arguments: list[str], stdin: str = "") -> None:
    """Resolve for every supported Python at once and write the file, if it can be used anywhere."""
    path = ROOT / name
    subprocess.run(
        [
            *(str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet"),
            *("--universal", "--python-version", OLDEST_PYTHON),
            *("--generate-hashes", "--no-header", "--no-annotate"),
            *("--output-file", name),
            *arguments,
        ],
        cwd=ROOT,
        input=stdin,
        text=True,
        check=True,
    )
    text = path.read_text()
    found = [word for word in FORBIDDEN if word in text]
    if found:
        path.unlink()
        sys.exit(f"{name} would name an index or a directory ({', '.join(found)}); it was not written")
    sys.stdout.write(f"{name}: {len(re.findall(r'^[a-z0-9.-]+==', text, re.MULTILINE))} packages\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
