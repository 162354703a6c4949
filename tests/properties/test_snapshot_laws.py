"""A live state that was put away anywhere and taken up again is, byte for byte, the one that folded everything."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.events import records
from mesh.config import ShareConfig
from mesh.events.codec import decode
from mesh.events.envelope import Event
from mesh.events.live_state import LiveState
from mesh.events.vocabulary.requests import RequestRouted
from mesh.experts.explain import IDENTICAL, Explainer, compare, explain
from mesh.experts.state import RoutingState
from mesh.health.state import HealthState
from mesh.history import NodeHistory
from mesh.p2p.access_state import AccessState
from mesh.p2p.peer_book import PeerBook
from mesh.p2p.sharing.feeds import FeedBook
from mesh.p2p.sharing.policy import Policy
from tests.properties.test_routing_laws import SCRIPT, US, play

EVENTS = 600


def blank(own: str) -> dict[str, LiveState]:
    """The live states of a node, as `mesh.node` makes them."""
    return {
        "peers": PeerBook(own),
        "history": NodeHistory(own),
        "routing": RoutingState(own),
        "health": HealthState(node=own, window=5),
        "feeds": FeedBook(own, Policy(own, ShareConfig())),
        "access": AccessState(own),
    }


def folded(states: dict[str, LiveState], events: list[Event]) -> dict[str, LiveState]:
    for event in events:
        for state in states.values():
            state.apply(event)
    return states


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, EVENTS), min_size=1, max_size=3))
def test_any_cut_of_a_mixed_journal_gives_the_same_states(seed: int, cuts: list[int]) -> None:
    events = [decode(record) for record in records(EVENTS, seed, peers=5, restarts=1.0)]
    own = events[0].origin
    whole = folded(blank(own), events)
    states, done = blank(own), 0
    for cut in sorted(cuts):
        before = folded(states, events[done:cut])
        states, done = blank(own), cut
        for name, state in states.items():
            state.take_up(before[name].saved())
    after = folded(states, events[done:])
    assert {name: state.saved() for name, state in after.items()} == {
        name: state.saved() for name, state in whole.items()
    }


@given(SCRIPT, st.integers(0, 60))
def test_every_decision_after_a_cut_is_recomputed_to_the_byte(script: list[Any], cut: int) -> None:
    events = play(script)
    before, state = RoutingState(US), RoutingState(US)
    for event in events[:cut]:
        before.apply(event)
    state.take_up(before.saved())
    for event in events[cut:]:
        if isinstance(event.fact, RequestRouted):
            assert compare(state, event.fact) == IDENTICAL
        state.apply(event)


@given(SCRIPT, st.integers(0, 60))
def test_an_explanation_is_the_same_from_any_snapshot_before_the_request(script: list[Any], cut: int) -> None:
    events = play(script)
    state = RoutingState(US)
    for event in events[:cut]:
        state.apply(event)
    asked_before = {event.correlation for event in events[:cut]}
    for request in {event.correlation for event in events[cut:]} - asked_before - {""}:
        taken_up = RoutingState(US)
        taken_up.take_up(state.saved())
        explainer = Explainer(US, request, taken_up)
        for event in events[cut:]:
            explainer.feed(event)
        assert explainer.result() == explain(US, request, events)
