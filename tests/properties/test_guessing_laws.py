"""Whoever offers what and says what: a guess is left once and on the record, and what the caller named never is."""

import asyncio

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.config import RoutingConfig
from mesh.events.vocabulary.requests import RequestDispatched, RequestFellBack, RequestRouted
from mesh.experts.candidates import RoutingInputs
from mesh.experts.explain import IDENTICAL, explain
from mesh.experts.queries import QueryFailed
from tests.kit.asking import Asker, fails, says

QUESTION = "What is the product of all this?"  # mathematics, by keywords
KINDS = st.sampled_from(["invalid", "", "failed", "unavailable", "overloaded"])
SERVED = st.sampled_from([("mathematics", "language"), ("mathematics",), ("language",), ("coding",)])
EXPERTS = st.lists(st.tuples(st.integers(1, 4), SERVED, KINDS), max_size=4)
CHOICES = st.fixed_dictionaries(
    {
        "domain": st.sampled_from(["auto", "mathematics", "language"]),
        "strategy": st.sampled_from(["best_peer", "local_only", "distributed", "consensus"]),
        "fallback": st.sampled_from(["auto", "on", "off"]),
    }
)


async def asked(
    experts: list[tuple[int, tuple[str, ...], str]], attempts: int, choices: dict[str, str]
) -> tuple[Asker, str, bool]:
    """A node, the request, and whether it has an answer. Peer 1 is the node itself."""
    node = await Asker(config=RoutingConfig(attempts=attempts)).open()
    peers = {number: node.connect(number) for number in (2, 3, 4)}
    for place, (number, domains, kind) in enumerate(experts):
        work = fails(kind) if kind else says("an answer")
        if number == 1:
            node.serve(f"e{place}", work, domains=domains)
        else:
            node.offer(peers[number], f"e{place}", work, domains=domains)
    try:
        return node, (await node.requests.ask({"content": QUESTION, **choices})).request, True
    except QueryFailed as failure:
        return node, failure.request, False


@settings(max_examples=300, deadline=None)
@given(EXPERTS, st.integers(1, 3), CHOICES)
def test_a_guess_is_left_once_and_what_was_named_never(
    experts: list[tuple[int, tuple[str, ...], str]], attempts: int, choices: dict[str, str]
) -> None:
    async def story() -> None:
        node, request, answered = await asked(experts, attempts, choices)
        facts = await node.facts(request)
        assert (await node.outcomes())[request].total() == 1
        left = [fact for fact in facts if isinstance(fact, RequestFellBack) and fact.domain]
        assert len(left) <= (choices["domain"] == "auto" and choices["fallback"] != "off")
        guess = "mathematics" if choices["domain"] == "auto" else choices["domain"]
        after = facts.index(left[0]) if left else len(facts)
        for place, fact in enumerate(facts):
            if isinstance(fact, RequestRouted):
                seen = msgspec.json.decode(fact.inputs, type=RoutingInputs)
                assert seen.domain == (guess if place < after else "language")
                assert (seen.domain_by == "fallback") == (place > after)
        why = explain(node.id, request, await node.events())
        assert {decision.recomputed for decision in why.decisions} == {IDENTICAL}
        sent = [(fact.peer, fact.expert) for fact in facts if isinstance(fact, RequestDispatched)]
        if choices["strategy"] in ("best_peer", "local_only"):
            assert len(set(sent)) == len(sent) <= attempts + 1  # and this node's own, as the last resort
        said = {
            domain: {kind for _, served, kind in experts if domain in served} for domain in ("mathematics", "language")
        }
        if choices["strategy"] == "best_peer" and choices["domain"] == "auto" and choices["fallback"] != "off":
            assert answered or said["mathematics"] or said["language"] != {""}
            assert answered or said["mathematics"] != {"invalid"} or said["language"] != {""} or attempts == 1

    asyncio.run(story())
