"""Which answers are one, and which never: a false match lets a liar win."""

import pytest

from mesh.experts.normalise import exact_group, group_of, normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("42", "The answer is 42."),
        ("42", "**42**"),
        ("42", "Final answer: $42$"),
        ("42", r"\boxed{42}"),
        ("B", "(b)"),
        ("B", "The correct answer is B."),
        ("B", "Option: B)"),
        ('{"a": 1}', '```json\n{ "a": 1.0 }\n```'),
        ("Here you are:\n```python\nx = 1\n\ny = 2\n```\nDone.", "```\nx = 1   \ny = 2\n```"),
        ("```py\n    def f():\n        return 1\n```", "```\ndef f():\n    return 1\n```"),
    ],
)
def test_the_same_answer_dressed_differently(one: str, other: str) -> None:
    assert group_of(one) == group_of(other), (normalise(one), normalise(other))
    assert exact_group(one) != exact_group(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A", "B"),
        ("42", "The answer is not 42."),
        ("B", "B or C"),
        ("```\nx = 1\n```", "```\nX = 1\n```"),
        ("```\nif a:\n    b\nc\n```", "```\nif a:\n    b\n    c\n```"),
        ("```\nx = 1\n```\n```\ny\n```", "```\nx = 1\n```"),
        ("1", '"1"'),
        ("The answer is", "The answer"),
        ("A. Smith wrote it", "A. Jones wrote it"),
    ],
)
def test_what_says_something_else_stays_apart(one: str, other: str) -> None:
    assert group_of(one) != group_of(other), normalise(one)


@pytest.mark.parametrize(
    "nasty", ["```" * 40_000, "**" * 50_000, "The answer is " * 7000, "$" * 99_999, "```\n" + " " * 99_000]
)
def test_hostile_text_is_read_in_no_time(nasty: str) -> None:
    assert normalise(nasty)
