"""The backends that ship, each by its name in the configuration.

Adding one: its module here, its line in BACKENDS and its name in `mesh.config.ExpertConfig`, its case in the
contract suite. A module offers ``KIND`` and is imported only when an expert uses it: sympy, pint and language
models cost nothing to a node that has none.
"""

import difflib
from importlib import import_module

from pydantic import ValidationError

from mesh.config import ExpertConfig
from mesh.errors import ConfigError
from mesh.experts.backend import Backend, Kind, Options
from mesh.experts.recruiting import ExpertSource

BACKENDS: dict[str, str] = {
    "python": "mesh.experts.backends.python",
    "openai": "mesh.experts.backends.openai",
    "mathematics": "mesh.experts.backends.mathematics",
    "code": "mesh.experts.backends.code",
    "context": "mesh.experts.backends.context",
    "llm": "mesh.experts.backends.llm",
    "tools": "mesh.experts.backends.tools",
    "subprocess": "mesh.experts.backends.subprocess",
    "wasm": "mesh.experts.backends.wasm",
    "mcp": "mesh.experts.backends.mcp",
    "nats": "mesh.experts.backends.nats",
}


def kind_of(config: ExpertConfig) -> Kind:
    """The kind of backend that an expert names."""
    kind: Kind = import_module(BACKENDS[config.backend]).KIND
    return kind


def make_backend(config: ExpertConfig) -> Backend:
    """The expert's backend, not yet started. Raises ConfigError that names the expert, the option and its value."""
    kind = kind_of(config)
    return kind.build(_options(config, kind), concurrency_of(config))


def source_of(config: ExpertConfig) -> ExpertSource | None:
    """Where the experts come from that ``config`` stands for; None when it is one expert. Raises ConfigError."""
    if config.backend != "openai" or not config.options.get("models"):
        return None
    from mesh.experts.backends.openai import OpenAIOptions
    from mesh.experts.backends.openai_models import OpenAIModels

    options = _options(config, kind_of(config))
    assert isinstance(options, OpenAIOptions)
    return OpenAIModels(config, options)


def _options(config: ExpertConfig, kind: Kind) -> Options:
    try:
        return kind.options.model_validate(config.options)
    except ValidationError as error:
        raise ConfigError(
            f"expert {config.name!r} ({config.backend}): {_explain(error, kind)}",
            remedy=f"Its options are: {', '.join(sorted(kind.options.model_fields)) or 'none'}.",
        ) from None


def concurrency_of(config: ExpertConfig) -> int:
    """How many calls of this expert run at once: what is configured, or what its backend can do if that is less."""
    most = kind_of(config).max_concurrency
    return config.concurrency if most is None else min(config.concurrency, most)


def _explain(error: ValidationError, kind: Kind) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        option = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(option, list(kind.options.model_fields), n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            problems.append(f"options.{option} = {problem['input']!r} is not an option{hint}")
        elif problem["type"] == "missing":
            problems.append(f"options.{option} is missing")
        else:
            problems.append(f"options.{option} = {problem['input']!r}: {problem['msg']}")
    return "; ".join(problems)
