"""docs/experts.md shows what the experts really answer, and every option that they have."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.config import ExpertConfig
from mesh.experts.backends import BACKENDS, kind_of, make_backend
from mesh.experts.calls import RETRYABLE, Call
from tests.kit.hosting import nowhere

DOCUMENT = (Path(__file__).parents[2] / "docs" / "experts.md").read_text()


def examples() -> Iterator[tuple[str, str, list[str]]]:
    """Backend, request and the lines that are shown of its answer."""
    for backend, block in re.findall(r"^```(\w+)\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL):
        if backend in BACKENDS:
            for request, shown in re.findall(r"((?:^> .*\n)+)((?:^[^>\n].*\n)+)", block, re.MULTILINE):
                yield backend, re.sub(r"^> ", "", request, flags=re.MULTILINE).rstrip("\n"), shown.splitlines()


EXAMPLES = list(examples())


@pytest.mark.parametrize("backend", sorted({backend for backend, _, _ in EXAMPLES}))
async def test_the_examples_are_what_is_answered(backend: str):
    made = make_backend(ExpertConfig(name="it", backend=backend, domains=["any"]))
    await made.start()
    try:
        for kind, request, shown in EXAMPLES:
            if kind == backend:
                call = Call(request="r", expert="it", domain="any", content=request, timeout_ms=10_000)
                answer = await made.answer(call, nowhere)
                lines = answer.text.splitlines()
                assert [line for line in shown if line not in lines] == [], request
    finally:
        await made.stop()


def test_there_are_examples_of_each_exact_backend():
    assert {backend for backend, _, _ in EXAMPLES} == {"mathematics", "code", "context", "tools"}
    assert len(EXAMPLES) > 25


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_option_is_documented(backend: str):
    section = re.search(rf"^## {backend}\b.*?(?=^## )", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert section, f"no section about {backend}"
    options = kind_of(ExpertConfig(name="it", backend=backend, domains=["any"])).options.model_fields
    assert [name for name in options if f"`{name}`" not in section[0]] == []


def test_every_failure_kind_is_documented_as_it_is_retried():
    table = DOCUMENT.split("## Failures")[1].split("## ")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", table, re.MULTILINE))
    ours = {
        kind: "yes" if retry else "no" for kind, retry in RETRYABLE.items() if kind not in ("disconnected", "protocol")
    }
    assert shown == ours
