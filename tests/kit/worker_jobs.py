"""Jobs for worker processes in tests."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def run(content: str, options: dict[str, Any]) -> str:
    """Does what the first word says."""
    what, _, rest = content.partition(" ")
    match what:
        case "echo":
            return rest
        case "pid":
            return str(os.getpid())
        case "sleep":
            time.sleep(float(rest))
            return "slept"
        case "meet":  # ``number directory``: return when so many are there
            number, _, directory = rest.partition(" ")
            place = Path(directory)
            (place / str(os.getpid())).touch()
            while len(list(place.iterdir())) < int(number):
                time.sleep(0.01)
            return "met"
        case "spin":
            while True:
                pass
        case "memory":
            return str(len(bytearray(4 << 30)))
        case "deep":
            return run(content, options)
        case "die":
            os._exit(3)
        case "child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path(rest).write_text(str(child.pid))
            time.sleep(600)
        case "print":
            print(rest)
            return "printed"
        case "break":
            raise KeyError(rest)
    raise ValueError(f"unknown job {what!r}")
