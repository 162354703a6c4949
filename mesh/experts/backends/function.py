"""A callable that is at hand as an expert: as `mesh.experts.backends.python`, with nothing to import."""

from collections.abc import Callable

from mesh.experts.backends.python import PythonBackend, PythonOptions


class FunctionBackend(PythonBackend):
    """Calls ``function``, in the process of whoever made this."""

    def __init__(self, function: Callable[..., object], concurrency: int) -> None:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        super().__init__(PythonOptions.model_construct(path=f"{function.__module__}:{name}"), concurrency)
        self._given = function

    async def start(self) -> None:
        """See `Backend.start`. Raises MeshError when it cannot be called."""
        self._use(self._given)
