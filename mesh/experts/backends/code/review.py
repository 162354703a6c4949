"""A review of Python source as Markdown. Runs in a worker process; ruff is its child."""

import ast
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from mesh.experts.backends.code.source import source_in
from mesh.experts.backends.code.structure import definitions_in

_TIMEOUT_S = 30
_MAX_FINDINGS = 50
_MAX_SOURCE = 500_000
_ERROR = 2  # what ruff exits with when it could not do its work


class Finding(NamedTuple):
    """One remark of ruff."""

    line: int
    column: int
    code: str
    message: str
    fixable: bool


def answer(content: str, options: dict[str, Any]) -> str:
    """The review. Options: ``source`` (instead of the text), ``rules``, ``line_length``. Raises ValueError."""
    source = str(options["source"]) if "source" in options else source_in(content)
    if len(source) > _MAX_SOURCE:
        raise ValueError(f"the source has {len(source)} characters, the limit is {_MAX_SOURCE}")
    error = _syntax_error(source)
    findings = _lint(source, options.get("rules", ["E", "F"]))
    if error is not None:
        return "\n\n".join([_diagnosis(error, source), *_findings(findings)])
    formatted = _ruff(["format", f"--line-length={options.get('line_length', 100)}"], source)
    return "\n\n".join(
        [_summary(findings, source, formatted), *_findings(findings), *_structure(source), _fenced(formatted)]
    )


def _syntax_error(source: str) -> SyntaxError | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(source)
    except SyntaxError as error:
        return error
    except ValueError as error:
        return SyntaxError(str(error))
    return None


def _lint(source: str, rules: Sequence[str]) -> list[Finding]:
    report = json.loads(_ruff(["check", "--output-format=json", f"--select={','.join(rules)}"], source) or "[]")
    return [
        Finding(
            line=remark["location"]["row"],
            column=remark["location"]["column"],
            code=remark["code"] or "invalid-syntax",
            message=remark["message"],
            fixable=remark["fix"] is not None,
        )
        for remark in report
    ]


def _ruff(arguments: list[str], source: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--no-cache", "--stdin-filename=snippet.py", "-"]
    done = subprocess.run(
        command, input=source, capture_output=True, text=True, encoding="utf-8", timeout=_TIMEOUT_S, check=False
    )
    if done.returncode == _ERROR and not done.stdout:
        raise RuntimeError(f"ruff: {done.stderr.strip()[:300]}")
    return done.stdout


def _diagnosis(error: SyntaxError, source: str) -> str:
    line, column = error.lineno or 1, error.offset or 1
    text = source.splitlines()[line - 1] if 0 < line <= len(source.splitlines()) else ""
    marked = f"```\n{text}\n{' ' * (column - 1)}^\n```" if len(text) < 200 else ""
    return f"Syntax error in line {line}, column {column}: {error.msg}.\n{marked}".strip()


def _summary(findings: list[Finding], source: str, formatted: str) -> str:
    remarks = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}" if findings else "nothing to object to"
    layout = "already formatted" if formatted == source else "formatting changes it"
    return f"The code parses; {remarks}; {layout}."


def _findings(findings: list[Finding]) -> list[str]:
    if not findings:
        return []
    lines = [
        f"- line {each.line}, column {each.column}: {each.code} {each.message}{' (fixable)' if each.fixable else ''}"
        for each in findings[:_MAX_FINDINGS]
    ]
    more = [f"- and {len(findings) - _MAX_FINDINGS} more"] if len(findings) > _MAX_FINDINGS else []
    return ["\n".join(["Findings:", *lines, *more])]


def _structure(source: str) -> list[str]:
    with warnings.catch_warnings(action="ignore"):
        tree = ast.parse(source)
    lines = [
        f"- {each.kind} {each.name}({each.arguments}), lines {each.first_line}–{each.last_line}"
        + (f", complexity {each.complexity}" if each.complexity else "")
        for each in definitions_in(tree)
    ]
    return ["\n".join(["Structure:", *lines])] if lines else []


def _fenced(code: str) -> str:
    return f"Formatted:\n```python\n{code}```"
