"""Standard output, as every command has it: what cannot be written ends the command with one line, or with none."""

import errno
import io
import os
import sys
from typing import Any, Literal

from mesh.errors import MeshError

_CLOSED_BY_READER = 141  # 128 + SIGPIPE, as a shell says it of other programs


class OutputLost(MeshError):
    """Standard output cannot be written: its disk is full, or it is closed."""

    exit_code = 74  # EX_IOERR


class ReaderGone(OutputLost):
    """Who read standard output has had enough, like `head`: nothing is wrong, and nothing to be said."""

    exit_code = _CLOSED_BY_READER


def prepare() -> None:
    """Have all three streams, and standard output raise what is above."""
    _open_closed_ones()
    sys.stdin = sys.stdin or _text(0, "r")
    sys.stderr = sys.stderr or _text(2, "w")
    was = sys.stdout if isinstance(sys.stdout, io.TextIOWrapper) else _text(1, "w")
    raw = _Output(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        raw if was.write_through else io.BufferedWriter(raw),
        encoding=was.encoding,
        errors=was.errors,
        line_buffering=was.line_buffering,
        write_through=was.write_through,
    )


def _open_closed_ones() -> None:
    """A stream that is closed becomes one that cannot be used: else the next file to be opened would get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_WRONLY)


def _text(number: int, mode: Literal["r", "w"]) -> io.TextIOWrapper:
    return open(number, mode, encoding="utf-8", closefd=False)


class _Output(io.FileIO):
    """Standard output. What failed once is told once; what follows goes nowhere, also when Python ends."""

    _lost = False

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        if self._lost:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._lost = True
            if error.errno == errno.EPIPE:
                raise ReaderGone("nobody reads standard output") from error
            raise OutputLost(f"standard output cannot be written: {error.strerror}") from error
