"""What a node with one peer costs when nobody asks it anything: processor time and memory of all its processes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import Measure, timed, watched

MESH = [sys.executable, "-m", "mesh"]
SETTINGS = '[overlay]\nlisten = ["/ip4/127.0.0.1/tcp/0"]\nmdns_interfaces = ["127.0.0.1"]\npeers = {peers}\n'
CONNECTED_WITHIN_S = 60
STOP_WITHIN_S = 30
SETTLE_S = 10.0
WATCH_S = 30.0


def run() -> Iterable[Measure]:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as nodes:
        home = made(Path(directory) / "node", [])
        with timed() as starting:
            node = nodes.enter_context(running_node(home))
        yield watched("start of a node", starting.seconds, "s")
        other = made(Path(directory) / "peer", status(home)["addresses"])
        nodes.enter_context(running_node(other))
        until_connected(home)
        time.sleep(SETTLE_S)  # part of the measure: after it, what starting and meeting cost is over
        yield from figures_of(processes_of(home, node.pid))


def made(home: Path, peers: list[str]) -> Path:
    subprocess.run([*MESH, "init", "--home", str(home)], check=True, stdout=subprocess.DEVNULL)
    (home / "config.toml").write_text(SETTINGS.format(peers=json.dumps(peers)))
    return home


def status(home: Path) -> dict[str, Any]:
    command = [*MESH, "status", "--home", str(home), "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer


def until_connected(home: Path) -> None:
    deadline = time.monotonic() + CONNECTED_WITHIN_S
    while not status(home)["connected"]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the two nodes did not connect within {CONNECTED_WITHIN_S} s")
        time.sleep(0.2)


@contextmanager
def running_node(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """``mesh up``, from when it serves until the body has ended."""
    read_end, write_end = os.pipe()
    command = [*MESH, "up", "--home", str(home), "--ready-fd", str(write_end)]
    with (home / "up.log").open("wb") as log:
        node = subprocess.Popen(command, pass_fds=(write_end,), stdout=log, stderr=log)
    os.close(write_end)
    try:
        with os.fdopen(read_end, "rb") as ready:
            if ready.readline() != b"ready\n":
                raise RuntimeError(f"mesh up did not start:\n{(home / 'up.log').read_text()[-2000:]}")
        yield node
    finally:
        node.send_signal(signal.SIGINT)
        try:
            node.wait(STOP_WITHIN_S)
        finally:
            node.kill()
            node.wait()


def processes_of(home: Path, pid: int) -> dict[str, psutil.Process]:
    """The node and its children, by the names that ``mesh status`` gives them."""
    names = {number: name for name, number in status(home)["processes"].items()}
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return {names.get(process.pid, "node" if process.pid == pid else process.name()): process for process in tree}


def figures_of(processes: dict[str, psutil.Process]) -> Iterator[Measure]:
    before = {name: busy_s(process) for name, process in processes.items()}
    with timed() as took:
        time.sleep(WATCH_S)
    cpu = {name: (busy_s(process) - before[name]) / took.seconds * 100 for name, process in processes.items()}
    memory = {name: process.memory_full_info().pss / 2**20 for name, process in processes.items()}
    yield watched("idle CPU of a node", sum(cpu.values()), "% of a core")
    yield watched("idle memory of a node", sum(memory.values()), "MiB")
    for name in processes:
        yield watched(f"idle CPU: {name}", cpu[name], "% of a core")
        yield watched(f"idle memory: {name}", memory[name], "MiB")


def busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
