"""Experts that are found: who is taken in, who is let go, and what services say of themselves."""

import pytest

from mesh.config import ExpertConfig
from mesh.events.broker import BrokerAddress
from mesh.experts.backends.nats_services import recruits
from mesh.experts.recruiting import MISSED, Recruit, Roll, expert_name

ADDRESS = BrokerAddress("nats://127.0.0.1:4222", "recruiter", "secret")


def recruit(name: str, identity: str = "1") -> Recruit:
    config = ExpertConfig(name=name, backend="nats", domains=["language"])
    return Recruit(config, identity, lambda: pytest.fail("nobody asked for it"))


def names(change) -> tuple[list[str], list[str]]:
    return list(change.leave), [each.config.name for each in change.come]


def service(name: str = "poet", **metadata: str) -> dict:
    given = {"mesh.domains": "language", **{f"mesh.{key}": value for key, value in metadata.items()}}
    endpoints = [{"name": "answer", "subject": f"{name}.answer"}]
    return {"name": name, "id": "A", "version": "1.2.0", "metadata": given, "endpoints": endpoints}


def test_who_is_there_comes_once_and_who_is_missed_twice_goes():
    roll = Roll()
    assert names(roll.seen([recruit("a"), recruit("b")], frozenset())) == ([], ["a", "b"])
    assert names(roll.seen([recruit("a"), recruit("b")], frozenset())) == ([], [])
    for _ in range(MISSED - 1):
        assert names(roll.seen([recruit("b")], frozenset())) == ([], [])
    assert names(roll.seen([recruit("b")], frozenset())) == (["a"], [])
    assert names(roll.seen([recruit("a"), recruit("b")], frozenset())) == ([], ["a"])


def test_who_is_back_in_time_was_not_missed():
    roll = Roll()
    roll.seen([recruit("a")], frozenset())
    for _ in range(3):
        assert names(roll.seen([], frozenset())) == ([], [])
        assert names(roll.seen([recruit("a")], frozenset())) == ([], [])


def test_who_changed_goes_and_comes():
    roll = Roll()
    roll.seen([recruit("a", "1")], frozenset())
    assert names(roll.seen([recruit("a", "2")], frozenset())) == (["a"], ["a"])
    assert names(roll.seen([recruit("a", "2")], frozenset())) == ([], [])


def test_a_name_that_another_has_is_not_taken_until_it_is_free():
    roll = Roll()
    assert names(roll.seen([recruit("solver")], frozenset({"solver"}))) == ([], [])
    assert names(roll.seen([recruit("solver")], frozenset())) == ([], ["solver"])


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("ollama", "llama3.2:3b"), "ollama.llama3.2-3b"),
        (("vllm", "Qwen/Qwen3-8B"), "vllm.qwen-qwen3-8b"),
        (("Kit_Worker",), "kit_worker"),
        (("ä",), "unnamed"),
        (("x" * 100,), "x" * 64),
    ],
)
def test_names_of_others_become_names_of_experts(parts: tuple[str, ...], name: str):
    assert expert_name(*parts) == name
    assert ExpertConfig(name=name, backend="nats", domains=["language"]).name == name


def test_a_service_says_what_it_is():
    (found,) = recruits([service(domains="coding, language", concurrency="8", quality="0.9", features="chat")], ADDRESS)
    assert (found.config.name, found.config.domains) == ("poet", ["coding", "language"])
    assert (found.config.concurrency, found.config.quality) == (8, 0.9)
    backend = found.make()
    assert (backend.model, backend.features) == ("poet 1.2.0", ("chat",))


def test_instances_of_a_service_are_one_expert_whose_capacity_is_theirs():
    two = [service(concurrency="2"), {**service(concurrency="3"), "id": "B"}]
    (found,) = recruits(two, ADDRESS)
    assert found.config.concurrency == 5
    (other,) = recruits(two[::-1], ADDRESS)
    assert other.identity == found.identity
    (fewer,) = recruits(two[:1], ADDRESS)
    assert fewer.identity != found.identity


@pytest.mark.parametrize(
    "bent",
    [
        {},
        {"name": "poet"},
        {**service(), "metadata": None},
        {**service(), "metadata": {"other": "x"}},
        {**service(), "name": "po et"},
        {**service(), "name": 7},
        {**service(), "endpoints": []},
        {**service(), "endpoints": "none"},
        {**service(), "endpoints": [{"subject": "a.>"}]},
        {**service(), "endpoints": [{"subject": "a b\r\nPUB x 0"}]},
        service(domains="Not A Domain!"),
        service(domains=""),
        service(concurrency="many"),
        service(concurrency="-4"),
        service(quality="nan"),
        service(quality="7"),
    ],
)
def test_what_no_expert_can_be_made_of_is_left_out_and_harms_nobody(bent: dict):
    assert [each.config.name for each in recruits([bent, service("other")], ADDRESS)] == ["other"]


def test_the_endpoint_with_domains_of_its_own_is_asked():
    info = service()
    info["endpoints"].append({"subject": "poet.verse", "metadata": {"mesh.domains": "poetry"}})
    (found,) = recruits([info], ADDRESS)
    assert found.make()._options.subject == "poet.verse"
