"""Exact mathematics by sympy: a small grammar that never evaluates text, in processes that can be killed."""

from mesh.experts.backend import Kind
from mesh.experts.backends.pooled import PooledBackend
from mesh.experts.backends.worker_pool import WorkerOptions


class MathematicsBackend(PooledBackend):
    """Answers requests such as ``solve x^2 - 5x + 6 = 0``; see docs/experts.md for what it understands."""

    job = "mesh.experts.backends.mathematics.solver:answer"
    packages = ("sympy",)


KIND = Kind(WorkerOptions, MathematicsBackend)
