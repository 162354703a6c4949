"""Overlay processes that write down what they carry: all that whoever has taken one over would see."""

from pathlib import Path

import pytest

from mesh.p2p.frames import Decoder, Frame

# Python runs it at the start of every process. Each stream has a file for each of its directions.
_SITECUSTOMIZE = """
import itertools, os, sys

if "mesh.p2p.host" in sys.orig_argv:
    from mesh.p2p.host.pump import Pump

    numbers, join = itertools.count(), Pump.__init__

    class Recorded:
        def __init__(self, stream):
            self._stream = stream
            self._file = os.path.join(os.environ["CARRIED"], f"{os.getpid()}-{next(numbers)}")

        async def write(self, data):
            self._keep("out", data)
            await self._stream.write(data)

        async def read(self, n):
            data = await self._stream.read(n)
            self._keep("in", data)
            return data

        def _keep(self, direction, data):
            with open(f"{self._file}-{direction}", "ab") as file:
                file.write(data)

    def joined(self, *args):
        join(self, *args)
        self._muxed = Recorded(self._muxed)

    Pump.__init__ = joined
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
