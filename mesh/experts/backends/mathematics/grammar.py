"""The language of formulas: text to a tree, by tokens from a closed list. Nothing is ever evaluated as Python.

relation = sum [("=" | "<" | "<=" | ">" | ">=") sum]
sum      = product {("+" | "-") product}
product  = unary {("*" | "/" | "%" | "mod") unary | power}   the latter is implicit multiplication: 2x, 3(x+1)
unary    = ("-" | "+") unary | power
power    = postfix ["^" unary]
postfix  = primary {"!" | "%"}
primary  = number | name | "(" sum ")" | "|" sum "|" | list | function (power | "(" sum {"," sum} ")")
               (a function without parentheses must not be followed by "/" or a factor: sin pi/6 could mean two things)
list     = "[" [sum {"," sum}] "]"
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

MAX_TOKENS = 2000
MAX_DEPTH = 50
MAX_DIGITS = 4000

FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "asin",
        "acos",
        "atan",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "exp",
        "ln",
        "log",
        "log2",
        "log10",
        "sqrt",
        "cbrt",
        "root",
        "abs",
        "sign",
        "floor",
        "ceil",
        "ceiling",
        "round",
        "factorial",
        "gcd",
        "lcm",
        "binomial",
        "choose",
        "min",
        "max",
        "fibonacci",
        "gamma",
        "erf",
    ]
)
CONSTANTS = frozenset(("pi", "e", "i", "infinity"))
GREEK = frozenset(
    ["alpha", "beta", "delta", "epsilon", "theta", "lambda", "mu", "nu", "rho", "sigma", "tau", "phi", "omega"]
)

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z](?:[A-Za-z]*\d*))"
    r"|(?P<operator>\*\*|<=|>=|==|[-+*/^=<>!%(),|\[\]]))"
)
_WORDS = {"plus": "+", "minus": "-", "times": "*", "over": "/", "modulo": "mod", "oo": "infinity", "inf": "infinity"}
_SAME = {"**": "^", "==": "="}
# Neighbouring letters that people mean as a product; any other run of letters is a word, and refused.
_PRODUCTS = re.compile(r"[xyz]{2,3}|[abc]{2,3}|[abc][xyz]")


class Number(NamedTuple):
    """A numeral, as written."""

    text: str


class Name(NamedTuple):
    """A variable or a constant."""

    name: str


class Apply(NamedTuple):
    """An operator or function and its operands."""

    function: str
    operands: "tuple[Tree, ...]"


Tree: TypeAlias = Number | Name | Apply


class Token(NamedTuple):
    """``kind`` is ``number``, ``name``, ``operator`` or ``end``."""

    kind: str
    text: str


def tokens_of(text: str) -> list[Token]:
    """Split a formula. Raises ValueError at the first thing that does not belong in one."""
    tokens: list[Token] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"{text[position:].strip()[:20]!r} is not part of a formula")
        position = match.end()
        tokens += _token(str(match.lastgroup), match[str(match.lastgroup)])
        if len(tokens) > MAX_TOKENS:
            raise ValueError(f"the formula has more than {MAX_TOKENS} parts")
    return tokens


def _token(kind: str, text: str) -> list[Token]:
    if kind == "operator":
        return [Token(kind, _SAME.get(text, text))]
    if kind == "number":
        return [Token(kind, text)]
    word = _WORDS.get(text.lower(), text)
    if word in ("+", "-", "*", "/", "mod"):
        return [Token("operator", word)]
    if word.lower() in FUNCTIONS | CONSTANTS | GREEK:
        return [Token("name", word.lower())]
    if len(word.rstrip("0123456789")) == 1:
        return [Token("name", word)]
    if _PRODUCTS.fullmatch(word):
        return [Token("name", letter) for letter in word]
    raise ValueError(f"{text[:40]!r} is not a known function, constant or variable")


def parse(text: str) -> Tree:
    """The tree of a formula, or of a relation. Raises ValueError that says what is wrong."""
    return _Parser(tokens_of(text)).whole()


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = [*tokens, Token("end", "the end")]
        self._at = 0
        self._depth = 0

    def whole(self) -> Tree:
        left = self._sum()
        if self._next.text in ("=", "<", "<=", ">", ">="):
            left = Apply(self._take().text, (left, self._sum()))
        if self._next.kind != "end":
            raise ValueError(f"{self._next.text!r} was not expected here")
        return left

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, *operators: str) -> str:
        if self._next.kind == "operator" and self._next.text in operators:
            return self._take().text
        return ""

    def _expect(self, operator: str) -> None:
        if not self._accept(operator):
            raise ValueError(f"{operator!r} was expected before {self._next.text!r}")

    def _sum(self) -> Tree:
        with self._deeper():
            terms = [self._product()]
            while operator := self._accept("+", "-"):
                term = self._product()
                terms.append(term if operator == "+" else Apply("negate", (term,)))
        return Apply("+", tuple(terms)) if len(terms) > 1 else terms[0]

    def _product(self) -> Tree:
        left = self._unary()
        while True:
            if operator := self._accept("*", "/", "mod", "%"):
                left = Apply("mod" if operator == "%" else operator, (left, self._unary()))
            elif self._next.kind == "name" or self._next == ("operator", "("):
                left = Apply("*", (left, self._power()))
            else:
                return left

    def _unary(self) -> Tree:
        sign = "+"
        while operator := self._accept("-", "+"):
            sign = "-" if operator != sign else "+"
        operand = self._power()
        return Apply("negate", (operand,)) if sign == "-" else operand

    def _power(self) -> Tree:
        base = self._postfix()
        if not self._accept("^"):
            return base
        with self._deeper():
            return Apply("^", (base, self._unary()))

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"the formula is nested more than {MAX_DEPTH} deep")
        yield
        self._depth -= 1

    def _postfix(self) -> Tree:
        operand = self._primary()
        while True:
            if self._accept("!"):
                operand = Apply("factorial", (operand,))
            elif self._next.text == "%" and not self._starts_operand(self._tokens[self._at + 1]):
                self._take()
                operand = Apply("percent", (operand,))
            else:
                return operand

    @staticmethod
    def _starts_operand(token: Token) -> bool:
        return token.kind in ("number", "name") or token.text in ("(", "|")

    def _primary(self) -> Tree:
        token = self._take()
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "name":
            return self._call(token.text) if token.text in FUNCTIONS else Name(token.text)
        if token.text == "(":
            return self._until(")")
        if token.text == "|":
            return Apply("abs", (self._until("|"),))
        if token.text == "[":
            return self._list("list", "]")
        raise ValueError(f"{token.text!r} stands where a number, a variable or '(' was expected")

    def _call(self, function: str) -> Tree:
        if self._accept("("):
            return self._list(function, ")")
        with self._deeper():
            operand = self._unary() if self._next.text == "-" else self._power()
        follows = self._next
        if follows.text == "/" or (follows.kind == "name" and follows.text not in FUNCTIONS) or follows.text == "(":
            raise ValueError(f"it is not clear where the argument of {function} ends: write {function}(…)")
        return Apply(function, (operand,))

    def _until(self, closing: str) -> Tree:
        inner = self._sum()
        self._expect(closing)
        return inner

    def _list(self, function: str, closing: str) -> Tree:
        operands: list[Tree] = []
        if not self._accept(closing):
            operands.append(self._sum())
            while self._accept(","):
                operands.append(self._sum())
            self._expect(closing)
        return Apply(function, tuple(operands))


def _number(text: str) -> Number:
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return Number(text)
