"""Worker processes: reused, bounded, killed for real, and never left behind."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.errors import MeshError
from mesh.experts.backends.worker_pool import WorkerOptions, WorkerPool
from mesh.experts.calls import AttemptFailed
from tests.kit.processes import is_running
from tests.kit.waiting import until

TARGET = "tests.kit.worker_jobs:run"


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkerPool]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pool = WorkerPool(TARGET, WorkerOptions(limit_s=60, memory_mb=512))
    await pool.start()
    yield pool
    await pool.stop()


async def failure_of(running) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        await running
    return caught.value


async def gone(pid: int) -> None:
    await until(lambda: not is_running(pid), what=f"the end of process {pid}")


async def test_a_worker_is_reused(pool: WorkerPool):
    assert await pool.run("pid", {}) == await pool.run("pid", {})


async def test_jobs_run_beside_each_other_in_processes_of_their_own(pool: WorkerPool, tmp_path: Path):
    """Each waits for the two others."""
    assert await asyncio.gather(*(pool.run(f"meet 3 {tmp_path}", {}) for _ in range(3))) == ["met"] * 3


async def test_cancelling_kills_the_process_at_once(pool: WorkerPool):
    pid = int(await pool.run("pid", {}))
    running = asyncio.create_task(pool.run("spin", {}))
    await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    await gone(pid)
    assert int(await pool.run("pid", {})) != pid


async def test_what_takes_too_long_is_killed_and_the_limit_named(pool: WorkerPool):
    pool._limit_s = 1.0
    failure = await failure_of(pool.run("spin", {}))
    pool._limit_s = 60
    assert (failure.kind, failure.message) == ("invalid", "it takes over 1 s, the limit of one calculation")
    assert await pool.run("echo still here", {}) == "still here"


async def test_what_a_job_started_is_killed_with_it(pool: WorkerPool, tmp_path: Path):
    note = tmp_path / "pid"
    running = asyncio.create_task(pool.run(f"child {note}", {}))
    await until(lambda: note.exists() and bool(note.read_text()), what="the child's id")
    running.cancel()
    await asyncio.wait({running})
    await gone(int(note.read_text()))


async def test_memory_is_bounded(pool: WorkerPool):
    failure = await failure_of(pool.run("memory", {}))
    assert (failure.kind, failure.message) == ("invalid", "it needs more memory than one calculation may have")


async def test_endless_recursion_is_bounded(pool: WorkerPool):
    assert (await failure_of(pool.run("deep", {}))).message == "it is nested too deeply"


async def test_a_worker_that_dies_fails_its_job_and_is_replaced(pool: WorkerPool):
    failure = await failure_of(pool.run("die", {}))
    assert (failure.kind, failure.retryable) == ("failed", True)
    assert await pool.run("echo again", {}) == "again"


async def test_an_idle_worker_that_was_killed_is_replaced(pool: WorkerPool):
    pid = int(await pool.run("pid", {}))
    os.kill(pid, 9)
    await gone(pid)
    await until(lambda: all(worker.ended for worker in pool._idle), what="the end of its socket")
    assert await pool.run("echo again", {}) == "again"


async def test_a_lost_nursery_is_started_again(pool: WorkerPool):
    nursery = pool._nursery._process
    assert nursery is not None
    worker = int(await pool.run("pid", {}))
    os.kill(nursery.pid, 9)
    await gone(worker)
    await until(lambda: all(worker.ended for worker in pool._idle), what="the end of its socket")
    await pool.check()
    assert await pool.run("echo again", {}) == "again"


async def test_errors_of_the_job_are_told(pool: WorkerPool):
    failure = await failure_of(pool.run("break it", {}))
    assert (failure.kind, failure.message) == ("failed", "KeyError: 'it'")
    failure = await failure_of(pool.run("nonsense", {}))
    assert (failure.kind, failure.message) == ("invalid", "unknown job 'nonsense'")


async def test_what_a_job_prints_does_not_disturb_the_replies(pool: WorkerPool):
    assert await pool.run("print hello", {}) == "printed"
    assert await pool.run("echo x", {}) == "x"


async def test_any_text_passes(pool: WorkerPool):
    assert await pool.run("echo \0 é 漢 \ud800 \n", {}) == "\0 é 漢 \ud800 \n"
    assert len(await pool.run("echo " + "x" * 1_000_000, {})) == 1_000_000


async def test_input_is_bounded(pool: WorkerPool):
    assert "the limit is 1048576" in (await failure_of(pool.run("x" * 2_000_000, {}))).message


async def test_nothing_is_left_behind(pool: WorkerPool):
    await asyncio.gather(*(pool.run("sleep 0.1", {}) for _ in range(3)))
    assert pool._nursery._process is not None
    pids = [worker.pid for worker in pool._workers] + [pool._nursery._process.pid]
    await pool.stop()
    for pid in pids:
        await gone(pid)


async def test_what_cannot_be_imported_is_an_error_with_a_remedy():
    broken = WorkerPool("no.such.module:run", WorkerOptions())
    with pytest.raises(MeshError, match=r"no worker process for no.such.module:run \(exited with status 1\)") as caught:
        await broken.start()
    assert "log" in caught.value.remedy
    await broken.stop()


async def test_kill_9_of_the_node_takes_its_workers_along():
    program = (
        "import asyncio, os, signal\n"
        "from mesh.experts.backends.worker_pool import WorkerOptions, WorkerPool\n"
        "async def main():\n"
        f"    pool = WorkerPool({TARGET!r}, WorkerOptions())\n"
        "    await pool.start()\n"
        "    print(pool._nursery._process.pid, await pool.run('pid', {}), flush=True)\n"
        "    asyncio.create_task(pool.run('spin', {}))\n"
        "    await asyncio.sleep(0.2)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    output, _ = await node.communicate()
    assert node.returncode == -9
    for pid in map(int, output.split()):
        await gone(pid)
