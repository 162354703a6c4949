"""The mesh without a node: its journal, routing and experts inside a program, in a browser as well as in a test."""

from mesh.embedded.absent import NeedsNode
from mesh.embedded.local_mesh import LocalMesh

__all__ = ["LocalMesh", "NeedsNode"]
