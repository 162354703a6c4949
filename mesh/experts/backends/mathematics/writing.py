"""How results are written: ``x^2``, exact first, an approximation behind it where that helps."""

import re

import sympy
from sympy import Expr
from sympy.printing.str import StrPrinter

_SIGNIFICANT = 15
_MAX_PLACES = 30
_TRAILING_ZEROS = re.compile(r"(?<=\.\d)(\d*?)0+(?![\d])")


class _Printer(StrPrinter):  # type: ignore[misc]
    def _print_Exp1(self, _: Expr) -> str:  # noqa: N802 - sympy's names
        return "e"

    def _print_ImaginaryUnit(self, _: Expr) -> str:  # noqa: N802
        return "i"

    def _print_Infinity(self, _: Expr) -> str:  # noqa: N802
        return "infinity"

    def _print_NegativeInfinity(self, _: Expr) -> str:  # noqa: N802
        return "-infinity"


def written(expression: Expr) -> str:
    """The expression as people type it."""
    return str(_Printer().doprint(expression)).replace("**", "^")


def in_words(result: Expr, *, decimal: bool = False) -> str:
    """A result: exact, and where it is a number that is not plain to see, about how much.

    ``decimal``: the request had decimals, so a terminating fraction is written as a decimal too.
    """
    if result.has(sympy.zoo, sympy.nan):
        return "undefined (division by zero, or no single value)"
    if result.is_Rational:
        return _rational(result, decimal=decimal)
    if isinstance(result, sympy.logic.boolalg.BooleanAtom):
        return "true" if result else "false"
    text = written(result)
    if result.is_number and not result.has(sympy.oo, -sympy.oo) and result.is_finite is not False:
        return f"{text} ≈ {approximately(result)}"
    return text


def approximately(number: Expr) -> str:
    """The value in 15 significant digits, without trailing zeros."""
    return _TRAILING_ZEROS.sub(r"\1", written(number.evalf(_SIGNIFICANT)))


def _rational(number: Expr, *, decimal: bool) -> str:
    if number.q == 1:
        return str(number.p)
    places = _decimal_places(number.q)
    if places is None or places > _MAX_PLACES:
        return f"{number.p}/{number.q} ≈ {approximately(number)}"
    exactly = _decimal(number, places)
    return exactly if decimal else f"{number.p}/{number.q} = {exactly}"


def _decimal_places(denominator: int) -> int | None:
    """How many decimals a fraction with this denominator has; None when they never end."""
    places = 0
    for prime in (2, 5):
        count = 0
        while denominator % prime == 0:
            denominator //= prime
            count += 1
        places = max(places, count)
    return places if denominator == 1 else None


def _decimal(number: Expr, places: int) -> str:
    scaled = abs(number.p) * 10**places // number.q
    digits = str(scaled).rjust(places + 1, "0")
    return f"{'-' if number.p < 0 else ''}{digits[:-places]}.{digits[-places:]}"
