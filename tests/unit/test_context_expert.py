"""The context expert: passages with their lines, the right one for a question, and an index that keeps in step."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.config import ExpertConfig
from mesh.experts.backends import make_backend
from mesh.experts.backends.context import DOCUMENTS
from mesh.experts.backends.context.embedding import load_embedding
from mesh.experts.backends.context.index import Index
from mesh.experts.backends.context.passages import MAX_CHARACTERS, Passage, passages_in
from mesh.experts.calls import Answer, AttemptFailed, Call
from tests.kit.hosting import nowhere

DOCUMENT = """# Title

First paragraph,
two lines.

## Part

Second.

Third.

```
# not a heading

code
```
"""

QUESTIONS = {
    "What is an expert?": "experts.md, line 5",
    "What happens when the queue of an expert is full?": "experts.md, line 22",
    "How does the journal show tampering?": "journal.md, line 11",
    "How are projections rebuilt?": "journal.md, line 17",
    "What happens when a peer fails?": "routing.md, line 23",
    "Which strategies are there?": "routing.md, line 17",
    "How can an outside tool follow the events?": "network.md, line 20",
    "How do I acknowledge an alert?": "health.md, line 22",
}


def test_passages_have_their_line_and_headings():
    assert passages_in(DOCUMENT) == [
        Passage(3, "Title", "First paragraph,\ntwo lines."),
        Passage(8, "Title / Part", "Second.\n\nThird.\n\n```\n# not a heading\n\ncode\n```"),
    ]


def test_long_paragraphs_are_cut_at_sentences_with_the_right_lines():
    text = "\n".join(f"This is sentence number {n} of a long paragraph." for n in range(100))
    passages = passages_in(text)
    assert len(passages) > 3
    for passage in passages:
        assert len(passage.text) <= MAX_CHARACTERS
        assert passage.text.endswith(".")
        assert text.splitlines()[passage.line - 1].startswith(passage.text[:20])


@given(st.text(alphabet="ab #`~.\n", max_size=300))
def test_no_text_is_lost_and_every_line_is_right(text: str):
    lines = text.splitlines()
    for passage in passages_in(text):
        assert 0 < len(passage.text) <= MAX_CHARACTERS
        assert passage.text.splitlines()[0].strip() in lines[passage.line - 1]


@given(st.integers(1, 5000))
def test_a_paragraph_without_an_end_is_cut_anywhere(length: int):
    assert "".join(passage.text for passage in passages_in("x" * length)) == "x" * length


@pytest.fixture(scope="module")
def embedding():
    return load_embedding()


def test_loading_leaves_logging_alone(embedding):
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    load_embedding()
    assert (list(root.handlers), root.level) == before


def test_a_text_without_words_has_no_direction(embedding):
    assert embedding([""])[0].tolist() == [0.0] * 256


async def ask(question: str, call_options: dict | None = None, **options) -> Answer:
    backend = make_backend(ExpertConfig(name="it", backend="context", domains=["context"], options=options))
    await backend.start()
    try:
        call = Call(
            request="r", expert="it", domain="context", content=question, timeout_ms=1000, options=call_options or {}
        )
        return await backend.answer(call, nowhere)
    finally:
        await backend.stop()


@pytest.mark.parametrize("question", QUESTIONS)
async def test_its_own_documents_answer(question: str):
    assert QUESTIONS[question] in (await ask(question)).text


async def test_several_passages_best_first():
    text = (await ask("How does the journal show tampering?", {"top": 3})).text
    scores = [float(part.split(")")[0]) for part in text.split("(score ")[1:]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


async def test_what_is_in_no_document_is_invalid_here_and_another_expert_may_know():
    with pytest.raises(AttemptFailed, match="nothing in 5 documents is about that: the closest scores") as caught:
        await ask("What is the recipe for pancakes?")
    assert (caught.value.kind, caught.value.retryable) == ("invalid", True)
    assert (await ask("What is the recipe for pancakes?", min_score=-1)).text


@pytest.mark.parametrize("options", [{"question": 5}, {"top": 0}, {"top": "x"}, {"question": "x" * 20_000}])
async def test_malformed_options_are_invalid(options):
    with pytest.raises(AttemptFailed) as caught:
        await ask("What is an expert?", options)
    assert caught.value.kind == "invalid"


async def test_an_empty_folder_has_no_answer(tmp_path: Path):
    with pytest.raises(AttemptFailed, match="nothing in 0 documents"):
        await ask("What is an expert?", folder=str(tmp_path))


def test_the_index_reads_what_changed_and_nothing_else(tmp_path: Path, embedding):
    embedded: list[str] = []

    def counting(texts: list[str]):
        embedded.extend(texts)
        return embedding(texts)

    (tmp_path / "cats.md").write_text("Cats sleep all day.")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "ships.txt").write_text("Ships sail across the ocean.")
    index = Index(tmp_path, counting)
    assert index.refresh() == 2
    assert index.find("Where do ships sail?", 1)[0][:3] == ("below/ships.txt", 1, "Ships sail across the ocean.")

    embedded.clear()
    assert index.refresh() == 0
    (tmp_path / "cats.md").write_text("Cats hunt mice at night.")
    os.utime(tmp_path / "cats.md", ns=(1, 1))
    assert index.refresh() == 1
    assert embedded == ["\nCats hunt mice at night."]
    assert index.find("What do cats hunt?", 1)[0].text == "Cats hunt mice at night."

    (tmp_path / "cats.md").unlink()
    assert index.refresh() == 1
    assert {found.file for found in index.find("cats", 5)} == {"below/ships.txt"}


def test_the_index_stays_inside_its_folder(tmp_path: Path, embedding):
    folder, outside = tmp_path / "in", tmp_path / "out"
    for each in (folder, outside, folder / ".hidden"):
        each.mkdir()
    for path in (outside / "secret.md", folder / ".hidden" / "x.md", folder / "data.bin", folder / "empty.md"):
        path.write_text("A secret.")
    (folder / "link.md").symlink_to(outside / "secret.md")
    (folder / "linked").symlink_to(outside)
    (folder / "empty.md").write_text("")
    (folder / "latin.md").write_bytes(b"caf\xe9 cr\xe8me")
    index = Index(folder, embedding)
    assert index.refresh() == 2
    assert {found.file for found in index.find("secret", 9)} == {"latin.md"}


def test_the_documents_are_in_the_package():
    assert len(list(DOCUMENTS.glob("*.md"))) == 5
