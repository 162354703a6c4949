"""What a journal keeps of texts: nothing, everything, or ciphertext whose key can be erased."""

import asyncio
from typing import Any

import pytest

from mesh.config import ContentConfig, ContentPolicy, RoutingConfig
from mesh.events.vocabulary.requests import (
    RequestAttemptFailed,
    RequestCompleted,
    RequestFailed,
    RequestForgotten,
    RequestReceived,
    RequestRejected,
    RequestServed,
)
from mesh.experts.answers import digest
from mesh.experts.calls import AttemptFailed, Call
from mesh.experts.content import (
    MAX_KEPT_BYTES,
    WITHHELD,
    ContentUnreadable,
    keyed_digest,
    repeats,
    seal,
    strictest,
    unseal,
)
from mesh.experts.content_keys import ContentKey, MemoryContentKeys
from mesh.experts.forgetting import Forgetter
from mesh.experts.keeping import ContentKeeper
from mesh.experts.queries import QueryFailed, QueryRejected
from mesh.experts.recovery import recover
from tests.kit.asking import Asker, fails, says
from tests.kit.hosting import CALLER, NODE, hosting
from tests.kit.loop_clock import LoopClock

pytestmark = pytest.mark.looptime
SECRET = "the password of the vault is swordfish-4711"
ANSWER = "I shall tell nobody about swordfish-4711"
KEY, NONCE = bytes(range(32)), bytes(24)


class Node:
    """An asker with one expert and keys of its own."""

    def __init__(self, routing: RoutingConfig, content: ContentConfig) -> None:
        self.asker = Asker(config=routing)
        self.keys = MemoryContentKeys()
        self.asker.requests._content = ContentKeeper(routing, content, self.keys, self.asker.clock)

    async def ask(self, **query: Any) -> tuple[RequestReceived, RequestCompleted, str]:
        outcome = await self.asker.requests.ask({"content": SECRET, "domain": "language", **query})
        received, *_, completed = await self.asker.facts(outcome.request)
        assert isinstance(received, RequestReceived)
        assert isinstance(completed, RequestCompleted)
        return received, completed, outcome.request

    def bytes(self) -> bytes:
        return b"".join(record.payload for record in self.asker.store.records)


async def node(policy: ContentPolicy, work: Any = None, **content: Any) -> Node:
    made = Node(RoutingConfig(content=policy), ContentConfig(**content))
    await made.asker.open()
    made.asker.serve("own", work or says(ANSWER), domains=("language", "coding"))
    return made


# -- pure ---------------------------------------------------------------------------------------------------------


def test_the_strictest_keeps_least() -> None:
    assert strictest("full", "sealed") == "sealed"
    assert strictest("digest", "sealed", "full") == "digest"


def test_sealed_text_opens_with_its_key_request_and_part_alone() -> None:
    sealed = seal("tëxt", KEY, NONCE, request="r", part="content")
    assert unseal(sealed, KEY, request="r", part="content") == "tëxt"
    for key, request, part in ((bytes(32), "r", "content"), (KEY, "s", "content"), (KEY, "r", "answer")):
        with pytest.raises(ContentUnreadable):
            unseal(sealed, key, request=request, part=part)
    for changed in ("", "x", "AAAA", sealed[:-4], "B" + sealed[1:], sealed + "AAAA"):
        with pytest.raises(ContentUnreadable):
            unseal(changed, KEY, request="r", part="content")


def test_a_keyed_digest_is_that_of_nobody_who_lacks_the_key() -> None:
    assert keyed_digest("a", KEY) == keyed_digest("a", KEY) != keyed_digest("b", KEY)
    assert keyed_digest("a", KEY) not in (keyed_digest("a", bytes(32)), digest("a"))


@pytest.mark.parametrize(
    ("message", "text", "found"),
    [
        ("cannot parse 'the password of the vault'", SECRET, True),
        ("x" * 7 + SECRET[5:20], SECRET, True),
        ("x" * 7 + SECRET[5:19] + "!", SECRET, False),
        ("swordfish is no word", SECRET, False),
        ("cannot parse 'pass-4711'", "pass-4711", True),
        ("cannot parse 'it'", "it", False),
        ("", SECRET, False),
        ("anything", "", False),
    ],
)
def test_a_message_that_repeats_the_text_is_noticed(message: str, text: str, found: bool) -> None:
    assert repeats(message, text) is found


# -- requests -----------------------------------------------------------------------------------------------------


async def test_under_digest_nothing_of_the_text_is_in_the_journal() -> None:
    one = await node("digest")
    received, completed, _ = await one.ask()
    assert (received.kept, received.content, received.sealed) == ("digest", "", "")
    assert received.content_digest == digest(SECRET)
    assert (completed.answer, completed.sealed) == ("", "")
    assert b"swordfish" not in one.bytes()


async def test_under_full_the_texts_are_there() -> None:
    received, completed, _ = await (await node("full")).ask()
    assert (received.kept, received.content, completed.answer) == ("full", SECRET, ANSWER)
    assert (received.sealed, completed.sealed) == ("", "")


async def test_under_sealed_the_texts_are_readable_with_the_key_alone() -> None:
    one = await node("sealed")
    received, completed, request = await one.ask(caller="ann")
    assert (received.kept, received.content, completed.answer) == ("sealed", "", "")
    assert b"swordfish" not in one.bytes()
    (key,) = one.keys.find(request)
    assert key.caller == "ann"
    assert unseal(received.sealed, key.key, request=request, part="content") == SECRET
    assert unseal(completed.sealed, key.key, request=request, part="answer") == ANSWER
    assert received.content_digest == keyed_digest(SECRET, key.key)


async def test_every_request_has_a_key_of_its_own() -> None:
    one = await node("sealed")
    requests = [(await one.ask())[2] for _ in range(3)]
    assert len({one.keys.find(request)[0].key for request in requests}) == 3


@pytest.mark.parametrize(
    ("default", "domains", "domain", "keep", "expected"),
    [
        ("full", {"coding": "sealed"}, "coding", None, "sealed"),
        ("full", {"coding": "sealed"}, "language", None, "full"),
        ("digest", {"coding": "full"}, "coding", None, "full"),
        ("full", {}, "language", "sealed", "sealed"),
        ("full", {}, "language", "digest", "digest"),
        ("sealed", {}, "language", "full", "sealed"),
        ("digest", {"coding": "full"}, "auto", None, "digest"),
        ("full", {"coding": "sealed"}, "auto", None, "sealed"),
    ],
)
async def test_a_domain_has_its_policy_and_a_caller_makes_it_only_stricter(
    default: ContentPolicy, domains: dict[str, Any], domain: str, keep: ContentPolicy | None, expected: str
) -> None:
    keeper = ContentKeeper(
        RoutingConfig(content=default, domains={name: {"content": policy} for name, policy in domains.items()}),
        ContentConfig(),
        MemoryContentKeys(),
        LoopClock(),
    )
    assert keeper.policy(domain, keep) == expected


async def test_the_callers_wish_travels_to_the_serving_node() -> None:
    one = await node("full")
    received, _, _ = await one.ask(keep="digest")
    assert received.kept == "digest"
    assert one.asker.experts[one.asker.id, "own"].asked[-1].keep == "digest"


async def test_a_text_that_is_too_long_leaves_its_digest() -> None:
    one = await node("sealed", says("x" * (MAX_KEPT_BYTES + 1)))
    received, completed, _ = await one.ask()
    assert received.sealed
    assert completed.sealed == ""
    assert completed.answer_bytes == MAX_KEPT_BYTES + 1


async def test_without_room_for_a_key_only_digests_are_kept() -> None:
    class Full(MemoryContentKeys):
        def keep(self, key: ContentKey) -> None:
            raise OSError("no space left on device")

    one = await node("sealed")
    one.asker.requests._content._keys = Full()
    received, completed, _ = await one.ask()
    assert (received.kept, received.sealed, completed.sealed) == ("digest", "", "")


@pytest.mark.parametrize("policy", ["digest", "sealed"])
async def test_the_words_of_a_failing_expert_do_not_bring_the_text_back(policy: ContentPolicy) -> None:
    one = await node(policy, fails("invalid", f"cannot do {SECRET!r}"))
    with pytest.raises(QueryFailed, match="swordfish"):
        await one.ask()
    facts = await one.asker.facts("request-1")
    failed = [fact for fact in facts if isinstance(fact, RequestAttemptFailed | RequestFailed)]
    assert [fact.message for fact in failed] == [WITHHELD, WITHHELD]
    assert b"swordfish" not in one.bytes()


async def test_under_full_the_experts_words_are_kept() -> None:
    one = await node("full", fails("invalid", f"cannot do {SECRET!r}"))
    with pytest.raises(QueryFailed):
        await one.ask()
    assert "swordfish" in (await one.asker.facts("request-1"))[-1].message  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "query", [{"content": [SECRET]}, {"chat": {"messages": [{"role": SECRET, "content": SECRET}]}}]
)
async def test_a_rejected_request_leaves_nothing_of_its_text(query: dict[str, Any]) -> None:
    one = await node("sealed")
    with pytest.raises(QueryRejected):
        await one.asker.requests.ask(query)
    assert isinstance((await one.asker.facts())[-1], RequestRejected)
    assert b"swordfish" not in one.bytes()


# -- the serving side ---------------------------------------------------------------------------------------------


async def served(policy: ContentPolicy, keep: ContentPolicy | None = None, caller: str = CALLER) -> Any:
    async with hosting() as host:
        keys = MemoryContentKeys()
        content = ContentConfig(served=policy)
        host.experts._content = ContentKeeper(RoutingConfig(), content, keys, LoopClock())
        call = Call(request="r", expert="it", domain="language", content=SECRET, timeout_ms=1000, keep=keep)

        async def nowhere(_piece: str) -> None: ...

        await host.experts.ask(call, nowhere, caller=caller)
        await host.journal.stored()
        return host.served[-1], keys.find("r")


async def test_of_others_nothing_is_kept_unless_the_operator_says_so() -> None:
    fact, keys = await served("digest")
    assert isinstance(fact, RequestServed)
    assert (fact.kept, fact.content, fact.answer, fact.sealed, keys) == ("digest", "", "", "", [])


async def test_what_is_served_can_be_kept_whole_or_sealed() -> None:
    fact, _ = await served("full")
    assert (fact.kept, fact.content, fact.answer) == ("full", SECRET, SECRET)
    fact, (key,) = await served("sealed")
    assert (fact.content, fact.answer) == ("", "")
    assert unseal(fact.sealed, key.key, request="r", part="served") == f'["{SECRET}","{SECRET}"]'


async def test_a_caller_that_wishes_less_gets_less() -> None:
    fact, keys = await served("full", keep="digest")
    assert (fact.kept, fact.content, fact.answer, keys) == ("digest", "", "", [])


async def test_ones_own_requests_are_kept_where_they_are_taken_in() -> None:
    fact, keys = await served("full", caller=NODE.peer_id)
    assert (fact.kept, fact.content, fact.sealed, keys) == ("", "", "", [])


async def test_an_error_that_repeats_the_question_is_withheld() -> None:
    async def work(call: Call, _emit: Any) -> str:
        raise AttemptFailed("failed", f"no idea what {call.content} means")

    async with hosting(work) as host:
        call = Call(request="r", expert="it", domain="language", content=SECRET, timeout_ms=1000)
        with pytest.raises(AttemptFailed, match="swordfish"):
            await host.ask(call)
        assert host.served[-1].error == WITHHELD


# -- forgetting ---------------------------------------------------------------------------------------------------


def forgetter(one: Node, retain_days: float = 0.0) -> Forgetter:
    return Forgetter(one.keys, one.asker.journal, one.asker.clock, retain_days=retain_days)


async def test_forgetting_erases_the_key_and_says_who_did_it() -> None:
    one = await node("sealed")
    request, other = [(await one.ask())[2] for _ in range(2)]
    done = await forgetter(one).forget([request, "never-heard-of"], actor="ann")
    assert (done.count, done.without_key) == (1, ("never-heard-of",))
    assert (one.keys.find(request), len(one.keys.find(other))) == ([], 1)
    assert (await one.asker.facts(request))[-1] == RequestForgotten(request=request, actor="ann", reason="told")
    assert (await forgetter(one).forget([request], actor="ann")).without_key == (request,)
    assert [type(fact) for fact in await one.asker.facts(request)].count(RequestForgotten) == 1


async def test_forgetting_a_request_forgets_its_parts() -> None:
    one = await node("sealed")
    part, other = (
        ContentKey(request=name, caller="peer", at=one.asker.clock.now(), key=bytes(32)) for name in ("r.2", "s.2")
    )
    one.keys.keep(part)
    one.keys.keep(other)
    done = await forgetter(one).forget(["r"], actor="ann")
    assert (done.count, done.without_key) == (1, ())
    assert (one.keys.find("r.2"), len(one.keys.find("s.2"))) == ([], 1)
    assert [fact.request for fact in await one.asker.facts() if isinstance(fact, RequestForgotten)] == ["r.2"]


async def test_what_the_cache_has_of_a_forgotten_request_goes_too() -> None:
    one = await node("sealed")
    query = {"cache": "on", "options": {"temperature": 0}}
    first = (await one.ask(**query))[2]
    again = (await one.asker.requests.ask({"content": SECRET, "domain": "language", **query})).cached_from
    assert again == first
    cache = one.asker.requests._cache
    keeper = Forgetter(one.keys, one.asker.journal, one.asker.clock, retain_days=0, on_forgotten=cache.forget)
    await keeper.forget([first], actor="ann")
    assert len(cache) == 0
    assert (await one.asker.requests.ask({"content": SECRET, "domain": "language", **query})).cached_from == ""


async def test_a_callers_requests_are_forgotten_and_those_of_others_are_not() -> None:
    one = await node("sealed")
    anns = [(await one.ask(caller="ann"))[2] for _ in range(2)]
    bobs = (await one.ask(caller="bob"))[2]
    done = await forgetter(one).forget_where(before=float("inf"), caller="ann", actor="x")
    assert done.count == 2
    assert [len(one.keys.find(request)) for request in (*anns, bobs)] == [0, 0, 1]


async def test_what_is_too_old_is_forgotten_by_itself() -> None:
    one = await node("sealed")
    old = (await one.ask())[2]
    keeper = forgetter(one, retain_days=1.0)
    await keeper.start()
    await asyncio.sleep(80_000)
    young = (await one.ask())[2]
    assert len(one.keys.find(old)) == 1
    await asyncio.sleep(12_000)
    await keeper.stop()
    assert (len(one.keys.find(old)), len(one.keys.find(young))) == (0, 1)
    fact = (await one.asker.facts(old))[-1]
    assert fact == RequestForgotten(request=old, actor="", reason="retention")


async def test_a_crash_between_erasing_and_recording_is_made_up_for() -> None:
    one = await node("sealed")
    request = (await one.ask())[2]
    one.keys.erase([request])
    keeper = forgetter(one)
    await keeper.start()
    await keeper.stop()
    assert isinstance((await one.asker.facts(request))[-1], RequestForgotten)
    assert one.keys.erased() == set()


async def test_an_answer_to_what_was_forgotten_meanwhile_cannot_be_read() -> None:
    one = await node("sealed", says(ANSWER, after_s=5))
    asking = asyncio.create_task(one.ask())
    await asyncio.sleep(1)
    await forgetter(one).forget(["request-1"], actor="ann")
    _, completed, request = await asking
    assert completed.sealed
    assert one.keys.find(request) == []
    assert b"swordfish" not in one.bytes()


async def test_a_forgotten_request_is_over_for_routing_and_recovery() -> None:
    one = await node("sealed")
    request = (await one.ask())[2]
    await forgetter(one).forget([request], actor="ann")
    assert recover(one.asker.state, one.asker.journal) == 0
