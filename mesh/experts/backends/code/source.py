"""Finding the Python in a request: in fences, behind a colon, or all of it."""

import ast
import re

_FENCE = re.compile(
    r"^[ \t]*(```+|~~~+)[ \t]*(?P<language>[\w+-]*)[^\n]*\n(?P<code>.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL
)
# How a line of Python starts that is unlikely to be English.
_OPENING = (
    r"(?:(?:async\s+)?def\s+\w|class\s+\w+\s*[:(]|import\s+[\w.]+\s*(?:$|,|as\b|#)|from\s+[\w.]+\s+import\b"
    r"|for\s+.+\s+in\s.*[(:\[]|while\s.*:|if\s.*:|try\s*:|with\s.*:|return\b|print\s*\(|@\w|[A-Za-z_]\w*\s*[-+*/|&]?=[^=])"
)
_CODE_LINE = re.compile(rf"\s*{_OPENING}")
_BEHIND_COLON = re.compile(rf"[^\n`:]{{1,200}}:\s+(?P<code>(?=(?m:{_OPENING})).*)", re.DOTALL)


def source_in(content: str) -> str:
    """The Python source in a request, ending in a newline. Raises ValueError when there is none."""
    fenced = [
        match for match in _FENCE.finditer(content) if match["language"].lower() in ("", "py", "python", "python3")
    ]
    if fenced:
        return _ended("\n".join(match["code"] for match in fenced))
    content = content.replace("\r\n", "\n").strip("\n")
    if _is_program(content):
        return _ended(content)
    if (match := _BEHIND_COLON.match(content)) and not _CODE_LINE.match(content):
        return _ended(match["code"])
    lines = content.split("\n")
    for number, line in enumerate(lines):
        if _CODE_LINE.match(line):
            return _ended("\n".join(lines[number:]))
    raise ValueError("there is no Python in this request; send source, bare or in a ```python block")


def _is_program(text: str) -> bool:
    """Whether it parses, and as more than a word of English: ``hello`` is a valid expression."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return False
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Name | ast.Constant)) for node in body)


def _ended(code: str) -> str:
    return code.rstrip() + "\n"
