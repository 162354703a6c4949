"""Where a text that asks several things falls apart: at its numbered items, else after its questions. Pure.

Nothing is lost or moved: introduction and parts, one after the other, are the text.
"""

import re
from collections.abc import Sequence

import msgspec

MAX_PARTS = 16
_TITLE_CHARS = 60
_ITEM = re.compile(r"( {0,3})(?:(\d{1,3})[.)]|\((\d{1,3})\))[ \t]+(?=\S)")
_FENCE = re.compile(r" {0,3}(?:```|~~~)")
_QUESTION = ("?", "\uff1f", "\u061f")


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """``by`` is ``numbers`` or ``questions``; ``introduction`` is what stands before the first numbered item."""

    by: str
    introduction: str = ""
    parts: tuple[str, ...] = ()


def split(text: str) -> Split | None:
    """The parts of a text, two or more; None for a text that is in one piece.

    Numbered items are lines that begin with 1, 2, 3 and so on (``1.``, ``1)`` or ``(1)``), in this order and all as far
    from the margin; each reaches to the next. Else the text is cut after every paragraph that ends with a question
    mark; other paragraphs belong to the question that follows them. What is fenced as code is never cut.
    """
    lines = text.splitlines(keepends=True)
    plain = _outside_fences(lines)
    items = _items(lines, plain)
    if len(items) > 1:
        return Split(by="numbers", introduction="".join(lines[: items[0]]), parts=_cut(lines, items))
    questions = _questions(lines, plain)
    return Split(by="questions", parts=_cut(lines, questions)) if len(questions) > 1 else None


def part_id(request: str, number: int) -> str:
    """The id by which experts know a part of a request."""
    return f"{request}.{number}"


def part_ids(request: str) -> tuple[str, ...]:
    """The ids that its parts may have."""
    return tuple(part_id(request, number) for number in range(1, MAX_PARTS + 1))


def asked_of(part: str) -> str:
    """What a part asks: itself, without its number and the space around it."""
    text = part.strip()
    item = _ITEM.match(text)
    return text[item.end() :] if item is not None else text


def title_of(part: str) -> str:
    """How a part begins, in a line."""
    line = asked_of(part).partition("\n")[0].strip()
    return line if len(line) <= _TITLE_CHARS else f"{line[: _TITLE_CHARS - 1].rstrip()}…"


def _outside_fences(lines: Sequence[str]) -> list[bool]:
    plain, fenced = [], False
    for line in lines:
        fence = _FENCE.match(line) is not None
        plain.append(not (fenced or fence))
        fenced ^= fence
    return plain


def _items(lines: Sequence[str], plain: Sequence[bool]) -> list[int]:
    """The lines at which numbered items begin."""
    begins: list[int] = []
    indented = ""
    for place, line in enumerate(lines):
        item = _ITEM.match(line) if plain[place] else None
        if item is None or int(item[2] or item[3]) != len(begins) + 1 or (begins and item[1] != indented):
            continue
        begins.append(place)
        indented = item[1]
    return begins


def _questions(lines: Sequence[str], plain: Sequence[bool]) -> list[int]:
    """The lines at which the parts begin, of which each but the last ends with a question."""
    begins, asked = [0], False
    for place, line in enumerate(lines):
        blank = plain[place] and not line.strip()
        before = lines[place - 1].rstrip() if place else ""
        if blank and before.endswith(_QUESTION) and plain[place - 1]:
            asked = True
        elif asked and not blank:
            begins.append(place)
            asked = False
    ends_asking = "".join(lines[begins[-1] :]).rstrip().endswith(_QUESTION)
    return begins if ends_asking or len(begins) == 1 else begins[:-1]


def _cut(lines: Sequence[str], begins: Sequence[int]) -> tuple[str, ...]:
    ends = [*begins[1:], len(lines)]
    return tuple("".join(lines[begin:end]) for begin, end in zip(begins, ends, strict=True))
