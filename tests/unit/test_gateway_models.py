"""Given a journal, what does the name of a model ask for, and what is a client told that names what is not there?"""

import pytest

from mesh.events.envelope import Fact
from mesh.events.vocabulary.experts import ExpertExpired
from mesh.events.vocabulary.network import PeerDisconnected
from mesh.events.vocabulary.node import NodeStarted
from mesh.experts.state import REMEMBERED, fold
from mesh.gateway.models import Catalogue, Choice, choose, names
from mesh.gateway.problems import Problem
from tests.kit.asking import connected, offered
from tests.kit.journals import EPOCH, history

US = "us"
STARTED = NodeStarted(epoch=2, name="us", release="1", resumed_from=0, clean=True)


def catalogue(*facts: Fact) -> Catalogue:
    """The facts are a second apart; the first is at EPOCH + 1."""
    state = fold(US, history(US, [connected("a"), *facts]))
    return Catalogue(state.offers, state.withdrawn)


def refusal(model: str, of: Catalogue, after_s: float) -> Problem:
    with pytest.raises(Problem) as raised:
        choose(model, of, EPOCH + after_s)
    return raised.value


def test_a_model_is_an_expert_a_domain_or_whatever_fits() -> None:
    there = catalogue(offered("a", "poet", domains=("language",)))
    assert names(there.offers) == ["mesh/auto", "mesh/language", "poet"]
    assert choose("poet", there, EPOCH) == Choice("poet", "")
    assert choose("mesh/language", there, EPOCH) == Choice("", "language")
    assert choose("mesh/auto", catalogue(), EPOCH) == Choice("", "")


GONE = {
    "its node is not connected": (PeerDisconnected(peer="a", connection="c", reason="lost", lasted_s=1.0),),
    "it was not renewed": (),
    "this node started again": (STARTED,),
}


@pytest.mark.parametrize("model", ["poet", "mesh/language"])
@pytest.mark.parametrize("how", GONE)
def test_of_what_was_there_a_moment_ago_a_client_hears_to_try_again(how: str, model: str) -> None:
    facts = GONE[how]
    withdrawn = [] if how == "this node started again" else [ExpertExpired(peer="a", expert="poet", reason=how)]
    gone = catalogue(offered("a", "poet", domains=("language",)), *facts, *withdrawn)
    at = 2 + len(facts) + len(withdrawn)
    problem = refusal(model, gone, at + 30)
    assert (problem.status, problem.code, problem.headers()) == (503, "no_candidates", {"retry-after": "2"})
    assert "until 30 s ago" in problem.message
    assert refusal(model, gone, at + 599).status == 503
    assert refusal(model, gone, at + 601).status == 404


def test_what_was_never_offered_does_not_exist() -> None:
    there = catalogue(offered("a", "poet", domains=("language",)))
    for model in ("poets", "mesh/poetry", ""):
        problem = refusal(model, there, 0)
        assert (problem.status, problem.code) == (404, "model_not_found")
    assert refusal("poets", there, 0).message.endswith("Did you mean poet? GET /v1/models has all 3.")
    assert "There are mesh/auto, mesh/language, poet." in refusal("q", there, 0).message


def test_who_offers_it_still_is_asked() -> None:
    both = [offered(peer, "poet", domains=("language",)) for peer in ("a", "b")]
    there = catalogue(*both, ExpertExpired(peer="a", expert="poet", reason="withdrawn"))
    assert choose("poet", there, EPOCH + 5) == Choice("poet", "")


def test_two_of_one_name_that_go_away_take_both_their_domains_with_them_for_a_while() -> None:
    gone = catalogue(
        offered("a", "helper", domains=("language",)), offered("b", "helper", domains=("coding",)), STARTED
    )
    for model in ("helper", "mesh/language", "mesh/coding"):
        assert refusal(model, gone, 30).status == 503


def test_the_longest_gone_are_forgotten() -> None:
    facts: list[Fact] = []
    for number in range(REMEMBERED + 1):
        facts.append(offered("a", f"e{number}"))
        facts.append(ExpertExpired(peer="a", expert=f"e{number}", reason="withdrawn"))
    gone = catalogue(*facts)
    assert len(gone.withdrawn) == REMEMBERED
    assert "a/e0" not in gone.withdrawn
    assert "a/e1" in gone.withdrawn
