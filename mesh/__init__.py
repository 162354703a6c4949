"""Synaptic Mesh: a node that joins machines into a mesh of experts, and can prove what it did.

``from mesh import Mesh`` asks it from Python: ``with Mesh.connect() as mesh: print(mesh.ask("…").text)``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.api.client import Mesh
    from mesh.api.failures import RequestFailed
    from mesh.errors import NodeUnreachable
    from mesh.experts.queries import Outcome

__version__ = "0.1.0"
__all__ = ["Mesh", "NodeUnreachable", "Outcome", "RequestFailed", "__version__"]

# They are loaded when they are asked for: most that import from here want nothing of NATS.
_HOMES = {
    "Mesh": "mesh.api.client",
    "NodeUnreachable": "mesh.errors",
    "Outcome": "mesh.experts.queries",
    "RequestFailed": "mesh.api.failures",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever is there by that name
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
