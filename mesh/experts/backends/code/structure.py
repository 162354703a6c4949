"""What a module is made of: classes and functions, where they are, and how complex."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.comprehension)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class Definition(NamedTuple):
    """A class or function: ``name`` is dotted, ``complexity`` is McCabe's (0 for classes)."""

    kind: str
    name: str
    arguments: str
    first_line: int
    last_line: int
    complexity: int


def definitions_in(tree: ast.AST, prefix: str = "") -> Iterator[Definition]:
    """Every class and function, in the order of the source."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in node.bases)
            yield Definition("class", prefix + node.name, bases, node.lineno, node.end_lineno or node.lineno, 0)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            kind = "async function" if isinstance(node, ast.AsyncFunctionDef) else "function"
            last = node.end_lineno or node.lineno
            arguments = ast.unparse(node.args)
            yield Definition(kind, prefix + node.name, arguments, node.lineno, last, complexity_of(node))
        inner = f"{prefix}{node.name}." if isinstance(node, _SCOPES) and not isinstance(node, ast.Lambda) else prefix
        yield from definitions_in(node, inner)


def complexity_of(function: ast.AST) -> int:
    """McCabe's cyclomatic complexity: 1, and 1 for each branch, loop, handler, condition and boolean operator.

    Functions and classes inside count for themselves.
    """
    complexity = 1
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, _SCOPES):
            continue
        complexity += isinstance(node, _BRANCHES)
        if isinstance(node, ast.BoolOp):
            complexity += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            complexity += len(node.ifs)
        elif isinstance(node, ast.match_case):
            complexity += 1
        waiting.extend(ast.iter_child_nodes(node))
    return complexity
