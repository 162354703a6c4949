import os
import resource
import time

import psutil

from mesh.health.host_psutil import PsutilHost


async def test_the_figures_are_those_of_this_machine(tmp_path):
    host = PsutilHost(tmp_path)
    deadline = time.monotonic() + 5
    sample = await host.read()
    while sample.cpu_percent < 0 and time.monotonic() < deadline:
        sample = await host.read()
    assert 0 <= sample.cpu_percent <= 100
    assert abs(sample.memory_percent - psutil.virtual_memory().percent) < 20
    assert abs(sample.disk_percent - psutil.disk_usage(str(tmp_path)).percent) < 5
    assert sample.rss_bytes >= psutil.Process().memory_info().rss * 0.9


async def test_open_files_are_counted_against_the_limit(tmp_path):
    host = PsutilHost(tmp_path)
    before = (await host.read()).open_files_percent
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    opened = [os.open(tmp_path, os.O_RDONLY) for _ in range(50)]
    try:
        grown = ((await host.read()).open_files_percent - before) * limit / 100
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert 45 <= grown <= 55


async def test_busy_processors_are_seen(tmp_path):
    host = PsutilHost(tmp_path)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    assert (await host.read()).cpu_percent >= 80 / (os.cpu_count() or 1)


async def test_a_home_that_vanished_is_unknown_and_not_fatal(tmp_path):
    sample = await PsutilHost(tmp_path / "gone").read()
    assert sample.disk_percent == -1
    assert sample.memory_percent >= 0
