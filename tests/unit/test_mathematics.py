"""The mathematics expert: what it answers, what it refuses, and that nothing is ever evaluated as Python."""

import builtins
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.experts.backends.mathematics.grammar import Apply, Name, Number, parse
from mesh.experts.backends.mathematics.requests import task_of
from mesh.experts.backends.mathematics.solver import OPERATIONS, answer

ANSWERS = {
    "What is 17*23?": "391",
    "what's 12 divided by 4?": "3",
    "3 plus 4 times 2": "11",
    "What is 2**61 - 1?": "2305843009213693951",
    "What is 1,234 * 2?": "2468",
    "0.1 + 0.2": "0.3",
    "1/3": "1/3 ≈ 0.333333333333333",
    "5/2": "5/2 = 2.5",
    "what is 15% of 80?": "12",
    "17 mod 5": "2",
    "17 % 5": "2",
    "5!": "120",
    "2^3^2": "512",
    "-2^2": "-4",
    "2(3+4)": "14",
    "|−5|": "5",
    "10 choose 3": "120",
    "What is the square root of 144 plus 5": "17",
    "sqrt(8)": "2*sqrt(2) ≈ 2.82842712474619",
    "sine of (pi/6)": "1/2 = 0.5",
    "2 sin x cos x at x = 0": "0",
    "log(100, 10)": "2",
    "e^(i*pi)": "-1",
    "1/0": "undefined (division by zero, or no single value)",
    "3 < 4": "true",
    "solve x^2 - 5x + 6 = 0": "x = 2 or x = 3",
    "x^2 = 2": "x = -sqrt(2) ≈ -1.4142135623731 or x = sqrt(2) ≈ 1.4142135623731",
    "Solve for x: 2x + 3 = 7": "x = 2",
    "solve x + y = 10, x - y = 2": "x = 6, y = 4",
    "Solve x+y=10 and x-y=2 for x and y": "x = 6, y = 4",
    "solve a*x + b = c for x": "x = (-b + c)/a",
    "x = x": "every x",
    "x + 1 = x": "no solution",
    "solve x^2 < 4": "(-2 < x) and (x < 2)",
    "cos(x) = x": "x ≈ 0.739085133215161 (by approximation; there may be more)",
    "sin(x) = 0": "x = 0 or x = pi ≈ 3.14159265358979 (and every multiple of 2*pi added to it)",
    "derivative of sin(x)*x": "x*cos(x) + sin(x)",
    "What is the derivative of x^2?": "2*x",
    "second derivative of x^4 at x = 2": "48",
    "derivative of x^2 y with respect to y": "x^2",
    "d/dx x^3": "3*x^2",
    "integrate x^2 from 0 to 3": "9",
    "integrate 2x dx": "x^2 + C",
    "integral of e^(-x^2) from -infinity to infinity": "sqrt(pi) ≈ 1.77245385090552",
    "limit of sin(x)/x as x approaches 0": "1",
    "limit of 1/x as x approaches 0": "undefined (division by zero, or no single value)",
    "limit of 1/x as x goes to infinity": "0",
    "sum of k^2 for k from 1 to 10": "385",
    "sum of 1/k^2 for k from 1 to infinity": "pi^2/6 ≈ 1.64493406684823",
    "simplify sin(x)^2 + cos(x)^2": "1",
    "expand (x+1)^3": "x^3 + 3*x^2 + 3*x + 1",
    "factor x^2 - 5x + 6": "(x - 3)*(x - 2)",
    "factor 360": "2^3 * 3^2 * 5",
    "is 97 prime?": "yes, 97 is prime",
    "Is 91 a prime number?": "no, 91 is not prime: it is divisible by 7",
    "is 1 prime": "no, 1 is not prime: it has no two distinct positive divisors",
    "next prime after 100": "101",
    "gcd of 84 and 36": "12",
    "least common multiple of 4, 6 and 10": "60",
    "mean of 1, 2, 3, 4": "5/2 = 2.5",
    "median of 3, 1, 2": "2",
    "standard deviation of 2, 4, 4, 4, 5, 5, 7, 9": "2",
    "determinant of [[1, 2], [3, 4]]": "-2",
    "inverse of [[1, 2], [3, 4]]": "[[-2, 1], [3/2, -1/2]]",
    "evaluate x^2 + 1 at x = 3": "10",
}

REFUSED = {
    "": "nothing to calculate",
    "hello": "'hello' is not a known",
    "What is love?": "'love' is not a known",
    "2 3": "'3' was not expected",
    "(((": "where a number",
    "sine of pi/6": "not clear where the argument of sin ends",
    "sin 2x": "not clear where the argument of sin ends",
    "square root of 144 divided by 4": "write sqrt(…)",
    "1 +": "'the end' stands where a number",
    "[1, 2]": "a list alone",
    "limit of |x|/x as x approaches 0": "does not exist",
    "floor(exp(1000))": "PrecisionExhausted",
    "is 3.5 prime": "takes a whole number, not 7/2",
    "integrate x^x": "no antiderivative",
    "i < 3": "non-real",
    "__import__('os').system('ls')": "is not part of a formula",
    "().__class__.__bases__[0].__subclasses__()": "is not part of a formula",
    "open('/etc/passwd').read()": "'open' is not a known",
    "lambda: 1": "is not part of a formula",
    "x.__class__": "is not part of a formula",
    "exec(1)": "'exec' is not a known",
    "9**9**9**9": "about 369693100 digits, the limit is 4000",
    "factorial(10**9)": "digits, the limit is 4000",
    "(99!)!": "digits, the limit is 4000",
    "2^(10^9/3)": "digits, the limit is 4000",
    "(10^3999)*(10^3999)": "digits, the limit is 4000",
    "1e99999": "more than 4000 digits",
    "9" * 5000: "more than 4000 digits",
    "binomial(10^9, 5)": "up to 10000",
    "fibonacci(10^9)": "0 to 10000",
    "(1+x)^99999999": "too many terms",
    "(" * 200 + "1" + ")" * 200: "nested more than 50 deep",
    "sin " * 200 + "x": "nested more than 50 deep",
    "2^" * 200 + "1": "nested more than 50 deep",
    "1+" * 3000 + "1": "more than 2000 parts",
    "x" * 11_000: "limit is 10000",
    "sum of " + "1, " * 1500 + "1": "1 to 1000 numbers",
}


@pytest.mark.parametrize("request_", ANSWERS)
def test_it_answers_exactly(request_: str):
    assert answer(request_, {}) == ANSWERS[request_]


@pytest.mark.parametrize("request_", REFUSED)
def test_it_refuses_with_a_reason_and_examples(request_: str):
    with pytest.raises(ValueError, match="It can:") as caught:
        answer(request_, {})
    assert REFUSED[request_] in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"operation": "solve", "expressions": ["x + y = 3", "x - y = 1"]}, "x = 2, y = 1"),
        ({"operation": "integrate", "expression": "x", "lower": 0, "upper": 1}, "1/2 = 0.5"),
        ({"operation": "differentiate", "expression": "x^3", "order": 2}, "6*x"),
        ({"operation": "evaluate", "expression": "x + 1", "at": {"x": 2}}, "3"),
        ({"operation": "limit", "expression": "1/x", "variable": "x", "at": {"x": "infinity"}}, "0"),
        ({"temperature": 0.5}, "2"),
    ],
)
def test_tasks_can_be_given_as_options(options, expected):
    assert answer("1 + 1", options) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"operation": "nope"},
        {"operation": ["solve"]},
        {"operation": "differentiate", "order": "x"},
        {"operation": "differentiate", "order": 1000},
        {"operation": "evaluate", "at": 5},
    ],
)
def test_malformed_options_are_invalid(options):
    with pytest.raises(ValueError, match="It can:"):
        answer("x", options)


def test_nothing_is_evaluated_or_compiled(monkeypatch: pytest.MonkeyPatch):
    asked = {"solve x^2 = 9 for x": "x = -3 or x = 3", "derivative of x^3": "3*x^2"}
    assert {question: answer(question, {}) for question in asked} == asked  # sympy compiles some code of its own, once

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("text was evaluated")

    monkeypatch.setattr(builtins, "eval", forbidden)
    monkeypatch.setattr(builtins, "exec", forbidden)
    assert {question: answer(question, {}) for question in asked} == asked


def test_the_grammar_binds_as_mathematics_does():
    x, two = Name("x"), Number("2")
    assert parse("2x") == Apply("*", (two, x))
    assert parse("-x^2") == Apply("negate", (Apply("^", (x, two)),))
    assert parse("x(x)") == Apply("*", (x, x))
    assert parse("sin x") == Apply("sin", (x,))
    assert parse("50%") == Apply("percent", (Number("50"),))
    assert parse("x % 2") == Apply("mod", (x, two))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789xyei+-*/^().,![]|<>=% sqrtnl_'\"", max_size=40))
def test_any_formula_parses_or_is_refused(text: str):
    with suppress(ValueError):
        parse(text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_known_task_or_refused(text: str):
    try:
        task = task_of(text, {})
    except ValueError:
        return
    assert task.operation in OPERATIONS


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.sampled_from("+-*"))
def test_whole_numbers_agree_with_python(a: int, b: int, operator: str):
    expected = {"+": a + b, "-": a - b, "*": a * b}[operator]
    assert answer(f"({a}) {operator} ({b})", {}) == str(expected)
