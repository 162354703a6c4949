"""Python source, diagnosed for real: parsed by ``ast``, linted and formatted by ruff, its structure measured."""

import sys
from typing import Any

from pydantic import Field

from mesh.experts.backend import Kind
from mesh.experts.backends.pooled import PooledBackend
from mesh.experts.backends.worker_pool import WorkerOptions
from mesh.experts.calls import Call

_RULES = ["E", "W", "F", "B", "C4", "PERF", "PIE", "RET", "S", "SIM", "UP"]


class CodeOptions(WorkerOptions):
    """``options`` of ``backend = "code"``."""

    rules: list[str] = Field(default=_RULES, min_length=1, description="Rule prefixes that ruff selects")
    line_length: int = Field(default=100, ge=40, le=320, description="Where ruff breaks lines")


class CodeBackend(PooledBackend):
    """Answers Python source, bare or in a fenced block, with findings, structure and the formatted code."""

    job = "mesh.experts.backends.code.review:answer"
    packages = ("ruff",)

    def __init__(self, options: CodeOptions, concurrency: int) -> None:
        super().__init__(options, concurrency)
        self._settings = {"rules": options.rules, "line_length": options.line_length}

    async def start(self) -> None:
        """See `PooledBackend.start`. The grammar is that of the Python that runs."""
        await super().start()
        self.model += f", python {sys.version_info.major}.{sys.version_info.minor}"

    def settings(self, call: Call) -> dict[str, Any]:
        """The rules, and ``options.source``, which is taken before the text."""
        source = call.options.get("source")
        return {**self._settings, **({"source": source} if source is not None else {})}


KIND = Kind(CodeOptions, CodeBackend)
