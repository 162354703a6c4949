"""What is wrong with the settings, said so that it can be corrected: the key or variable, its value, its place."""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, SettingsError

from mesh.errors import ConfigError

ENV_HOME = "MESH_HOME"
_LONGEST = 80


def refuse_unknown_variables(environ: Mapping[str, str], settings: type[BaseSettings]) -> None:
    """Raise ConfigError for a misspelt variable: pydantic-settings ignores those in silence."""
    prefix = str(settings.model_config["env_prefix"])
    known = {ENV_HOME, *_variables(settings, prefix)}
    for name, value in environ.items():
        if not name.upper().startswith(prefix) or _is_known(name.upper(), known):
            continue
        near = difflib.get_close_matches(name.upper(), sorted(known), n=1)
        raise ConfigError(
            f"the environment variable {name}={_short(value)} is not a setting",
            remedy=f"Did you mean {near[0].rstrip('_')}?" if near else "Unset it; `mesh config` lists the settings.",
        )


def unreadable_variable(error: SettingsError, environ: Mapping[str, str], prefix: str) -> ConfigError:
    """A variable for a whole table or list has to be JSON; pydantic-settings tells us the table alone."""
    section = str(error).split('"')[1].upper()
    for name, value in environ.items():
        if name.upper().split("__")[0] == prefix + section and not _is_json(value):
            return ConfigError(
                f"the environment variable {name}={_short(value)} is not JSON",
                remedy="""Write tables and lists as JSON, like '["a", "b"]' or '{"key": 1}'.""",
            )
    return ConfigError(str(error), remedy=f"Correct the {prefix}{section} variables.")


def explain(error: ValidationError, path: str, settings: type[BaseSettings], environ: Mapping[str, str]) -> ConfigError:
    """Every setting that was refused, why, and the file or variable that it came from."""
    prefix = str(settings.model_config["env_prefix"])
    lines, places = [], set()
    for problem in error.errors(include_url=False):
        location = problem["loc"]
        key, value = _named(location), _short(problem["input"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{key} = {value} is not a setting{_suggestion(location, settings)}")
        elif problem["type"] == "missing":
            lines.append(f"{key} is missing")
        else:
            lines.append(f"{key} = {value}: {problem['msg'].removeprefix('Value error, ')}")
        places.add(_source(location, prefix, environ) or path)
    return ConfigError("; ".join(lines), remedy=f"Correct it in {' and '.join(sorted(places))}.")


def _named(location: tuple[int | str, ...]) -> str:
    """A setting as people count: ``experts (number 2).backend`` is the backend of the second expert."""
    named = "".join(f" (number {part + 1})" if isinstance(part, int) else f".{part}" for part in location)
    return named.removeprefix(".")


def _variables(settings: type[BaseSettings], prefix: str) -> Iterator[str]:
    """What may be set; a name that ends in two underscores may go on freely."""
    for section, field in settings.model_fields.items():
        name = f"{prefix}{section.upper()}"
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for key, inner in field.annotation.model_fields.items():
                yield f"{name}__{key.upper()}"
                if str(inner.annotation).startswith("dict["):
                    yield f"{name}__{key.upper()}__"


def _is_known(name: str, known: set[str]) -> bool:
    return name in known or any(free.endswith("__") and name.startswith(free) for free in known)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _source(location: tuple[int | str, ...], prefix: str, environ: Mapping[str, str]) -> str:
    """The environment variable that gave this setting its value; empty when none did."""
    set_here = {name.upper(): name for name in environ}
    for end in range(len(location), 0, -1):
        name = prefix + "__".join(str(part) for part in location[:end]).upper()
        if name in set_here:
            return set_here[name]
    return ""


def _short(value: object) -> str:
    """The value as people wrote it, but neither whole tables, which may hold secrets, nor long texts."""
    if isinstance(value, dict):
        return "{…}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "[…]"
    text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _suggestion(location: tuple[int | str, ...], settings: type[BaseModel]) -> str:
    model: object = settings
    for part in location[:-1]:
        model = _inside(model, part)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return ""
    near = difflib.get_close_matches(str(location[-1]), list(model.model_fields), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _inside(annotation: object, part: int | str) -> object:
    """The type of what ``part`` names in a model, a list or a dict."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return field.annotation if field is not None else None
    inner = get_args(annotation)
    return inner[-1] if inner else None
