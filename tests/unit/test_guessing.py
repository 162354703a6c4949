"""A domain that was guessed is only a guess, and a failure says so."""

from typing import Any

import pytest

from mesh.config import RoutingConfig
from mesh.events.vocabulary.requests import RequestFailed
from mesh.experts.queries import Outcome, QueryFailed
from tests.kit.asking import Asker, Serving, Work, fails, hangs, says

pytestmark = pytest.mark.looptime
# By keywords it is mathematics.
QUESTION = "What is the product of all this?"
REFUSED = "'product' is not a known function"
HOW = "name one with --domain (domain= in Python, model mesh/<domain> over HTTP)"


async def asker(config: RoutingConfig | None = None, peers: int = 1, **works: Work) -> tuple[Asker, list[Serving]]:
    """A node with ``peers`` that each have an expert for each domain in ``works``."""
    node = await Asker(config=config).open()
    connected = [node.connect(number) for number in range(2, 2 + peers)]
    return node, [
        node.offer(peer, f"{domain}-expert", work, domains=(domain,))
        for peer in connected
        for domain, work in works.items()
    ]


async def ask(node: Asker, content: str = QUESTION, **choices: Any) -> Outcome:
    return await node.requests.ask({"content": content, **choices})


async def failed(node: Asker, content: str = QUESTION, **choices: Any) -> QueryFailed:
    with pytest.raises(QueryFailed) as failure:
        await ask(node, content, **choices)
    return failure.value


async def test_an_error_says_that_the_domain_was_guessed_and_what_to_do() -> None:
    node, _ = await asker(mathematics=fails("invalid", REFUSED))
    failure = await failed(node)
    assert str(failure) == failure.message == f"{REFUSED}; the domain 'mathematics' was guessed: {HOW}"
    fact = (await node.facts(failure.request))[-1]
    assert isinstance(fact, RequestFailed)
    assert fact.message == failure.message
    node, _ = await asker(coding=says("x"))
    failure = await failed(node)
    assert failure.kind == "no_candidates"
    assert failure.message.endswith(f"; the domain 'mathematics' was guessed: {HOW}")
    assert "guessed" not in (await failed(node, domain="mathematics")).message


async def test_a_deadline_has_nothing_to_do_with_the_domain() -> None:
    node, _ = await asker(mathematics=hangs())
    failure = await failed(node, timeout_s=1)
    assert failure.kind == "expired"
    assert "guessed" not in failure.message


async def test_parts_without_any_answer_are_told_with_the_domains_that_were_guessed() -> None:
    node, _ = await asker(mathematics=fails("invalid", REFUSED), coding=fails("invalid", "no Python"))
    failure = await failed(node, f"1. {QUESTION}\n2. Fix this Python function", strategy="distributed")
    assert failure.message.endswith(f"; the domains 'mathematics' and 'coding' were guessed: {HOW}")
