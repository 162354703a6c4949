"""Tables for people: whole where there is room, and a block of lines a row where there is not."""

import re
import sys
from typing import Any

import pytest

from mesh.cli.render import print_rows

ALERT = "peer_lost/12D3KooWCv5okT26BjnuuxdrNAZ6JX9XFxWC9hFVV9VVKqya9PhQ"
ROWS: list[dict[str, Any]] = [
    {"alert": ALERT, "state": "raised", "message": "it has not been heard of for 7 s", "actor": None},
    {"alert": "node_resources_cpu", "state": "resolved", "message": "x", "actor": "ada"},
]
COLUMNS = ("alert", "state", "message", "actor")


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    """What people see in a terminal of this width; 0: it goes into a pipe."""
    if width:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_rows(ROWS, columns=COLUMNS, as_json=False, empty="none")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    return [line.rstrip() for line in plain.splitlines()]


@pytest.mark.parametrize("width", [0, 130])
def test_with_room_there_is_a_line_a_row(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    header, first, second = printed(capsys, monkeypatch, width)
    assert header.split() == list(COLUMNS)
    assert first.startswith(f"{ALERT}  raised")
    assert second.endswith("ada")


def test_into_a_pipe_nothing_is_cut_however_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROWS[0], "message", "word " * 100)
    _, first, _ = printed(capsys, monkeypatch, 0)
    assert first.count("word") == 100


def test_in_a_narrow_terminal_each_row_is_a_block_and_what_is_empty_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(capsys, monkeypatch, 80)
    assert lines == [
        f"alert    {ALERT}",
        "state    raised",
        "message  it has not been heard of for 7 s",
        "",
        "alert    node_resources_cpu",
        "state    resolved",
        "message  x",
        "actor    ada",
    ]
