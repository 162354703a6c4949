"""Unit conversion with pint: ``convert 5 miles to km``."""

import math
import re
from functools import cache
from typing import Any

import pint

_NUMBER = r"(?P<value>[-+]?(?:\d+(?:[.,]\d+)*|\.\d+)(?:[eE][-+]?\d{1,3})?)"
_UNIT = r"[A-Za-zµ°Ωπ%²³][\wµ°²³ .*/^%-]{0,60}?"
_FORMS = (
    re.compile(
        rf"(?:please\s+)?(?:convert|what is|what's|how much is|express)?\s*{_NUMBER}\s*(?P<source>{_UNIT})"
        rf"\s+(?:to|into|in|as)\s+(?P<target>{_UNIT})",
        re.IGNORECASE,
    ),
    re.compile(
        rf"how many\s+(?P<target>{_UNIT})\s+(?:is|are|make|equal)?\s*(?:there\s+)?(?:in)?\s*"
        rf"(?:{_NUMBER}|an?|one)\s*(?P<source>{_UNIT})",
        re.IGNORECASE,
    ),
)
_SPELLED = {"°c": "degC", "°f": "degF", "c": "degC", "f": "degF", "%": "percent"}
# An exponent has one digit, so that no unit is a number in disguise: m**9**9**9.
_UNSAFE = re.compile(r"\d{2,}|(?:\^|\*\*)\s*-?\w+\s*(?:\^|\*\*)|\*{3,}")


def answer(content: str, options: dict[str, Any]) -> str | None:
    """``5 mile = 8.04672 kilometer``. Options: ``value``, ``from``, ``to``. Raises ValueError."""
    if options:
        return _convert(str(options.get("value", 1)), str(options.get("from", "")), str(options.get("to", "")))
    text = " ".join(content.split()).rstrip("?. ")
    for form in _FORMS:
        if match := form.fullmatch(text):
            return _convert(match["value"] or "1", match["source"], match["target"])
    return None


def _convert(value: str, source: str, target: str) -> str:
    number = _number(value)
    try:
        quantity = _registry().Quantity(number, _unit(source))
        converted = quantity.to(_unit(target))
    except pint.DimensionalityError as error:
        raise ValueError(str(error)) from None
    except OverflowError:
        raise ValueError(f"{value} is too large to convert") from None
    return f"{number:.10g} {quantity.units} = {converted.magnitude:.10g} {converted.units}"


def _number(text: str) -> float:
    plain = re.sub(r",(?=\d{3}(?:\D|$))", "", text)
    try:
        number = float(plain)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is too large to convert")
    return number


def _unit(text: str) -> Any:  # noqa: ANN401 - pint has no types
    name = _SPELLED.get(text.strip().lower(), text.strip())
    if not name or len(name) > 80 or _UNSAFE.search(name):
        raise ValueError(f"{text!r} is not a unit")
    try:
        return _registry().parse_units(name)
    except pint.UndefinedUnitError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # noqa: BLE001 - pint's parser raises whatever its tokeniser meets
        raise ValueError(f"{text!r} is not a unit ({type(error).__name__})") from None


@cache
def _registry() -> Any:  # noqa: ANN401 - pint has no types
    return pint.UnitRegistry()
