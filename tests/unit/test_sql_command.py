"""What `mesh sql` prints: the stored values under the columns' own names, by position."""

import json
from typing import Any

import pytest

from mesh.cli import sql as command
from mesh.cli.options import ReadOptions
from mesh.projections.by_name import NamedTwice

PEER = "12D3KooWCv5okT26BjnuuxdrNAZ6JX9XFxWC9hFVV9VVKqya9PhQ"
TIME = "2026-05-04T03:02:01.123456Z"


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch):
    """Has the tables answer with these columns and rows."""

    def answer(columns: list[str], *rows: tuple[Any, ...]) -> None:
        async def found(_options: object, _question: object) -> tuple[list[str], list[tuple[Any, ...]]]:
            return columns, list(rows)

        monkeypatch.setattr(command, "projected", found)

    return answer


def printed(capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> list[list[str]]:
    command.sql("SELECT …", options=ReadOptions(json=as_json))
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_columns_of_one_name_have_each_its_value(answered, capsys: pytest.CaptureFixture[str]) -> None:
    answered(["a", "a"], (1, 2))
    assert printed(capsys) == [["a", "a"], ["1", "2"]]


@pytest.mark.parametrize("rows", [[], [(1, 2, 3)]])
def test_as_json_they_are_refused(answered, rows: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    answered(["b", "a", "a"], *rows)
    with pytest.raises(NamedTwice, match=r"two columns .* named 'a'\. Give one of them an alias with AS\."):
        printed(capsys, as_json=True)
    assert capsys.readouterr().out == ""


def test_what_is_stored_is_printed_as_it_is(answered, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["target", "since_at", "throughput_bytes_s", "address", "latency_ms", "count", "parts", "blob"]
    values = (PEER, TIME, 0.123456789, f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}", -1.0, 12345.678, '["a"]', b"\x00\xff")
    answered(names, values)
    head, row = printed(capsys)
    assert head == names
    assert row == [*map(str, values[:-1]), "X'00FF'"]


def test_null_is_told_from_nothing_and_a_dash(answered, capsys: pytest.CaptureFixture[str]) -> None:
    answered(["a", "b", "c", "[x]"], (None, "", "–", "[y]"))
    assert printed(capsys) == [["a", "b", "c", "[x]"], ["NULL", "–", "[y]"]]


def test_json_has_names_and_values(answered, capsys: pytest.CaptureFixture[str]) -> None:
    answered(["a", "peer"], (0.123456789, PEER), (None, ""))
    command.sql("SELECT …", options=ReadOptions(json=True))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"a": 0.123456789, "peer": PEER}, {"a": None, "peer": ""}]
