"""The processes in which calculations on strangers' input run: bounded memory, and killed when time is up.

``python -m mesh.experts.backends.worker <descriptor> <module:function> <memory bytes>`` is the *nursery*: it imports
the function once, and then forks a worker for every socket that it is sent over the Unix socket ``descriptor``, so
that a worker costs milliseconds however long the import takes. It reaps them, and kills those that it is told to:
only the parent knows for sure that a process id is still that child's.

A worker answers jobs over its own socket, one after the other. A job and its reply are each 4 bytes of length
(big endian) and JSON. Its first message names its process id.
"""

import array
import gc
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BufferedRWPair
from typing import Any, NoReturn

from mesh.processes import die_with_parent

LENGTH = struct.Struct(">I")
# What the nursery is told: fork a worker for the socket that comes along, or kill the worker with this id.
COMMAND = struct.Struct(">cI")
FORK, KILL = b"F", b"K"
READY = b"R"

# Takes the text of a call and its options, returns the answer. Raises ValueError for input that it cannot take.
Job = Callable[[str, dict[str, Any]], str]


def main() -> None:
    """Be the nursery, until the socket to the node closes."""
    descriptor, target, memory_bytes = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the node's to handle
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, _, name = target.partition(":")
    job: Job = getattr(importlib.import_module(module), name)
    gc.freeze()
    with socket.socket(fileno=descriptor) as node:
        node.sendall(READY)
        _Nursery(node, job).run()


class _Nursery:
    def __init__(self, node: socket.socket, job: Job) -> None:
        self._node = node
        self._job = job
        self._children: set[int] = set()

    def run(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        while command := _receive(self._node):
            operation, pid, link = command
            if operation == FORK and link is not None:
                self._fork(link)
            elif operation == KILL:
                self._kill(pid)

    def _fork(self, link: int) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            _work(self._node, link, self._job)
        os.close(link)
        self._children.add(pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _kill(self, pid: int) -> None:
        if pid in self._children:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:  # it has not yet made a group of its own
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in tuple(self._children):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._children.discard(pid)


def _receive(node: socket.socket) -> tuple[bytes, int, int | None] | None:
    data, ancillary, _, _ = node.recvmsg(COMMAND.size, socket.CMSG_SPACE(array.array("i").itemsize))
    if not data:
        return None
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: descriptors.itemsize])
    operation, pid = COMMAND.unpack(data)
    return operation, pid, descriptors[0] if descriptors else None


def _work(node: socket.socket, link: int, job: Job) -> NoReturn:
    """Be a worker: a group of its own, so that what a job starts is killed with it. Never returns."""
    status = 1
    try:
        os.setsid()
        die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        node.close()
        with socket.socket(fileno=link) as connection, connection.makefile("rwb") as stream:
            _send(stream, {"pid": os.getpid()})
            while header := stream.read(LENGTH.size):
                task = json.loads(stream.read(*LENGTH.unpack(header)))
                _send(stream, _run(job, task))
        status = 0
    finally:
        os._exit(status)


def _run(job: Job, task: dict[str, Any]) -> dict[str, str]:
    try:
        return {"text": job(task["content"], task["options"])}
    except MemoryError:
        return {"kind": "invalid", "message": "it needs more memory than one calculation may have"}
    except RecursionError:
        return {"kind": "invalid", "message": "it is nested too deeply"}
    except ValueError as error:
        return {"kind": "invalid", "message": str(error)}
    except Exception as error:  # noqa: BLE001 - told to the caller, and the worker takes the next job
        return {"kind": "failed", "message": f"{type(error).__name__}: {error}"}


def _send(stream: BufferedRWPair, reply: dict[str, Any]) -> None:
    data = json.dumps(reply).encode()
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


if __name__ == "__main__":
    main()
