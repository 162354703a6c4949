"""The child process in which calculations on strangers' input run: bounded memory, and killed when time is up.

``python -m mesh.experts.backends.worker <descriptor> <module:function> <memory bytes>`` answers, over the socket with
that descriptor, one job after the other. A job and its reply are each 4 bytes of length (big endian) and JSON.
"""

import importlib
import json
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from io import BufferedRWPair
from typing import Any

LENGTH = struct.Struct(">I")

# Takes the text of a call and its options, returns the answer. Raises ValueError for input that it cannot take.
Job = Callable[[str, dict[str, Any]], str]


def main() -> None:
    """Serve jobs until the socket closes."""
    descriptor, target, memory_bytes = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the node's to handle
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, _, name = target.partition(":")
    job: Job = getattr(importlib.import_module(module), name)
    with socket.socket(fileno=descriptor) as link, link.makefile("rwb") as stream:
        _send(stream, {"ready": True})
        while header := stream.read(LENGTH.size):
            task = json.loads(stream.read(*LENGTH.unpack(header)))
            _send(stream, _run(job, task))


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
