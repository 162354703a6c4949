"""The composition root: the one place that knows every part of a node, and the order in which they live."""

from mesh.node.node import Node

__all__ = ["Node"]
