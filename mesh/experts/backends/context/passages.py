"""Documents cut into passages: a paragraph or a few short ones, under their heading, with the line they start at."""

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_CHARACTERS = 1200
_ENOUGH = 400
_HEADING = re.compile(r"#{1,6}\s+(?P<title>.+?)\s*#*$")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Passage(NamedTuple):
    """A piece of a document: where it starts (1 is the first line), the headings above it, and its text."""

    line: int
    heading: str
    text: str


class _Paragraph(NamedTuple):
    line: int
    heading: str
    text: str


def passages_in(document: str) -> list[Passage]:
    """The passages of a Markdown or plain text document, in order; none is longer than MAX_CHARACTERS."""
    passages: list[Passage] = []
    for paragraph in _paragraphs(document):
        last = passages[-1] if passages else None
        joined = f"{last.text}\n\n{paragraph.text}" if last else ""
        if last and last.heading == paragraph.heading and len(last.text) < _ENOUGH and len(joined) <= MAX_CHARACTERS:
            passages[-1] = last._replace(text=joined)
        else:
            passages.extend(_cut(paragraph))
    return passages


def _paragraphs(document: str) -> Iterator[_Paragraph]:
    headings: dict[int, str] = {}
    lines: list[str] = []
    first = 1
    fenced = False
    for number, line in enumerate([*document.splitlines(), ""], start=1):
        heading = None if fenced else _HEADING.match(line)
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        if line.strip() and not heading:
            first = first if lines else number
            lines.append(line)
            continue
        if fenced:
            lines.append(line)
            continue
        if lines:
            yield _Paragraph(first, " / ".join(headings.values()), "\n".join(lines))
            lines = []
        if heading:
            level = len(line) - len(line.lstrip("#"))
            headings = {depth: title for depth, title in headings.items() if depth < level} | {level: heading["title"]}
    if lines:
        yield _Paragraph(first, " / ".join(headings.values()), "\n".join(lines).rstrip())


def _cut(paragraph: _Paragraph) -> Iterator[Passage]:
    """A paragraph that is too long is cut at the ends of sentences, and where there are none, anywhere."""
    text = paragraph.text
    start = 0
    while len(text) - start > MAX_CHARACTERS:
        ends = [match.end() for match in _SENTENCE_END.finditer(text, start, start + MAX_CHARACTERS)]
        end = ends[-1] if ends else start + MAX_CHARACTERS
        yield _passage(paragraph, start, end)
        start = end
    yield _passage(paragraph, start, len(text))


def _passage(paragraph: _Paragraph, start: int, end: int) -> Passage:
    line = paragraph.line + paragraph.text.count("\n", 0, start)
    return Passage(line, paragraph.heading, paragraph.text[start:end].strip())
