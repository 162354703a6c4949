"""Five real nodes, one of which lies: it wins nothing, is outvoted on the record, caught by canaries, trusted less.

The same nodes find a domain of the operator's own by embedding, agree by meaning, answer a question part by part,
choose by each policy, and hardly notice that one of them is slow.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import httpx
import pytest

from benchmarks.peer_trouble import TIMES, WELL, Asked, asked
from mesh import Mesh, Outcome, RequestFailed
from mesh.config import PolicyName
from mesh.demo.nodes import NodeProcess, until
from tests.kit.cli import mesh
from tests.kit.nodes import config, offered, python_expert, running_node, tables

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # five nodes, and all that they can
ASKED = 12
SLOW = "slow"
ROUND, ROUNDS, PER_S = 100, 8, 40.0
MARS = "How far away is the planet Mars?"
ASKER = """
[routing]
canary_interval_s = 0.5
[[routing.canaries]]
question = "41"
expected = "42"
domain = "sums"
[domains.astronomy]
examples = ["How far is the moon?", "When is the next solar eclipse?", "What is a neutron star?"]
"""


@dataclass
class Place:
    asker: NodeProcess
    liar: str
    client: Mesh

    async def why(self, request: str) -> dict:
        return json.loads((await mesh(self.asker.home.root, "why", request, "--json")).output)


@asynccontextmanager
async def five(root: Path) -> AsyncIterator[Place]:
    kinds = {"liar": ("liar", "crank", SLOW)}
    kinds |= dict.fromkeys(("second", "third", "fourth"), ("honest", "astronomer", WELL))
    async with AsyncExitStack() as stack:

        async def voter(name: str, counts: str, gazes: str, pace: str) -> NodeProcess:
            sums = python_expert("sums", f"tests/kit/voters.py:{counts}", "sums")
            stars = python_expert("stars", f"tests/kit/voters.py:{gazes}", "astronomy")
            return await stack.enter_async_context(running_node(root, name, config(name, sums, stars, *paced(pace))))

        nodes = await asyncio.gather(*(voter(name, *kind) for name, kind in kinds.items()))
        addresses = [(await node.status()).addresses[0] for node in nodes]
        asker = await stack.enter_async_context(
            running_node(root, "asker", config("asker", *paced(WELL), peers=addresses, extra=ASKER))
        )
        await offered(asker, 18)
        client = await stack.enter_async_context(Mesh.connect(asker.home.root))
        yield Place(asker, (await nodes[0].status()).peer_id, client)


def paced(pace: str) -> list[str]:
    """An expert of a domain where all are well, and one of a domain where one is slow."""
    experts = "benchmarks.uneven_experts"
    return [python_expert(WELL, f"{experts}:{WELL}", WELL), python_expert(SLOW, f"{experts}:{pace}", SLOW)]


async def the_liar_is_outvoted(place: Place) -> None:
    for number in range(ASKED):
        outcome = await place.client.ask(str(number), domain="sums", strategy="consensus", faults=1)
        assert outcome.text.strip() in (str(number + 1), f"The answer is {number + 1}.")
        assert place.liar not in outcome.peers
        assert outcome.count is not None
        assert (outcome.count.support, outcome.count.quorum) == (3, 3)
    why = await place.why(outcome.request)
    assert {decision["recomputed"] for decision in why["decisions"]} == {"identical"}
    async with tables(place.asker) as found:
        await found.wait_for((await place.asker.status()).stored_position, timeout=60)
        _, rows = await found.sql("SELECT consensus FROM requests WHERE strategy = 'consensus'")
    assert all(json.loads(row[0])["faults"] in (0, 1) for row in rows if row[0])


async def canaries_catch_the_liar_and_nobody_else(place: Place) -> None:
    seen: dict[str, set[str]] = {}

    async def both_were_asked() -> bool:
        only = ("--only", "request.canary_checked", "--after", "0", "--no-follow", "--json")
        lines = (await mesh(place.asker.home.root, "events", "tail", *only)).output.splitlines()
        for fact in (json.loads(line)["event"]["data"] for line in lines):
            seen.setdefault(fact["outcome"], set()).add(fact["peer"])
        return bool(seen.get("failed") and seen.get("passed"))

    await until(both_were_asked, within=90, what="no canary found the liar")
    assert seen["failed"] == {place.liar}
    assert place.liar not in seen["passed"]


async def by_embedding(place: Place, **choices: object) -> Outcome:
    """Asked until the embedding is loaded: before that, keywords decide, and they know of no astronomy."""
    found: list[Outcome] = []

    async def answered() -> bool:
        try:
            found.append(await place.client.ask(MARS, **choices))  # type: ignore[arg-type]
        except RequestFailed as failure:
            if failure.kind != "no_candidates":
                raise
        return bool(found)

    await until(answered, within=120, what="nothing was classified by embedding")
    return found[0]


async def a_domain_of_ones_own_is_found_by_embedding_and_agreed_on_by_meaning(place: Place) -> None:
    outcome = await by_embedding(place, strategy="consensus", faults=1, agreement="semantic")
    assert outcome.domain == "astronomy"
    assert "far from the sun" in outcome.text
    assert place.liar not in outcome.peers
    assert outcome.count is not None
    assert (outcome.count.agreement, outcome.count.threshold, outcome.count.note) == ("semantic", 0.9, "")
    assert min(vote.similarity for vote in outcome.votes if vote.agrees) >= 0.9
    async with tables(place.asker) as found:
        await found.wait_for((await place.asker.status()).stored_position, timeout=60)
        row = await found.request(outcome.request)
    assert row is not None
    scores = json.loads(row["domain_scores"])
    assert max(scores, key=scores.__getitem__) == "astronomy"


async def parts_go_to_experts_of_their_domains(place: Place) -> None:
    lost = {"content": "Whom will I marry?", "domain": "astrology"}
    outcome = await place.client.ask(parts=[{"content": "41", "domain": "sums"}, MARS, lost])
    assert [(end.domain, end.expert, end.error) for end in outcome.parts] == [
        ("sums", "sums", ""),
        ("astronomy", "stars", ""),
        ("astrology", "", "no_candidates"),
    ]
    assert all(outcome.text.count(f"\n## {number}. ") for number in (2, 3))
    why = await place.why(outcome.request)
    assert [(part["domain"], part["by"]) for part in why["parts"]][:2] == [
        ("sums", "caller"),
        ("astronomy", "embedding"),
    ]
    assert {(decision["part"], decision["recomputed"]) for decision in why["decisions"]} == {
        (part, "identical") for part in (1, 2, 3)
    }
    async with tables(place.asker) as found:
        await found.wait_for((await place.asker.status()).stored_position, timeout=60)
        row = await found.request(outcome.request)
    assert row is not None
    assert [end["error"] for end in json.loads(row["parts"])] == ["", "", "no_candidates"]
    assert {(made["part"], made["purpose"]) for made in row["attempts_made"]} >= {(1, "first"), (2, "first")}


async def a_client_of_the_gateway_may_have_its_question_split(place: Place) -> None:
    body = {
        "model": "mesh/astronomy",
        "messages": [{"role": "user", "content": f"1. {MARS}\n2. What kind of planet is it?"}],
        "mesh": {"split": "always"},
    }
    url = (await place.asker.status()).gateway_url
    async with httpx.AsyncClient(timeout=60) as client:
        answer = (await client.post(f"{url}/v1/chat/completions", json=body)).json()
    assert [part["expert"] for part in answer["mesh"]["parts"]] == ["stars", "stars"]
    assert answer["choices"][0]["message"]["content"].startswith(f"## 1. {MARS} (astronomy, stars at ")


async def chosen_by(place: Place, policy: str) -> str:
    """The peer that a policy chose first for the next question of its conversation."""
    outcome = await place.client.ask("where to?", domain=WELL, policy=policy, conversation=policy)
    decisions = (await place.why(outcome.request))["decisions"]
    assert {(decision["policy"], decision["recomputed"]) for decision in decisions} == {(policy, "identical")}
    return str(decisions[0]["chosen"][0]["peer"])


async def every_policy_chooses_and_its_choices_can_be_made_again(place: Place) -> None:
    for policy in get_args(PolicyName):
        assert await chosen_by(place, policy)
    assert len({await chosen_by(place, "sticky") for _ in range(3)}) == 1
    assert len({await chosen_by(place, "round_robin") for _ in range(3)}) > 1


async def that_one_is_slow_is_hardly_felt(place: Place, trouble: Path) -> None:
    """Asked at the same time as where all are well: what else the machine does is felt by both."""
    domains, here = (WELL, SLOW), Asked((WELL, SLOW))
    await asked(place.client, trouble, domains, ROUND, PER_S)
    trouble.touch()
    for number in range(ROUNDS):  # chance may have a say in some of them
        here.add(await asked(place.client, trouble, domains, ROUND, PER_S))
        print(f"p99 {here.p99_ms(WELL):.0f} ms where all are well, {here.p99_ms(SLOW):.0f} ms where one is slow")
        if number and here.p99_ms(SLOW) <= TIMES * here.p99_ms(WELL):
            break
    assert here.p99_ms(SLOW) <= TIMES * here.p99_ms(WELL)
    assert here.failed == {WELL: 0, SLOW: 0}


async def test_one_liar_of_four_wins_nothing_in_a_mesh_of_five(tmp_path: Path) -> None:
    async with five(tmp_path) as place:
        await the_liar_is_outvoted(place)
        await a_domain_of_ones_own_is_found_by_embedding_and_agreed_on_by_meaning(place)
        await parts_go_to_experts_of_their_domains(place)
        await a_client_of_the_gateway_may_have_its_question_split(place)
        await canaries_catch_the_liar_and_nobody_else(place)
        await every_policy_chooses_and_its_choices_can_be_made_again(place)
        await that_one_is_slow_is_hardly_felt(place, tmp_path / "trouble")
