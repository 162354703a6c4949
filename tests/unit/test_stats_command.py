"""What `mesh stats` shows of nothing, and of something."""

from typing import Any

import pytest

from mesh.cli import stats as command
from mesh.cli.options import ReadOptions

NOTHING: dict[str, Any] = dict.fromkeys(("completed", "failed", "p50_ms", "p95_ms", "p99_ms")) | {"requests": 0}
SOMETHING = {
    "requests": 12,
    "completed": 9,
    "failed": 1,
    "rejected": 2,
    "cache_hits": 3,
    "in_flight": 0,
    "attempts": 7,
    "fallbacks": 1,
    "p50_ms": 10.0,
    "p95_ms": 20.0,
    "p99_ms": 30.0,
}


def shown(total: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    async def found(_options: object, _question: object) -> dict[str, Any]:
        return {"since": "", "total": total, "domains": [], "experts": []}

    monkeypatch.setattr(command, "projected", found)
    command.stats(hours=2, options=ReadOptions())
    return capsys.readouterr().out


def test_nothing_is_said_to_be_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(NOTHING, capsys, monkeypatch)
    assert "last 2 h  no requests" in out
    assert "No domain is served" in out


def test_the_whole_in_two_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(SOMETHING, capsys, monkeypatch)
    assert "90.0% of 10 answered, p50 10 ms, p95 20 ms, p99 30 ms" in out
    assert "7 attempts, 3 from the cache, 1 fell back, 2 rejected, 0 in flight" in out
