"""docs/operating.md: the unit for systemd stops a node as the node wants to be stopped."""

import re
from configparser import ConfigParser
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs/operating.md"


def test_only_the_node_itself_is_told_to_stop() -> None:
    (text,) = re.findall(r"^```ini\n(\[Unit\].*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    unit = ConfigParser()
    unit.read_string(text)
    assert unit["Service"]["KillMode"] == "mixed"  # by default every process below it gets the signal too
