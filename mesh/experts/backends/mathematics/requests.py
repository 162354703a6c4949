"""What people write, read as tasks: ``integrate x^2 from 0 to 3`` → Task("integrate", ("x^2",), lower="0", upper="3").

Pure text work. Each rule is one line of RULES; the first that fits wins, and what fits none is taken for a formula.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

MAX_CHARACTERS = 10_000


@dataclass(frozen=True)
class Task:
    """One thing to calculate. Which fields matter depends on the operation."""

    operation: str
    expressions: tuple[str, ...]
    variable: str = ""
    variables: tuple[str, ...] = ()
    lower: str = ""
    upper: str = ""
    order: int = 1
    at: dict[str, str] = field(default_factory=dict)


Maker: TypeAlias = Callable[[re.Match[str]], Task]

_POLITENESS = re.compile(
    r"^(?:(?:please|can you|could you|tell me|i want to know|what is|what's|what are|how much is|calculate|compute|"
    r"evaluate|work out|find|determine|give me|show me|the value of|the result of|the)\b[\s,:]*)+",
    re.IGNORECASE,
)
_FULL_STOP = re.compile(r"(?:[?.]|(?<=[^\W\d])!|\s)+$")  # an exclamation mark behind a number is a factorial
_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\b(?:the )?(?:(sin)e|(cos)ine|(tan)gent) of\b", r" \1\2\3 "),
        (r"×|·|⋅", "*"),
        (r"÷", "/"),
        (r"−|–", "-"),
        (r"≤", "<="),
        (r"≥", ">="),
        (r"√", " sqrt "),
        (r"π", " pi "),
        (r"∞", " infinity "),
        (r"²", "^2"),
        (r"³", "^3"),
        (r"\b(?:the )?square root of\b", " sqrt "),
        (r"\b(?:the )?cube root of\b", " cbrt "),
        (r"\b(?:the )?factorial of\b", " factorial "),
        (r"\b(?:the )?absolute value of\b", " abs "),
        (r"\b(?:the )?natural log(?:arithm)? of\b", " ln "),
        (r"\b(\d+) factorial\b", r"\1!"),
        (r"\b(\d+) choose (\d+)\b", r"binomial(\1,\2)"),
        (r"\bdivided by\b", "/"),
        (r"\bmultiplied by\b", "*"),
        (r"\b(?:raised )?to the power (?:of )?", "^"),
        (r"\bsquared\b", "^2"),
        (r"\bcubed\b", "^3"),
        (r"(?:%|\bpercent)\s+of\b", "/100*"),
        (r"\bpercent\b", "%"),
        (r"\bequals\b", "="),
    )
)
_GROUPED = re.compile(r"\b\d{1,3}(?:,\d{3})+\b")
_FOR = r"(?:\s+(?:for|in terms of)\s+(?P<variables>[a-z]\w*(?:\s*(?:,|and)\s*[a-z]\w*)*))?"
_WRT = r"(?:\s+(?:with respect to|wrt)\s+(?P<variable>[a-z]\w*))?"
_AT = r"(?:\s+(?:at|when|where|for|if)\s+(?P<point>[a-z]\w*\s*=.+))?"
_FIRST = r"(?:for (?P<first>[a-z]\w*)\s*:\s*)?"
_EQUATIONS = r"(?:the (?:equations?|system|inequality)\s+)?"
_ANY = r"(?P<expression>.+?)"
_ORDERS = {"": 1, "first": 1, "second": 2, "third": 3, "fourth": 4}
_OPERATIONS_ON_LISTS = "gcd|lcm|mean|median|sum|product|standard deviation"
_LIST_NAMES = {
    "greatest common divisor": "gcd",
    "greatest common factor": "gcd",
    "highest common factor": "gcd",
    "hcf": "gcd",
    "gcf": "gcd",
    "least common multiple": "lcm",
    "lowest common multiple": "lcm",
    "average": "mean",
    "stdev": "standard deviation",
}


def task_of(content: str, options: Mapping[str, Any]) -> Task:
    """The task in a call's options (``operation`` and the fields of Task), else the one in its text.

    Raises ValueError for malformed options and for text without anything to calculate.
    """
    if "operation" in options:
        return _structured(content, options)
    if len(content) > MAX_CHARACTERS:
        raise ValueError(f"the request has {len(content)} characters, the limit is {MAX_CHARACTERS}")
    text = normalised(content)
    if not text:
        raise ValueError("there is nothing to calculate")
    for pattern, make in RULES:
        if match := pattern.fullmatch(text):
            return make(match)
    return _plain(text)


def normalised(content: str) -> str:
    """The request in one line, without politeness, with words and signs for operators as the grammar has them."""
    text = _POLITENESS.sub("", _FULL_STOP.sub("", " ".join(content.split())))
    for pattern, replacement in _PHRASES:
        text = pattern.sub(replacement, text)
    return text.strip()


def _structured(content: str, options: Mapping[str, Any]) -> Task:
    known = {each.name for each in fields(Task)}
    values = {name: value for name, value in options.items() if name in known}
    expressions = values.pop("expressions", None) or options.get("expression") or content
    listed = [expressions] if isinstance(expressions, str | int | float) else expressions
    try:
        return Task(
            operation=str(values.pop("operation")),
            expressions=tuple(str(expression) for expression in listed),
            order=int(values.pop("order", 1)),
            variables=tuple(str(name) for name in values.pop("variables", ())),
            at={str(name): str(value) for name, value in dict(values.pop("at", {})).items()},
            **{name: str(value) for name, value in values.items()},
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"the options do not describe a task: {error}") from None


def _plain(text: str) -> Task:
    if "=" in text or "<" in text or ">" in text:
        return Task("solve", _split(text))
    if "(" not in text:
        text = _GROUPED.sub(lambda match: match[0].replace(",", ""), text)
    return Task("evaluate", (text,))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in re.split(r"[,;]|\band\b", text) if part.strip())


def _solve(match: re.Match[str]) -> Task:
    names = tuple(re.findall(r"[a-z]\w*", re.sub(r"\band\b", " ", match["variables"] or match["first"] or "")))
    return Task("solve", _split(match["equations"]), variables=names)


def _differentiate(match: re.Match[str]) -> Task:
    return Task(
        "differentiate",
        (match["expression"],),
        variable=match["variable"] or "",
        order=_ORDERS[(match["order"] or "").strip().lower()],
        at=_point(match["point"]),
    )


def _point(text: str | None) -> dict[str, str]:
    pairs = (part.partition("=") for part in _split(text or ""))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _integrate(match: re.Match[str]) -> Task:
    expression = re.sub(r"\s*\bd([a-z])$", "", match["expression"])
    named = re.search(r"\bd([a-z])$", match["expression"])
    variable = match["variable"] or (named[1] if named else "")
    return Task("integrate", (expression,), variable, lower=match["lower"] or "", upper=match["upper"] or "")


def _limit(match: re.Match[str]) -> Task:
    return Task("limit", (match["expression"],), match["variable"], at={match["variable"]: match["point"]})


def _series(match: re.Match[str]) -> Task:
    operation = "sum_over" if match["operation"].lower() == "sum" else "product_over"
    return Task(operation, (match["expression"],), match["variable"], lower=match["lower"], upper=match["upper"])


def _of_list(match: re.Match[str]) -> Task:
    name = match["operation"].lower()
    return Task(_LIST_NAMES.get(name, name), _split(match["items"].strip("[](){}")))


def _on(operation: str) -> Maker:
    return lambda match: Task(operation, (match["expression"],))


def _substitute(match: re.Match[str]) -> Task:
    return Task("evaluate", (match["expression"],), at=_point(match["point"]))


def _rule(pattern: str, make: Maker) -> tuple[re.Pattern[str], Maker]:
    return re.compile(pattern, re.IGNORECASE), make


_BOUNDS = r"(?:\s+from\s+(?P<lower>.+?)\s+to\s+(?P<upper>.+?))?"
_LISTS = "|".join((_OPERATIONS_ON_LISTS, *_LIST_NAMES))

RULES: tuple[tuple[re.Pattern[str], Maker], ...] = (
    _rule(
        rf"solve\s+{_FIRST}{_EQUATIONS}(?P<equations>.+?){_FOR}",
        _solve,
    ),
    _rule(
        rf"(?:(?P<order>first|second|third|fourth)\s+)?(?:derivative of|differentiate)\s+{_ANY}{_WRT}{_AT}",
        _differentiate,
    ),
    _rule(rf"(?P<order>)d/d(?P<variable>[a-z])\s*(?:of\s+)?(?P<expression>.+?){_AT}", _differentiate),
    _rule(
        rf"(?:integrate|(?:definite |indefinite )?integral of|antiderivative of)\s+(?P<expression>.+?){_WRT}{_BOUNDS}",
        _integrate,
    ),
    _rule(
        rf"limit of\s+{_ANY}\s+as\s+(?P<variable>[a-z]\w*)\s*(?:approaches|goes to|tends to|->|→)\s*(?P<point>.+)",
        _limit,
    ),
    _rule(
        r"(?P<operation>sum|product) of\s+(?P<expression>.+?)\s+(?:for|with|over)\s+(?P<variable>[a-z])"
        r"\s*(?:=|from)\s*(?P<lower>.+?)\s+to\s+(?P<upper>.+)",
        _series,
    ),
    _rule(rf"(?P<operation>{_LISTS}) (?:of|for)\s+(?P<items>.+)", _of_list),
    _rule(r"is\s+(?P<expression>.+?)\s+(?:a\s+)?prime(?:\s+number)?", _on("is_prime")),
    _rule(r"next prime (?:number )?after\s+(?P<expression>.+)", _on("next_prime")),
    _rule(r"(?:prime factors of|prime factori[sz]ation of)\s+(?P<expression>.+)", _on("factor")),
    _rule(r"(?:factor|factori[sz]e|factors of)\s+(?P<expression>.+)", _on("factor")),
    _rule(r"(?:expand|expansion of)\s+(?P<expression>.+)", _on("expand")),
    _rule(r"(?:simplify|simplification of)\s+(?P<expression>.+)", _on("simplify")),
    _rule(r"determinant of\s+(?P<expression>.+)", _on("determinant")),
    _rule(r"inverse of\s+(?:the matrix\s+)?(?P<expression>.+)", _on("inverse")),
    _rule(r"(?P<expression>.+?)\s+(?:at|when|where|for|if)\s+(?P<point>[a-z]\w*\s*=[^=]+)", _substitute),
)
