"""docs/embedded.md: what it shows runs, what it names is there."""

import re
import subprocess
import sys
from pathlib import Path

from mesh.embedded import LocalMesh
from mesh.embedded.history import History
from scripts import pyodide

DOCUMENT = Path(__file__).parents[2] / "docs/embedded.md"


def test_its_program_runs():
    (program,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_its_table_names_what_there_is():
    named = set(
        re.findall(r"`(\w+)(?:\(.*?\))?`", "".join(re.findall(r"^\| (`.*?) \|", DOCUMENT.read_text(), re.MULTILINE)))
    )
    assert named == {name for kind in (LocalMesh, History) for name in vars(kind) if name[0] != "_"}


def test_it_counts_the_wheels():
    words = {12: "twelve", 13: "thirteen", 14: "fourteen", 15: "fifteen"}
    assert f"{words[len(pyodide.NEEDED)]} wheels" in DOCUMENT.read_text()
