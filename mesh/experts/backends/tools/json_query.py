"""JMESPath over JSON: ``jmespath: people[?age > `30`].name in {"people": [...]}``."""

import json
import re
from typing import Any, NoReturn

import jmespath

_QUERY = re.compile(r"\s*(?:jmespath|json query|query)\s*:\s*(?P<rest>.+)", re.IGNORECASE | re.DOTALL)
_IN_DATA = re.compile(r"\s+(?:in|of|from|on)\s+(?=[\[{])")
_COMPARED_NUMBER = re.compile(
    r"""(?P<quoted>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?:\\.|[^`\\])*`)|((?:[<>=!]=|[<>])\s*)(-?\d+(?:\.\d+)?)"""
)
_MAX_EXPRESSION = 2000
_MAX_ANSWER = 1 << 20


def answer(content: str, options: dict[str, Any]) -> str | None:
    """The result, as JSON. Options: ``expression`` and ``data`` (JSON, or a string of it; else the call's text)."""
    if options:
        data = options.get("data", content)
        return _search(str(options.get("expression", "")), _decode(data) if isinstance(data, str) else data)
    match = _QUERY.fullmatch(content)
    return _search(*_split(match["rest"])) if match else None


def _split(text: str) -> tuple[str, Any]:
    for border in _IN_DATA.finditer(text):
        try:
            return text[: border.start()], _decode(text[border.end() :])
        except ValueError:
            continue
    raise ValueError("a query is written `jmespath: <expression> in <JSON object or list>`, with valid JSON")


def _decode(text: str) -> Any:  # noqa: ANN401 - any JSON
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _with_literals(expression: str) -> str:
    """A number behind a comparison is meant as one, though JMESPath wants it in backticks: ``[?age > 30]``."""
    return _COMPARED_NUMBER.sub(lambda match: match[0] if match["quoted"] else f"{match[2]}`{match[3]}`", expression)


def _search(expression: str, data: Any) -> str:  # noqa: ANN401 - any JSON
    if not 0 < len(expression.strip()) <= _MAX_EXPRESSION:
        raise ValueError(f"an expression has 1 to {_MAX_EXPRESSION} characters, this one {len(expression)}")
    try:
        result = jmespath.search(_with_literals(expression.strip()), data)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"JMESPath: {' '.join(str(error).split())[:300]}") from None
    text = json.dumps(result, ensure_ascii=False)
    if len(text) > _MAX_ANSWER:
        raise ValueError(f"the result has {len(text)} characters, the limit is {_MAX_ANSWER}")
    return text
