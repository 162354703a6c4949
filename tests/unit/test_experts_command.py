"""What `mesh experts` shows of one that is left alone for a while."""

import json
from typing import Any

import pytest

from mesh.cli import tables as command
from mesh.cli.options import ReadOptions

ROW = {
    "expert": "solver", "state": "active", "available": True, "ejected_until": None, "ejected_by": None, "price": 2.5,
}  # fmt: skip
OUT = {"ejected_until": "2026-11-22T10:00:45.000000Z", "ejected_by": "breaker_open"}


def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, as_json: bool = False, **more: Any
) -> str:
    async def found(_options: object, _question: object) -> list[dict[str, Any]]:
        return [{**ROW, **more}]

    monkeypatch.setattr(command, "standing", found)
    command.experts(options=ReadOptions(json=as_json))
    return capsys.readouterr().out


def test_an_ejected_one_says_until_when_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "breaker open until 10:00:45" in " ".join(shown(monkeypatch, capsys, **OUT).split())
    assert "ejected until" in " ".join(shown(monkeypatch, capsys, **{**OUT, "ejected_by": "ejected"}).split())
    row = json.loads(shown(monkeypatch, capsys, as_json=True, **OUT))
    assert (row["state"], row["ejected_by"]) == ("active", "breaker_open")


def test_others_are_what_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "active" in shown(monkeypatch, capsys)
    assert "until" not in shown(monkeypatch, capsys, **OUT, state="expired")
    assert "2.5" in shown(monkeypatch, capsys)


def test_one_whose_engine_does_not_answer_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "unavailable" in shown(monkeypatch, capsys, available=False)
    assert "breaker open until" in " ".join(shown(monkeypatch, capsys, available=False, **OUT).split())
    assert "unavailable" not in shown(monkeypatch, capsys, available=False, state="expired")
    row = json.loads(shown(monkeypatch, capsys, as_json=True, available=False))
    assert (row["state"], row["available"]) == ("active", False)
