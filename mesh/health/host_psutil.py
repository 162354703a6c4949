"""The machine's figures by psutil.

Processor and memory are the *machine's*, because whatever fills them up slows the node's requests; the disk is
the filesystem of the node's home; open files are this process's against its soft RLIMIT_NOFILE; resident memory
is what the node itself costs, summed over its process tree (pages shared within it count more than once).
"""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import structlog

from mesh.health.sampler import HostSample
from mesh.health.score import UNKNOWN

T = TypeVar("T", int, float)
log = structlog.get_logger(__name__)


class PsutilHost:
    """Reads this machine; ``home`` is the directory whose disk matters."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process = psutil.Process()
        self._cpu = _cpu_times()
        self._failed: set[str] = set()

    async def read(self) -> HostSample:
        """See `Host.read`. A figure that the system does not give is -1, and logged once."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> HostSample:
        return HostSample(
            cpu_percent=self._try("cpu", self._cpu_percent, UNKNOWN),
            memory_percent=self._try("memory", lambda: float(psutil.virtual_memory().percent), UNKNOWN),
            disk_percent=self._try("disk", lambda: float(psutil.disk_usage(str(self._home)).percent), UNKNOWN),
            open_files_percent=self._try("open files", self._open_files_percent, UNKNOWN),
            rss_bytes=self._try("resident memory", self._rss_bytes, -1),
        )

    def _try(self, what: str, measure: Callable[[], T], otherwise: T) -> T:
        try:
            value = measure()
        except (OSError, psutil.Error, NotImplementedError) as error:
            if what not in self._failed:
                log.warning("cannot be measured", what=what, error=str(error))
            self._failed.add(what)
            return otherwise
        self._failed.discard(what)
        return value

    def _cpu_percent(self) -> float:
        """Share of the processors' time since the last call that was not idle; waiting for I/O counts as idle."""
        (busy, total), (was_busy, was_total) = _cpu_times(), self._cpu
        if total <= was_total:
            return UNKNOWN
        self._cpu = (busy, total)
        return min(100.0, max(0.0, 100 * (busy - was_busy) / (total - was_total)))

    def _open_files_percent(self) -> float:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return 0.0 if limit == resource.RLIM_INFINITY else 100 * self._process.num_fds() / limit

    def _rss_bytes(self) -> int:
        total = self._process.memory_info().rss
        for child in self._process.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # it ended while we looked
        return int(total)


def _cpu_times() -> tuple[float, float]:
    times = psutil.cpu_times()
    # Linux counts a guest's time within user and nice as well.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total
