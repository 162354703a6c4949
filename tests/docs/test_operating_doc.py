"""docs/operating.md: how the unit for systemd stops a node, and every exit code that an error of ours has."""

import re
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/operating.md"


def test_only_the_node_itself_is_told_to_stop() -> None:
    (text,) = re.findall(r"^```ini\n(\[Unit\].*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    unit = ConfigParser()
    unit.read_string(text)
    assert unit["Service"]["KillMode"] == "mixed"  # by default every process below it gets the signal too


def test_every_exit_code_is_in_the_table() -> None:
    sources = (path.read_text() for path in (ROOT / "mesh").rglob("*.py"))
    used = {int(code) for text in sources for code in re.findall(r"^ {4}exit_code = (\d+)\b", text, re.MULTILINE)}
    table = DOCUMENT.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    named = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in row.split(", ")}
    assert len(used) > 6
    assert named == used | {0, 2, 130, 141, 143}
