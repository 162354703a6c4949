"""Formula trees to sympy expressions, refusing numbers that would be too long before they are made."""

import math
from collections.abc import Callable

import sympy
from sympy import Expr, Rational

from mesh.experts.backends.mathematics.grammar import MAX_DIGITS, Apply, Name, Number, Tree

_MAX_TERMS = 10_000

_CONSTANTS: dict[str, Expr] = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "infinity": sympy.oo}
_ONE_ARGUMENT: dict[str, Callable[..., Expr]] = {
    **{
        name: getattr(sympy, name)
        for name in ["sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp"]
    },
    **{name: getattr(sympy, name) for name in ["sqrt", "cbrt", "sign", "floor", "ceiling", "gamma", "erf"]},
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "abs": sympy.Abs,
    "ceil": sympy.ceiling,
    "round": lambda x: sympy.floor(x + Rational(1, 2)),
    "ln": sympy.log,
    "log2": lambda x: sympy.log(x, 2),
    "log10": lambda x: sympy.log(x, 10),
    "negate": lambda x: -x,
    "percent": lambda x: x / 100,
}
_RELATIONS: dict[str, Callable[..., Expr]] = {
    "=": lambda a, b: sympy.Eq(a, b, evaluate=False),
    "<": sympy.Lt,
    "<=": sympy.Le,
    ">": sympy.Gt,
    ">=": sympy.Ge,
}


def build(tree: Tree) -> Expr:
    """The sympy expression of a tree. Raises ValueError for numbers over MAX_DIGITS and misused functions."""
    match tree:
        case Number(text):
            return Rational(text)
        case Name(name):
            return _CONSTANTS[name] if name in _CONSTANTS else sympy.Symbol(name)
        case Apply(function, operands):
            return _apply(function, [build(operand) for operand in operands])


def _apply(function: str, operands: list[Expr]) -> Expr:
    if function == "list":
        return sympy.Tuple(*operands)
    if any(isinstance(operand, sympy.Tuple) for operand in operands):
        raise ValueError(f"{function} does not take a list")
    if function in _ONE_ARGUMENT:
        return _ONE_ARGUMENT[function](*_exactly(1, function, operands))
    if function in _RELATIONS:
        return _RELATIONS[function](*operands)
    return _SPECIAL[function](operands)


def _exactly(count: int, function: str, operands: list[Expr]) -> list[Expr]:
    if len(operands) != count:
        raise ValueError(f"{function} takes {count} argument{'s' * (count > 1)}, not {len(operands)}")
    return operands


def power(base: Expr, exponent: Expr) -> Expr:
    """``base ^ exponent``; raises ValueError when the digits of the result would be over MAX_DIGITS."""
    if base.is_Rational and exponent.is_Rational and base not in (0, 1, -1):
        digits = abs(exponent.p) / exponent.q * math.log10(max(abs(base.p), base.q, 2))
        _refuse_long(f"{_short(base)}^{_short(exponent)}", digits)
    elif exponent.is_Integer and abs(exponent) > _MAX_TERMS and not base.is_Symbol and not base.is_number:
        raise ValueError(f"the power {_short(exponent)} of a sum has too many terms (limit: {_MAX_TERMS})")
    return sympy.Pow(base, exponent)


def multiply(left: Expr, right: Expr) -> Expr:
    """``left * right``, for numbers within MAX_DIGITS."""
    product = left * right
    if product.is_Rational:
        _refuse_long("the product", math.log10(max(abs(product.p), product.q, 1)))
    return product


def _factorial(operands: list[Expr]) -> Expr:
    (n,) = _exactly(1, "factorial", operands)
    if n.is_Integer and n > 0:
        _refuse_long(f"{_short(n)}!", _log_factorial(n))
    return sympy.factorial(n)


def _log_factorial(n: Expr) -> float:
    return math.lgamma(min(int(n), 10**12) + 1) / math.log(10)


def _binomial(operands: list[Expr]) -> Expr:
    n, k = _exactly(2, "binomial", operands)
    if n.is_Integer and abs(n) > _MAX_TERMS:
        raise ValueError(f"binomial takes numbers up to {_MAX_TERMS}, not {_short(n)}")
    return sympy.binomial(n, k)


def _fibonacci(operands: list[Expr]) -> Expr:
    (n,) = _exactly(1, "fibonacci", operands)
    if not n.is_Integer or not 0 <= n <= _MAX_TERMS:
        raise ValueError(f"fibonacci takes a whole number from 0 to {_MAX_TERMS}, not {_short(n)}")
    return sympy.fibonacci(n)


def _log(operands: list[Expr]) -> Expr:
    if len(operands) not in (1, 2):
        raise ValueError(f"log takes a number and, if it is not e, a base; not {len(operands)} arguments")
    return sympy.log(*operands)


def _mod(operands: list[Expr]) -> Expr:
    if operands[1] == 0:
        raise ValueError("a remainder of a division by 0 does not exist")
    return sympy.Mod(*operands)


def _whole_numbers(function: str, operands: list[Expr]) -> list[Expr]:
    if len(operands) < 2 or not all(operand.is_Integer for operand in operands):
        raise ValueError(f"{function} takes two or more whole numbers")
    return operands


def _refuse_long(what: str, digits: float) -> None:
    if digits > MAX_DIGITS:
        raise ValueError(f"{what} would have about {digits:.0f} digits, the limit is {MAX_DIGITS}")


def _short(number: Expr) -> str:
    digits = math.log10(max(abs(number.p), number.q, 1)) if number.is_Rational else 0
    return f"a number of {digits:.0f} digits" if digits > 30 else str(number)


_SPECIAL: dict[str, Callable[[list[Expr]], Expr]] = {
    "+": lambda operands: sympy.Add(*operands),
    "*": lambda operands: multiply(*operands),
    "/": lambda operands: multiply(operands[0], 1 / operands[1]),
    "^": lambda operands: power(*operands),
    "mod": _mod,
    "log": _log,
    "factorial": _factorial,
    "binomial": _binomial,
    "choose": _binomial,
    "fibonacci": _fibonacci,
    "root": lambda operands: sympy.root(*_exactly(2, "root", operands)),
    "gcd": lambda operands: sympy.gcd_list(_whole_numbers("gcd", operands)),
    "lcm": lambda operands: sympy.lcm_list(_whole_numbers("lcm", operands)),
    "min": lambda operands: sympy.Min(*operands),
    "max": lambda operands: sympy.Max(*operands),
}
