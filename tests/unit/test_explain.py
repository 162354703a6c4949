"""Why a request went where it went."""

import re

import msgspec
import pytest

from mesh.events.vocabulary.network import PeerGreeted
from mesh.events.vocabulary.requests import RequestRouted
from mesh.experts.explain import IDENTICAL, explain, recompute
from mesh.experts.queries import Query, QueryFailed
from tests.kit.asking import Asker, fails, hangs, says

pytestmark = pytest.mark.looptime


async def failed_over() -> tuple[Asker, str, list[str]]:
    node = await Asker().open()
    peers = [node.connect(number) for number in (2, 3, 4)]
    node.offer(peers[0], "a", fails("failed"), quality=1.0)
    node.offer(peers[1], "a", says("fine"), in_flight=60)
    node.offer(peers[2], "a", hangs())
    node.lose(peers[2])
    outcome = await node.requests.ask(Query(content="hi", domain="language"))
    return node, outcome.request, peers


async def test_a_failed_over_request_is_explained_whole() -> None:
    node, request, peers = await failed_over()
    await node.requests.ask(Query(content="another", domain="language"))
    explanation = explain(node.id, request, await node.events())
    first, second = explanation.decisions
    assert (first.recomputed, second.recomputed) == (IDENTICAL, IDENTICAL)
    assert [option.candidate.peer for option in first.options] == [peers[0], peers[1]]
    assert [option.chosen for option in first.options] == [True, False]
    assert first.options[0].score < first.options[1].score
    assert {one.peer: one.reason for one in first.excluded} == {peers[2]: "not_connected"}
    assert {one.peer: one.reason for one in second.excluded} == {peers[0]: "already_tried", peers[2]: "not_connected"}
    assert [step.fact.removeprefix("request.") for step in explanation.timeline] == await node.story(request)
    assert explanation.failures == (f"{peers[0]}/a: failed",)
    assert msgspec.json.decode(msgspec.json.encode(explanation))["decisions"][0]["recomputed"] == IDENTICAL


async def test_peers_are_shown_with_the_names_they_gave() -> None:
    node, request, peers = await failed_over()
    for number, peer in enumerate((*peers, "a stranger")):
        greeted = PeerGreeted(peer=peer, name=f"node {number}", role="node", protocol_version=1)
        node.journal.emit(greeted, subject=peer)
    names = explain(node.id, request, await node.events()).names
    assert {peer: names[peer] for peer in peers} == {peer: f"node {number}" for number, peer in enumerate(peers)}
    assert "a stranger" not in names


async def test_a_consensus_is_explained_with_its_votes() -> None:
    node = await Asker().open()
    for number, text in ((2, "4"), (3, "5"), (4, "6")):
        node.offer(node.connect(number), "a", says(text))
    with pytest.raises(QueryFailed) as failure:
        await node.requests.ask(Query(content="2+2", domain="language", strategy="consensus"))
    explanation = explain(node.id, failure.value.request, await node.events())
    assert len(explanation.votes) >= 2


async def test_what_happened_is_told_for_people_and_whole() -> None:
    node = await Asker().open()
    peers = [node.connect(number) for number in range(2, 7)]
    for peer in peers:
        node.offer(peer, "a", says("4"))
    outcome = await node.requests.ask(Query(content="2+2", domain="language", strategy="consensus"))
    explanation = explain(node.id, outcome.request, await node.events())
    texts = {step.fact: step.text for step in explanation.timeline}
    said = texts["request.completed"]
    winners = re.search(r"winners=([^,]*)", said)
    assert winners
    assert {winner.partition("/")[0] for winner in winners[1].split(" and ")} <= set(peers)
    assert len(winners[1].split(" and ")) > 1
    assert not [text for text in texts.values() if re.search(r"[(\[{]['\"]|\w+\(\w+=|=(True|False|None)\b", text)]
    assert [text for text in texts.values() if len(text) > 400] == []


async def test_a_request_that_the_journal_does_not_know() -> None:
    node, _, _ = await failed_over()
    with pytest.raises(LookupError, match="'nothing'"):
        explain(node.id, "nothing", await node.events())


async def test_a_past_that_was_changed_shows() -> None:
    node, request, peers = await failed_over()
    events = await node.events()
    routed = next(event.fact for event in events if isinstance(event.fact, RequestRouted))
    assert recompute(events, routed) == IDENTICAL
    without = [event for event in events if getattr(event.fact, "peer", "") != peers[1]]
    assert recompute(without, routed).startswith("different from byte")
    forged = msgspec.structs.replace(
        routed, decision=msgspec.Raw(bytes(routed.decision).replace(peers[0].encode(), peers[1].encode()))
    )
    assert recompute(events, forged).startswith("different from byte")
    assert explain(node.id, request, events).decisions[0].recomputed == IDENTICAL


async def test_another_version_of_a_policy_is_not_compared() -> None:
    node, _, _ = await failed_over()
    events = await node.events()
    routed = next(event.fact for event in events if isinstance(event.fact, RequestRouted))
    older = bytes(routed.inputs).replace(b'"policy_version":3', b'"policy_version":1')
    fact = msgspec.structs.replace(routed, inputs=msgspec.Raw(older))
    assert recompute(events, fact) == "not comparable: p2c_peak_ewma was version 1 then and is 3 now"
