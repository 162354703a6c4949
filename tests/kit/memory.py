"""What processes hold in memory, and by how much that grows."""

from collections.abc import Iterable

import psutil

MIB = 1 << 20


class Memory:
    """The resident memory of processes; ``grown`` is by how many MiB each has grown, at the worst of all looks."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._before = [process.memory_info().rss for process in self._processes]
        self.grown = [0.0] * len(self._before)

    def look(self) -> None:
        """Measure."""
        for number, process in enumerate(self._processes):
            grown = (process.memory_info().rss - self._before[number]) / MIB
            self.grown[number] = max(self.grown[number], grown)
