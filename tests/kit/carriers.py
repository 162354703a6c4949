"""Overlay processes that write down what they carry: all that whoever has taken one over would see."""

from pathlib import Path

import pytest

from mesh.p2p.frames import Decoder, Frame

# Python runs it at the start of every process. Each stream has a file for each of its directions.
_SITECUSTOMIZE = """
import itertools, os, sys

if "mesh.p2p.host" in sys.orig_argv:
    from mesh.p2p.host.pump import Pump

    numbers, streams = itertools.count(), {}

    def wrap(name, direction):
        carry = getattr(Pump, name)

        async def carried(self, data):
            number = streams.setdefault(self, next(numbers))
            with open(os.path.join(os.environ["CARRIED"], f"{os.getpid()}-{number}-{direction}"), "ab") as file:
                file.write(data)
            await carry(self, data)

        setattr(Pump, name, carried)

    wrap("_write", "out")
    wrap("_hand_over", "in")
"""


class Carriers:
    """What the overlay processes that were started since then have carried."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._carried = directory / "carried"
        self._carried.mkdir()
        (directory / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        monkeypatch.setenv("PYTHONPATH", str(directory))
        monkeypatch.setenv("CARRIED", str(self._carried))

    def bytes_of(self, pid: int) -> list[bytes]:
        """Of each stream that a process carried, and each direction, all bytes."""
        return [file.read_bytes() for file in sorted(self._carried.glob(f"{pid}-*"))]

    def frames_of(self, pid: int) -> list[Frame]:
        """The same as frames."""
        return [frame for data in self.bytes_of(pid) for frame in Decoder(1 << 20).feed(data)]
