"""The part of WASI preview 1 that a module in the sandbox gets: its standard streams, a clock, random bytes.

No files, no network, no variables but those given, and no sleeping: what is not here does not exist for the module.
Layouts and error numbers: https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md. No module can make a
function here raise: the engine's binding keeps exceptions of callbacks in one place for all threads.
"""

import os
import struct
import time
from collections.abc import Callable
from typing import Protocol

SUCCESS, BADF, FAULT, INVAL, NOSYS, SPIPE = 0, 8, 21, 28, 52, 70
_CHARACTER_DEVICE = 2
_READ, _WRITE = 1 << 1, 1 << 6
_MAX_READ = 1 << 20
_MAX_VECTORS = 1024
_MAX_RANDOM = 1 << 16

# Parameters by name: i is an i32, I an i64. Each returns an errno, but proc_exit, which returns nothing.
SIGNATURES = {
    "args_get": "ii",
    "args_sizes_get": "ii",
    "clock_res_get": "ii",
    "clock_time_get": "iIi",
    "environ_get": "ii",
    "environ_sizes_get": "ii",
    "fd_close": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_prestat_dir_name": "iii",
    "fd_prestat_get": "ii",
    "fd_read": "iiii",
    "fd_seek": "iIii",
    "fd_write": "iiii",
    "poll_oneoff": "iiii",
    "proc_exit": "i",
    "random_get": "ii",
    "sched_yield": "",
}


class GuestMemory(Protocol):
    """The module's memory. Both raise IndexError beyond its end."""

    def read(self, start: int, length: int) -> bytes: ...  # noqa: D102
    def write(self, start: int, data: bytes) -> None: ...  # noqa: D102


class Wasi:
    """One run of one module: ``stdin`` goes in, ``write(descriptor, data)`` gets what comes out of 1 and 2."""

    def __init__(
        self,
        stdin: bytes,
        arguments: list[str],
        variables: dict[str, str],
        write: Callable[[int, bytes], None],
        stop: Callable[[], None],
    ) -> None:
        self._stdin = memoryview(stdin)
        self._arguments = [argument.encode() + b"\0" for argument in arguments]
        self._variables = [f"{name}={value}".encode() + b"\0" for name, value in variables.items()]
        self._write_out = write
        self._stop = stop
        self.exit_code: int | None = None

    def call(self, name: str, memory: GuestMemory, arguments: tuple[int, ...]) -> int:
        """Do one function of `SIGNATURES` and return its errno."""
        unsigned = [value & 0xFFFFFFFFFFFFFFFF if value < 0 else value for value in arguments]
        if self.exit_code is not None:
            return NOSYS
        function: Callable[..., int] = getattr(self, f"_{name}")
        try:
            return function(memory, *unsigned)
        except IndexError:
            return FAULT

    def _args_sizes_get(self, memory: GuestMemory, count: int, size: int) -> int:
        return _put_sizes(memory, self._arguments, count, size)

    def _args_get(self, memory: GuestMemory, pointers: int, buffer: int) -> int:
        return _put_strings(memory, self._arguments, pointers, buffer)

    def _environ_sizes_get(self, memory: GuestMemory, count: int, size: int) -> int:
        return _put_sizes(memory, self._variables, count, size)

    def _environ_get(self, memory: GuestMemory, pointers: int, buffer: int) -> int:
        return _put_strings(memory, self._variables, pointers, buffer)

    def _clock_res_get(self, memory: GuestMemory, _clock: int, result: int) -> int:
        memory.write(_i32(result), struct.pack("<Q", 1000))
        return SUCCESS

    def _clock_time_get(self, memory: GuestMemory, clock: int, _precision: int, result: int) -> int:
        # Not the node's clock: nothing that the node decides comes from here.
        now = time.time_ns() if _i32(clock) == 0 else time.monotonic_ns()
        memory.write(_i32(result), struct.pack("<Q", now))
        return SUCCESS

    def _fd_close(self, _memory: GuestMemory, descriptor: int) -> int:
        return SUCCESS if _i32(descriptor) <= 2 else BADF

    def _fd_fdstat_get(self, memory: GuestMemory, descriptor: int, result: int) -> int:
        descriptor = _i32(descriptor)
        if descriptor > 2:
            return BADF
        rights = _READ if descriptor == 0 else _WRITE
        memory.write(_i32(result), struct.pack("<BxHxxxxQQ", _CHARACTER_DEVICE, 0, rights, 0))
        return SUCCESS

    def _fd_fdstat_set_flags(self, _memory: GuestMemory, _descriptor: int, _flags: int) -> int:
        return NOSYS

    def _fd_prestat_get(self, _memory: GuestMemory, _descriptor: int, _result: int) -> int:
        return BADF  # how a module learns that there are no directories

    def _fd_prestat_dir_name(self, _memory: GuestMemory, _descriptor: int, _path: int, _length: int) -> int:
        return BADF

    def _fd_seek(self, _memory: GuestMemory, descriptor: int, _offset: int, _whence: int, _result: int) -> int:
        return SPIPE if _i32(descriptor) <= 2 else BADF

    def _fd_read(self, memory: GuestMemory, descriptor: int, vectors: int, count: int, result: int) -> int:
        if _i32(descriptor) != 0:
            return BADF
        done = 0
        for start, length in _vectors(memory, vectors, count):
            piece = bytes(self._stdin[: min(length, _MAX_READ)])
            memory.write(start, piece)
            self._stdin = self._stdin[len(piece) :]
            done += len(piece)
            if len(piece) < length:
                break
        memory.write(_i32(result), struct.pack("<I", done))
        return SUCCESS

    def _fd_write(self, memory: GuestMemory, descriptor: int, vectors: int, count: int, result: int) -> int:
        if _i32(descriptor) not in (1, 2):
            return BADF
        done = 0
        for start, length in _vectors(memory, vectors, count):
            self._write_out(_i32(descriptor), memory.read(start, length))
            done += length
        memory.write(_i32(result), struct.pack("<I", done & 0xFFFFFFFF))
        return SUCCESS

    def _poll_oneoff(self, _memory: GuestMemory, _in: int, _out: int, _count: int, _result: int) -> int:
        return NOSYS  # a thread that sleeps cannot be stopped

    def _proc_exit(self, _memory: GuestMemory, code: int) -> int:
        self.exit_code = _i32(code)
        self._stop()
        return SUCCESS

    def _random_get(self, memory: GuestMemory, buffer: int, length: int) -> int:
        if _i32(length) > _MAX_RANDOM:
            return INVAL
        memory.write(_i32(buffer), os.urandom(_i32(length)))
        return SUCCESS

    def _sched_yield(self, _memory: GuestMemory) -> int:
        return SUCCESS


def _i32(value: int) -> int:
    return value & 0xFFFFFFFF


def _vectors(memory: GuestMemory, start: int, count: int) -> list[tuple[int, int]]:
    if _i32(count) > _MAX_VECTORS:
        raise IndexError
    return list(struct.iter_unpack("<II", memory.read(_i32(start), 8 * _i32(count))))


def _put_sizes(memory: GuestMemory, strings: list[bytes], count: int, size: int) -> int:
    memory.write(_i32(count), struct.pack("<I", len(strings)))
    memory.write(_i32(size), struct.pack("<I", sum(map(len, strings))))
    return SUCCESS


def _put_strings(memory: GuestMemory, strings: list[bytes], pointers: int, buffer: int) -> int:
    pointers, buffer = _i32(pointers), _i32(buffer)
    for string in strings:
        memory.write(pointers, struct.pack("<I", buffer))
        memory.write(buffer, string)
        pointers += 4
        buffer += len(string)
    return SUCCESS
