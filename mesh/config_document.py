"""The settings described, from the code that reads them: the middle part of ``docs/settings.md``."""

import json
from collections.abc import Iterator
from inspect import getdoc
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mesh.config import (
    AlertRuleConfig,
    CanaryConfig,
    Config,
    ConsensusConfig,
    DomainConfig,
    DomainRoutingConfig,
    ExpertConfig,
    Section,
)

BEGIN = "<!-- settings: begin (made from the code; `pytest tests/docs --refresh-golden` renews it) -->"
END = "<!-- settings: end -->"
_BELOW: dict[str, list[tuple[str, type[Section]]]] = {
    "routing": [
        ("[routing.consensus]", ConsensusConfig),
        ("[routing.domains.NAME]", DomainRoutingConfig),
        ("[[routing.canaries]]", CanaryConfig),
    ],
    "alerts": [("[alerts.rules.NAME]", AlertRuleConfig)],
}
_LISTS: dict[str, tuple[str, type[Section]]] = {
    "domains": ("[domains.NAME]", DomainConfig),
    "experts": ("[[experts]]", ExpertConfig),
}
_BOUNDS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))


def described() -> str:
    """Markdown: a section for each table of the file, a line for each setting."""
    lines = [BEGIN]
    for name, field in Config.model_fields.items():
        title, section = _LISTS.get(name) or (f"[{name}]", type(field.default))
        for heading, model in [(title, section), *_BELOW.get(name, [])]:
            lines += _section(heading, model)
    return "\n".join([*lines, "", END])


def _section(heading: str, section: type[BaseModel]) -> Iterator[str]:
    yield from ("", f"## `{heading}`", "")
    about = " ".join((getdoc(section) or "").split()).partition("``: ")[2].replace("``", "`")
    if about:
        yield from (about[:1].upper() + about[1:], "")
    yield from ("| setting | default | what | may be |", "|---|---|---|---|")
    for name, field in section.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            yield f"| `{name}` | {_default(field)} | {field.description or ''} | {_range(field)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "to be given"
    return "" if field.default is None else f"`{json.dumps(field.default, ensure_ascii=False)}`"


def _range(field: FieldInfo) -> str:
    choices = ", ".join(f"`{choice}`" for choice in _choices(field.annotation))
    if choices:
        return choices
    given = {name: getattr(part, name) for part in field.metadata for name, _ in _BOUNDS if hasattr(part, name)}
    return " and ".join(f"{sign} {given[name]}" for name, sign in _BOUNDS if name in given)


def _choices(annotation: Any) -> tuple[object, ...]:  # noqa: ANN401 - whatever a field is annotated with
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for part in get_args(annotation) if (found := _choices(part))), ())
