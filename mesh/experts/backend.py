"""The port behind every expert: something that answers calls. Adapters: `mesh.experts.backends`.

All pass ``tests/contracts/test_backends.py``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from mesh.experts.calls import Answer, Call, Emit


class Backend(Protocol):
    """Answers calls, several at once when it is asked to."""

    @property
    def model(self) -> str:
        """What it says it is, for example ``sympy 1.14.0``."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """What it can do besides answering a text: ``chat``, ``tools``, ``embeddings``. Known before it starts."""
        ...

    async def start(self) -> None:
        """Load. Raises MeshError, with a remedy, when it cannot."""
        ...

    async def stop(self) -> None:
        """Let go of everything that `start` and `answer` took."""
        ...

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Answer, handing over pieces through ``emit`` as they come.

        ``Answer.text`` is all of them joined; where the call is not ``held`` it may be empty. Awaiting ``emit`` is
        back-pressure. Cancelling the task stops the work. Raises AttemptFailed.
        """
        ...

    async def check(self) -> None:
        """Raise MeshError when it could not serve a call now."""
        ...


class Options(BaseModel):
    """What a backend takes from ``[experts.options]``; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Kind(NamedTuple):
    """One kind of backend: its options, how it is made of them, and how many calls it can really run at once.

    ``build`` takes the options and the number of calls that will run at once.
    """

    options: type[Options]
    build: Callable[[Any, int], Backend]
    max_concurrency: int | None = None
