"""Where texts fall apart, and where they stay whole."""

import pytest

from mesh.experts.parts import MAX_PARTS, asked_of, part_ids, split, title_of


def parts(text: str) -> tuple[str, ...]:
    found = split(text)
    return () if found is None else found.parts


@pytest.mark.parametrize("mark", ["{}. ", "{}) ", "({}) ", "  {}.\t"])
def test_numbered_items_are_parts_however_they_are_numbered(mark: str) -> None:
    text = f"{mark.format(1)}What is 2+2?\n{mark.format(2)}A poem\n   on the sea\n"
    assert [asked_of(part) for part in parts(text)] == ["What is 2+2?", "A poem\n   on the sea"]


def test_what_stands_before_the_first_item_introduces_them() -> None:
    found = split("Be brief:\n\n1. one\n2. two\n\nThanks!")
    assert found is not None
    assert (found.by, found.introduction, found.parts) == (
        "numbers",
        "Be brief:\n\n",
        ("1. one\n", "2. two\n\nThanks!"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1. only one",
        "2. two\n3. three",
        "3.14 is pi\n2.71 is e",
        "1.5 litres\n2.5 litres",
        "1.\n2.\n",
        "What is it?",
        "One paragraph.\n\nAnother one.\n\nWhat do they say?",
        "Is this one?\nOr two?",
        "```\n1. a list\n2. in code\n```",
        "~~~\nwhat?\n\nwhere?\n\n~~~\nWhat does it print?",
    ],
)
def test_these_are_in_one_piece(text: str) -> None:
    assert split(text) is None


def test_items_count_from_one_without_gaps_and_lists_within_them_are_theirs() -> None:
    text = "1. compare\n   1. cats\n   2. dogs\n2. and then:\n1. again from one\n4. no third\n"
    assert [asked_of(part)[:8] for part in parts("    1. x\n" + text)] == ["compare\n", "and then"]


def test_questions_are_cut_after_their_paragraph_and_have_what_leads_up_to_them() -> None:
    text = "Tom is taller.\n\nWho is?\n\n\nMy code:\n\n```\nwhat?\n\n```\nWhat is wrong?\n\nThanks."
    found = split(text)
    assert found is not None
    assert (found.by, found.introduction) == ("questions", "")
    assert [asked_of(part) for part in found.parts] == [
        "Tom is taller.\n\nWho is?",
        "My code:\n\n```\nwhat?\n\n```\nWhat is wrong?\n\nThanks.",
    ]


def test_questions_of_other_scripts_end_too() -> None:
    assert len(parts("\u4f60\u597d\uff1f\n\n\u0645\u0627\u0630\u0627\u061f")) == 2


def test_a_title_is_one_short_line() -> None:
    assert title_of("1. What is it?\nSay more.") == "What is it?"
    assert len(title_of("word " * 40)) <= 60
    assert title_of("word " * 40).endswith("word…")


def test_parts_have_ids_of_their_own() -> None:
    assert part_ids("r")[:2] == ("r.1", "r.2")
    assert len(part_ids("r")) == MAX_PARTS
