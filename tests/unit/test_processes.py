import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
import structlog

from mesh.processes import SupervisedProcess, describe_exit, wait_for_exit
from tests.kit.processes import is_running

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]
FAILING = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(15, lambda *_: sys.exit(3)); print('up', flush=True); signal.pause()",
]


class Watched:
    """A supervised process, and what it told."""

    def __init__(self, tmp_path, command=SLEEPER, **options):
        self.log = tmp_path / "logs" / "child.log"
        self.exits, self.restarts, self.starts = [], asyncio.Queue(), 0
        self.command = command
        self.process = SupervisedProcess(
            "child",
            self._next_command,
            log_path=self.log,
            ready=options.pop("ready", self.says_up),
            on_restart=lambda *told: self.restarts.put_nowait(told),
            on_exit=self.exits.append,
            **options,
        )

    def _next_command(self):
        self.starts += 1
        return self.command

    async def says_up(self, process):
        wanted = self.starts
        await until(lambda: self.log.read_text().count("up") >= wanted or process.poll() is not None)
        if process.poll() is not None:
            raise RuntimeError(describe_exit(process.returncode))

    async def __aenter__(self):
        await self.process.start()
        return self

    async def __aexit__(self, *_):
        await self.process.stop()


async def until(condition, deadline_s=60):
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_runs_after_start_and_not_after_stop(tmp_path):
    async with Watched(tmp_path) as child:
        pid = child.process.pid
        assert is_running(pid)
    assert not is_running(pid)
    assert child.process.pid is None
    assert child.exits == [], "a stop is no failure"


async def test_a_killed_process_is_started_again_and_said_so(tmp_path):
    async with Watched(tmp_path) as child:
        first = child.process.pid
        os.kill(first, signal.SIGKILL)
        reason, restarts, down_ms = await asyncio.wait_for(child.restarts.get(), 60)
        assert (reason, restarts) == ("killed by SIGKILL", 1)
        assert child.exits == ["killed by SIGKILL"]
        assert 0 < down_ms < 20_000
        assert child.process.pid != first
        assert is_running(child.process.pid)


async def test_the_pauses_between_restarts_grow(tmp_path):
    class Recorded:
        def __init__(self):
            self.pauses = []

        def now(self):
            return time.time()

        def monotonic(self):
            return time.monotonic()

        async def sleep(self, seconds):
            self.pauses.append(seconds)
            await asyncio.sleep(0)

    clock = Recorded()
    async with Watched(tmp_path, clock=clock) as child:
        for _ in range(4):
            child.process.kill()
            await asyncio.wait_for(child.restarts.get(), 60)
    assert clock.pauses[:4] == [0.1, 0.2, 0.4, 0.8]


async def test_a_restart_that_fails_is_tried_again_and_the_reason_stays_short(tmp_path):
    async with Watched(tmp_path) as child:
        child.command = [sys.executable, "-c", "raise SystemExit(3)"]
        child.process.kill()
        await until(lambda: child.starts >= 4)
        child.command = [sys.executable, "-c", "import time; print('up ' * 9, flush=True); time.sleep(600)"]
        reason, restarts, _ = await asyncio.wait_for(child.restarts.get(), 60)
    assert reason == "killed by SIGKILL; restart failed: exited with status 3"
    assert restarts == 1


async def test_the_first_start_that_fails_raises_and_leaves_no_process(tmp_path):
    child = Watched(tmp_path, [sys.executable, "-c", "print('no licence'); raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="exited with status 3"):
        await child.process.start()
    assert child.process.pid is None
    assert child.process.keeper.task is None
    assert "no licence" in child.log.read_text()


async def test_a_process_that_never_gets_ready_is_ended(tmp_path):
    pids = []

    async def never(process):
        pids.append(process.pid)
        raise TimeoutError("not ready after 3 s")

    with pytest.raises(TimeoutError, match="not ready"):
        await Watched(tmp_path, ready=never).process.start()
    assert not is_running(pids[0])


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path):
    pids = []

    async def forever(process):
        pids.append(process.pid)
        await asyncio.Event().wait()

    starting = asyncio.create_task(Watched(tmp_path, ready=forever).process.start())
    await until(lambda: pids)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not is_running(pids[0])


async def test_a_stop_during_a_restart_leaves_no_process(tmp_path):
    async with Watched(tmp_path) as child:
        child.process.kill()
        await until(lambda: child.exits)
    assert child.process.pid is None
    assert child.restarts.empty()


async def test_one_that_has_ended_when_it_is_told_to_is_said_so(tmp_path):
    with structlog.testing.capture_logs() as logged:
        async with Watched(tmp_path) as child:
            child.process._process.kill()
            child.process._process.wait()
    told = [(one["event"], one["process"], one["reason"]) for one in logged if "restart_in_s" not in one]
    assert told == [("process had ended before it was told to", "child", "killed by SIGKILL")]


async def test_one_that_fails_while_it_ends_is_said_so(tmp_path):
    with structlog.testing.capture_logs() as logged:
        async with Watched(tmp_path, FAILING):
            pass
    told = [(one["event"], one["reason"]) for one in logged]
    assert told == [("process did not end in order", "exited with status 3")]


async def test_one_that_ignores_sigterm_is_killed_and_said_so(tmp_path):
    with structlog.testing.capture_logs() as logged:
        async with Watched(tmp_path, STUBBORN, grace_s=0.2) as child:
            pid = child.process.pid
    assert not is_running(pid)
    assert [(one["log_level"], one["process"], one["after_s"]) for one in logged] == [("warning", "child", 0.2)]


async def test_waiting_for_an_exit_does_not_block_the_loop(tmp_path):
    process = subprocess.Popen(SLEEPER, stdout=subprocess.DEVNULL)
    waiting = asyncio.create_task(wait_for_exit(process))
    await asyncio.sleep(0)
    assert not waiting.done()
    process.send_signal(signal.SIGUSR1)
    assert describe_exit(await asyncio.wait_for(waiting, 60)) == "killed by SIGUSR1"
    assert await wait_for_exit(process) == -signal.SIGUSR1, "and once more, though it was reaped"


PARENT = """
import asyncio, sys
from pathlib import Path
from mesh.processes import SupervisedProcess

async def ready(process):
    print(process.pid, flush=True)

async def main():
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    await SupervisedProcess(
        "grandchild", lambda: command, log_path=Path(sys.argv[1]) / "log", ready=ready, on_restart=print
    ).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_a_grandchild_dies_with_a_parent_that_was_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        grandchild = int(parent.stdout.readline())
        assert is_running(grandchild)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    await until(lambda: not is_running(grandchild))


ORPHAN = """
import os, sys
from mesh.processes import die_with_parent
pid = os.fork()
if pid == 0:
    die_with_parent(int(sys.argv[1]))
    print("alive", flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_child_whose_parent_ended_before_it_could_ask_ends_too():
    def out(parent):
        return subprocess.run([sys.executable, "-c", ORPHAN, parent], stdout=subprocess.PIPE, check=True).stdout

    assert out("1") == b"", "the process that started it is not 1, so its parent is gone"
    assert out("0") == b"alive\n"
