"""Equations, systems of them, and inequalities."""

import sympy
from sympy import Expr
from sympy.functions.elementary.trigonometric import TrigonometricFunction
from sympy.polys.rootoftools import ComplexRootOf

from mesh.experts.backends.mathematics.build import build
from mesh.experts.backends.mathematics.grammar import parse
from mesh.experts.backends.mathematics.requests import Task
from mesh.experts.backends.mathematics.writing import approximately, written

_STARTS = (0, 1, -1, 2, -2, 5, 10, 0.5)
_MAX_EQUATIONS = 20


def solve(task: Task) -> str:
    """``x = 2 or x = 3``. Raises ValueError when there is nothing to solve."""
    if len(task.expressions) > _MAX_EQUATIONS:
        raise ValueError(f"{len(task.expressions)} equations, the limit is {_MAX_EQUATIONS}")
    relations = [_relation(text) for text in task.expressions]
    free = sorted(set().union(*(relation.free_symbols for relation in relations)), key=str)
    if not free:
        return _truth(relations)
    wanted = [sympy.Symbol(name) for name in task.variables] or _wanted(relations, free)
    if unknown := [str(variable) for variable in wanted if variable not in free]:
        raise ValueError(f"{', '.join(unknown)} does not occur in the equation")
    if any(not isinstance(relation, sympy.Eq) for relation in relations):
        return _inequality(relations, wanted)
    if len(relations) == 1 and len(wanted) == 1:
        return _equation(relations[0], wanted[0])
    return _system(relations, wanted)


def _relation(text: str) -> Expr:
    built = build(parse(text))
    if isinstance(built, sympy.Tuple):
        raise ValueError(f"{text!r} is a list, not an equation")  # noqa: TRY004 - a wrong input
    if built in (sympy.true, sympy.false):
        return built
    return built if built.is_Relational else sympy.Eq(built, 0, evaluate=False)


def _truth(relations: list[Expr]) -> str:
    holds = all(bool(sympy.simplify(relation)) for relation in relations)
    return "true" if holds else "false"


def _wanted(relations: list[Expr], free: list[Expr]) -> list[Expr]:
    if len(relations) > 1 or len(free) == 1:
        return free
    x = sympy.Symbol("x")
    if x in free:
        return [x]
    if isinstance(relations[0], sympy.Eq) and relations[0].lhs in free:
        return [relations[0].lhs]
    raise ValueError(f"say what to solve for: {', '.join(map(str, free))}")


def _equation(equation: Expr, variable: Expr) -> str:
    difference = equation.lhs - equation.rhs
    if sympy.simplify(difference) == 0:
        return f"every {variable}"
    try:
        found = sympy.solve(difference, variable)
    except NotImplementedError:
        return _numerically(difference, variable)
    if not found:
        return "no solution"
    text = " or ".join(f"{variable} {_value(value)}" for value in _ordered(found))
    period = sympy.periodicity(difference, variable) if difference.has(TrigonometricFunction) else None
    return f"{text} (and every multiple of {written(period)} added to it)" if period else text


def _ordered(values: list[Expr]) -> list[Expr]:
    return sorted(values) if all(value.is_real and value.is_number for value in values) else values


def _value(value: Expr) -> str:
    if value.has(ComplexRootOf) or (len(str(value)) > 120 and value.is_number):
        return f"≈ {approximately(value)}"
    if value.is_number and not value.is_Rational:
        return f"= {written(value)} ≈ {approximately(value)}"
    return f"= {written(value)}"


def _numerically(difference: Expr, variable: Expr) -> str:
    found: list[Expr] = []
    for start in _STARTS:
        try:
            root = sympy.nsolve(difference, variable, start)
        except (ValueError, TypeError, ZeroDivisionError, NotImplementedError):
            continue
        if all(abs(root - other) > 1e-9 for other in found):
            found.append(root)
    if not found:
        raise ValueError("no solution could be found, neither exactly nor by approximation")
    text = " or ".join(f"{variable} ≈ {approximately(root)}" for root in _ordered(found))
    return f"{text} (by approximation; there may be more)"


def _inequality(relations: list[Expr], wanted: list[Expr]) -> str:
    if len(wanted) != 1:
        raise ValueError("inequalities are solved for one variable")
    real = sympy.Symbol(str(wanted[0]), real=True)
    try:
        result = sympy.reduce_inequalities([relation.subs(wanted[0], real) for relation in relations], real)
    except NotImplementedError:
        raise ValueError("this inequality is of a kind that is not solved") from None
    if result in (sympy.true, sympy.false):
        return f"every {real}" if result == sympy.true else "no solution"
    return written(result).replace("&", "and").replace("|", "or")


def _system(equations: list[Expr], wanted: list[Expr]) -> str:
    try:
        solutions = sympy.solve(equations, wanted, dict=True)
    except NotImplementedError:
        raise ValueError("this system is of a kind that is not solved") from None
    if not solutions:
        return "no solution"
    return " or ".join(_assignments(solution) for solution in solutions)


def _assignments(solution: dict[Expr, Expr]) -> str:
    return ", ".join(f"{variable} {_value(solution[variable])}" for variable in sorted(solution, key=str))
