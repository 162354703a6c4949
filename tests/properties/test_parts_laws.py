"""Whatever the text: its parts are the text, and what was put together from items falls apart into them."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.experts.parts import asked_of, split

LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["", " ", "1. a", "2. b", "3) c", "(4) d", "What?", "what? ", "```", "~~~ x", "    2. e", "1.", "\u2028?"]
        ),
        st.text(max_size=12),
    ),
    max_size=24,
)
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\r", "\x0b", "\u2028"])


@given(LINES, ENDS)
def test_introduction_and_parts_are_the_text(lines: list[str], end: str) -> None:
    text = end.join(lines)
    found = split(text)
    if found is not None:
        assert found.introduction + "".join(found.parts) == text
        assert len(found.parts) > 1
        assert all(asked_of(part) for part in found.parts)


ITEM = st.from_regex(r"[A-Za-z?]{1,8}( [A-Za-z?]{1,8}){0,3}", fullmatch=True)


@given(st.lists(ITEM, min_size=2, max_size=12), st.sampled_from(["{}. ", "{}) ", "({}) "]))
def test_a_list_falls_apart_into_its_items(items: list[str], mark: str) -> None:
    found = split("".join(f"{mark.format(number)}{item}\n" for number, item in enumerate(items, 1)))
    assert found is not None
    assert [asked_of(part) for part in found.parts] == items


@given(st.lists(ITEM.map(lambda text: f"{text}?"), min_size=2, max_size=8))
def test_questions_between_blank_lines_fall_apart(questions: list[str]) -> None:
    found = split("\n\n".join(questions))
    assert found is not None
    assert [asked_of(part) for part in found.parts] == questions
