"""The code expert: finds the Python in a request, and says what is wrong with it and where."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.experts.backends.code.review import answer
from mesh.experts.backends.code.source import source_in
from mesh.experts.backends.code.structure import complexity_of, definitions_in

RULES = {"rules": ["E", "F", "B"], "line_length": 100}


@pytest.mark.parametrize(
    ("request_", "source"),
    [
        ("def f(): pass", "def f(): pass\n"),
        ("Please look at this:\n```python\nx = 1\n```\nThanks!", "x = 1\n"),
        ("```\nx = 1\n```\nand\n~~~py\ny = 2\n~~~", "x = 1\n\ny = 2\n"),
        ("Check this: def f(x): return x", "def f(x): return x\n"),
        ("Is this right?\n\nfor i in range(3) print(i)", "for i in range(3) print(i)\n"),
        ("What is wrong here\nx = [1, 2", "x = [1, 2\n"),
        ("print(1)\r\nprint(2)\r\n", "print(1)\nprint(2)\n"),
    ],
)
def test_the_source_in_a_request(request_: str, source: str):
    assert source_in(request_) == source


@pytest.mark.parametrize(
    "request_",
    [
        "",
        "hello",
        "42",
        "What is the capital of France?",
        "If all birds fly, does a robin?",
        "```js\nlet x\n```",
        "(((",
    ],
)
def test_what_is_not_python_is_refused(request_: str):
    with pytest.raises(ValueError, match="no Python in this request"):
        source_in(request_)


def test_findings_structure_and_formatting():
    review = answer("import os\nclass A(list):\n  def f(self,x):\n    return x if x else 1", RULES)
    assert "The code parses; 1 finding; formatting changes it." in review
    assert "- line 1, column 8: F401 `os` imported but unused (fixable)" in review
    assert "- class A(list), lines 2–4" in review
    assert "- function A.f(self, x), lines 3–4, complexity 2" in review
    assert "```python\nimport os\n\n\nclass A(list):\n    def f(self, x):\n        return x if x else 1\n```" in review


def test_code_without_fault_says_so():
    assert answer("def f():\n    return 1\n", RULES).startswith(
        "The code parses; nothing to object to; already formatted."
    )


def test_a_syntax_error_has_its_line_and_column():
    review = answer("def f():\n    return 1\nfor i in range(3) print(i)", RULES)
    assert review.startswith("Syntax error in line 3, column 19: invalid syntax.")
    assert "for i in range(3) print(i)\n                  ^" in review
    assert "Formatted" not in review


def test_the_rules_are_the_operators():
    source = {"source": "assert x == None\n"}
    assert "E711" in answer("", {**RULES, **source})
    assert "E711" not in answer("", {"rules": ["F"], **source})


def test_source_can_be_given_as_an_option():
    assert "function g()" in answer("ignored", {**RULES, "source": "def g(): pass"})


def test_source_is_bounded():
    with pytest.raises(ValueError, match="the limit is 500000"):
        answer("", {"source": "x" * 500_001})


@pytest.mark.parametrize(
    "source", ["x = '\\d'", "x = 1 is 1", "\0", "x = '\ud800'", "\ufeffx = 1", "a\tb", "x = " + "-" * 500 + "1"]
)
def test_odd_source_gets_a_review(source: str):
    if "\ud800" in source:
        with pytest.raises(ValueError, match="surrogates"):
            answer("", {**RULES, "source": source})
    else:
        assert answer("", {**RULES, "source": source})


def test_complexity_counts_every_way_through():
    source = """
def f(x, y):
    if x and y or not x:
        return 1
    elif y:
        return 2
    for i in x:
        while i:
            try:
                assert i
            except ValueError:
                pass
    def inner():
        if x: pass
    match x:
        case 1: pass
        case _: pass
    return [a for a in x if a] if y else 0
"""
    (function,) = ast.parse(source).body
    assert complexity_of(function) == 14
    assert [each.name for each in definitions_in(ast.parse(source))] == ["f", "f.inner"]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abc=:()[]`~ \n\tdefif'\"#0", max_size=80))
def test_any_text_has_source_or_is_refused(text: str):
    try:
        assert source_in(text).endswith("\n")
    except ValueError as error:
        assert "no Python" in str(error)  # noqa: PT017
