"""Tasks to answers, exactly, with sympy. Runs in a worker process: whatever it does can be killed."""

import sys
from collections.abc import Callable
from typing import Any

import sympy
from sympy import Expr

from mesh.experts.backends.mathematics.build import build
from mesh.experts.backends.mathematics.equations import solve
from mesh.experts.backends.mathematics.grammar import parse
from mesh.experts.backends.mathematics.requests import Task, task_of
from mesh.experts.backends.mathematics.writing import in_words, written

CAN = (
    'It can: "17*23", "solve x^2 - 5x + 6 = 0", "derivative of sin(x)*x", "integrate x^2 from 0 to 3", "simplify …", '
    '"expand …", "factor 360", "is 97 prime?", "gcd of 84 and 36", "limit of sin(x)/x as x approaches 0", '
    '"sum of k^2 for k from 1 to 10", "mean of 1, 2, 3", "determinant of [[1, 2], [3, 4]]".'
)
_MAX_LIST = 1000
_MAX_ORDER = 20

sys.set_int_max_str_digits(20_000)


def answer(content: str, options: dict[str, Any]) -> str:
    """The answer to a request. Raises ValueError, saying what can be asked, when it is not understood."""
    try:
        task = task_of(content, options)
        return _operation(task.operation)(task)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError) as error:  # sympy says no in many ways
        raise ValueError(f"mathematics: {str(error) or type(error).__name__}. {CAN}") from None


def _operation(name: str) -> Callable[[Task], str]:
    if name not in OPERATIONS:
        raise ValueError(f"{name!r} is not one of {', '.join(sorted(OPERATIONS))}")
    return OPERATIONS[name]


def _only(task: Task) -> Expr:
    if len(task.expressions) != 1:
        raise ValueError(f"{task.operation} takes one expression, not {len(task.expressions)}")
    return build(parse(task.expressions[0]))


def _whole_number(task: Task) -> Expr:
    number = _only(task)
    if not number.is_Integer:
        raise ValueError(f"{task.operation} takes a whole number, not {written(number)}")
    return number


def _numbers(task: Task) -> list[Expr]:
    numbers = [build(parse(text)) for text in task.expressions]
    if not 1 <= len(numbers) <= _MAX_LIST or not all(number.is_number for number in numbers):
        raise ValueError(f"{task.operation} takes 1 to {_MAX_LIST} numbers")
    return numbers


def _variable(task: Task, expression: Expr, name: str = "") -> Expr:
    if name or task.variable:
        return sympy.Symbol(name or task.variable)
    free = sorted(expression.free_symbols, key=str)
    if len(free) > 1 and sympy.Symbol("x") not in free:
        raise ValueError(f"say which variable is meant: {', '.join(map(str, free))}")
    return sympy.Symbol("x") if not free or sympy.Symbol("x") in free else free[0]


def _at(task: Task, expression: Expr) -> Expr:
    values = {sympy.Symbol(name): build(parse(text)) for name, text in task.at.items()}
    return expression.subs(values) if values else expression


def _evaluate(task: Task) -> str:
    expression = _at(task, _only(task))
    if isinstance(expression, sympy.Tuple):
        raise ValueError("a list alone is nothing to calculate")  # noqa: TRY004 - a wrong input
    decimal = any("." in text for text in (*task.expressions, *task.at.values()))
    return in_words(expression if expression.is_Rational else sympy.simplify(expression), decimal=decimal)


def _differentiate(task: Task) -> str:
    expression = _only(task)
    if not 1 <= task.order <= _MAX_ORDER:
        raise ValueError(f"the order of a derivative is 1 to {_MAX_ORDER}, not {task.order}")
    derivative = sympy.diff(expression, _variable(task, expression), task.order)
    if task.at:
        return in_words(sympy.simplify(_at(task, derivative)))
    return written(derivative)


def _integrate(task: Task) -> str:
    expression = _only(task)
    variable = _variable(task, expression)
    if not task.lower:
        found = sympy.integrate(expression, variable)
        if found.has(sympy.Integral):
            raise ValueError(f"no antiderivative of {written(expression)} was found")
        return f"{written(found)} + C"
    lower, upper = build(parse(task.lower)), build(parse(task.upper))
    return in_words(sympy.simplify(sympy.integrate(expression, (variable, lower, upper))))


def _limit(task: Task) -> str:
    expression = _only(task)
    point = build(parse(task.at[task.variable] if task.at else task.upper))
    return in_words(sympy.limit(expression, _variable(task, expression), point, "+-"))


def _over(operator: Callable[..., Expr]) -> Callable[[Task], str]:
    def run(task: Task) -> str:
        expression = _only(task)
        bounds = (_variable(task, expression), build(parse(task.lower)), build(parse(task.upper)))
        return in_words(sympy.simplify(operator(expression, bounds)))

    return run


def _factor(task: Task) -> str:
    expression = _only(task)
    if not expression.is_Integer:
        return written(sympy.factor(expression))
    factors = sympy.factorint(expression)
    return " * ".join(f"{p}^{n}" if n > 1 else f"{p}" for p, n in factors.items()) or "1"


def _is_prime(task: Task) -> str:
    number = _whole_number(task)
    if sympy.isprime(number):
        return f"yes, {number} is prime"
    factors = sympy.factorint(abs(number), limit=10_000) if abs(number) > 1 else {}
    least = min(factors, default=number)
    reason = f"it is divisible by {least}" if 1 < least < number else "it has no two distinct positive divisors"
    return f"no, {number} is not prime" + (f": {reason}" if least != number or number < 2 else "")


def _matrix(task: Task) -> sympy.Matrix:
    rows = _only(task)
    if not isinstance(rows, sympy.Tuple) or not all(isinstance(row, sympy.Tuple) for row in rows):
        raise ValueError("a matrix is written as a list of rows: [[1, 2], [3, 4]]")
    if len({len(row) for row in rows}) != 1 or len(rows) != len(rows[0]) or len(rows) > 12:
        raise ValueError("the matrix must be square, with up to 12 rows")
    return sympy.Matrix([list(row) for row in rows])


def _inverse(task: Task) -> str:
    matrix = _matrix(task)
    if matrix.det() == 0:
        return "the matrix has no inverse: its determinant is 0"
    return "[" + ", ".join(f"[{', '.join(map(written, row))}]" for row in matrix.inv().tolist()) + "]"


def _statistic(calculate: Callable[[list[Expr]], Expr]) -> Callable[[Task], str]:
    def run(task: Task) -> str:
        numbers = _numbers(task)
        return in_words(sympy.simplify(calculate(numbers)), decimal=any("." in text for text in task.expressions))

    return run


def _mean(numbers: list[Expr]) -> Expr:
    return sympy.Add(*numbers) / len(numbers)


def _median(numbers: list[Expr]) -> Expr:
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _deviation(numbers: list[Expr]) -> Expr:
    mean = _mean(numbers)
    return sympy.sqrt(_mean([(number - mean) ** 2 for number in numbers]))


def _whole(calculate: Callable[[list[Expr]], Expr]) -> Callable[[list[Expr]], Expr]:
    def run(numbers: list[Expr]) -> Expr:
        if not all(number.is_Integer for number in numbers):
            raise ValueError("whole numbers are needed here")
        return calculate(numbers)

    return run


OPERATIONS: dict[str, Callable[[Task], str]] = {
    "evaluate": _evaluate,
    "solve": solve,
    "differentiate": _differentiate,
    "integrate": _integrate,
    "limit": _limit,
    "sum_over": _over(sympy.summation),
    "product_over": _over(sympy.product),
    "simplify": lambda task: written(sympy.simplify(_only(task))),
    "expand": lambda task: written(sympy.expand(_only(task))),
    "factor": _factor,
    "is_prime": _is_prime,
    "next_prime": lambda task: str(sympy.nextprime(_whole_number(task))),
    "determinant": lambda task: in_words(_matrix(task).det()),
    "inverse": _inverse,
    "gcd": _statistic(_whole(sympy.gcd_list)),
    "lcm": _statistic(_whole(sympy.lcm_list)),
    "mean": _statistic(_mean),
    "median": _statistic(_median),
    "sum": _statistic(lambda numbers: sympy.Add(*numbers)),
    "product": _statistic(lambda numbers: sympy.Mul(*numbers)),
    "standard deviation": _statistic(_deviation),
}
