"""Synaptic Mesh: a node that joins machines into a mesh of experts, and can prove what it did."""

__version__ = "0.1.0"
