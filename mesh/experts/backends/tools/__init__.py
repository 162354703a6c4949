"""Small exact tools: unit conversion (pint), dates (dateutil) and JSON queries (JMESPath)."""

from mesh.experts.backend import Kind
from mesh.experts.backends.pooled import PooledBackend
from mesh.experts.backends.worker_pool import WorkerOptions


class ToolsBackend(PooledBackend):
    """Picks the tool that understands the request; see docs/experts.md for what each takes."""

    job = "mesh.experts.backends.tools.desk:answer"
    packages = ("pint", "python-dateutil", "jmespath")


KIND = Kind(WorkerOptions, ToolsBackend)
