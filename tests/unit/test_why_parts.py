"""What `mesh why` shows of a request that was split."""

import pytest

from mesh.cli import why as command
from mesh.cli.options import ReadOptions
from mesh.experts.explain import Explanation, explain
from tests.kit.asking import Asker, fails, says

pytestmark = pytest.mark.looptime


async def test_each_part_is_shown_with_its_domain_its_expert_or_what_went_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = await Asker().open()
    solver = node.connect(2)
    node.offer(solver, "solver", says("4"), domains=("mathematics",))
    node.offer(node.connect(3), "poet", fails("unavailable", "no ink"))
    outcome = await node.requests.ask({"content": "1. 2 + 2 =\n2. a poem", "split": "always"})
    found = explain(node.id, outcome.request, await node.events())

    def run(_explaining: object) -> Explanation:
        return found

    monkeypatch.setattr(command.asyncio, "run", run)
    monkeypatch.setattr(command, "_explain", lambda *_: None)
    command.why(outcome.request, options=ReadOptions())
    shown = capsys.readouterr().out
    assert f"part 1      mathematics (keywords), 11 characters from 0: solver at …{solver[-8:]}" in shown
    assert "part 2      language (keywords), 9 characters from 11: unavailable, no ink" in shown
    assert "Decision for attempt 1  part 1, first, domain mathematics (keywords)" in shown
    assert "by numbers: 1 mathematics, 2 language" in shown
    assert "for part 2, as of position" in shown


@pytest.mark.parametrize("before", ["", "winners=", "chose ", "peer_lost/"])
def test_peers_are_shortened_wherever_they_stand(before: str) -> None:
    one = "12D3KooWCv5okT26BjnuuxdrNAZ6JX9XFxWC9hFVV9VVKqya9PhQ"
    other = "12D3KooWRDb5Fb1H6j1QdC6egcnta55xxhA9qsKyC21HdVVUa8oC"
    shown = command._shortened(f"{before}{one}/solver and {other}/a, 12D3KooNo", {other: "ada"})
    assert shown == f"{before}…{one[-8:]}/solver and ada …{other[-8:]}/a, 12D3KooNo"
