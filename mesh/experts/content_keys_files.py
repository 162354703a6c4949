"""Keys of sealed texts in files, one a day, for their owner alone.

A record has 320 bytes, and its place never moves, so that its key can be overwritten where it is:

    state 1 ‖ sizes of id and caller 1 + 1 ‖ 5 zeros ‖ time 8 ‖ id 64 ‖ caller 192 ‖ key 32 ‖ check 16

The check is of all before it but the state, with the key as it was kept; of an erased record it means nothing.
A record that was half written when the machine died is cut off.
"""

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from mesh.experts.content_keys import ContentKey, chosen

RECORD_BYTES = 320
_FIELDS = struct.Struct(">cBB5xd64s192s32s16s")
_ID_BYTES, _CALLER_BYTES, _KEY_AT, _CHECK_AT = 64, 192, 272, 304
_LIVE, _ERASED, _SETTLED = b"K", b"E", b"S"
_SUFFIX = ".keys"
_ZEROS = bytes(RECORD_BYTES - _KEY_AT)


class FileContentKeys:
    """See `ContentKeys`. `keep` is for one thread, and everything else may run in another beside it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changing = threading.Lock()
        self._day = ""
        self._file = -1

    def keep(self, key: ContentKey) -> None:
        """See `ContentKeys.keep`. A power cut may take the latest keys, and their texts with them."""
        record = _record(key)
        day = _day_of(key.at)
        if day != self._day:
            self._open(day)
        if os.write(self._file, record) != RECORD_BYTES:
            self.close()
            raise OSError(f"a key of {key.request} was written in part; is the disk of {self._directory} full?")

    def find(self, request: str) -> list[ContentKey]:
        """See `ContentKeys.find`."""
        wanted = _padded(request)
        found = [key for path in self._files() for _, state, key in _records(path, wanted) if state == _LIVE]
        return [key for key in found if key.request == request]

    def select(self, *, before: float = float("inf"), caller: str = "") -> Iterator[str]:
        """See `ContentKeys.select`."""
        wanted = chosen(before, _clipped(caller))
        for path in self._files():
            if _day_of(min(before, 253402300799.0)) >= path.stem:
                live = (key for _, state, key in _records(path) if state == _LIVE)
                yield from dict.fromkeys(key.request for key in live if wanted(key))

    def erase(self, requests: Iterable[str]) -> set[str]:
        """See `ContentKeys.erase`. Overwritten in place and flushed; what the disk beneath does is its own."""
        return self._change(set(requests), _LIVE, lambda record: _ERASED + record[1:_KEY_AT] + _ZEROS)

    def erased(self) -> set[str]:
        """See `ContentKeys.erased`."""
        return {key.request for path in self._files() for _, state, key in _records(path) if state == _ERASED}

    def settle(self, requests: Iterable[str]) -> None:
        """See `ContentKeys.settle`. Files of past days in which nothing is left are removed."""
        self._change(set(requests), _ERASED, lambda record: _SETTLED + record[1:])
        for path in self._files()[1:]:
            if path.stem != self._day and all(state == _SETTLED for _, state, _ in _records(path)):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """See `ContentKeys.close`."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._day = -1, ""

    def _open(self, day: str) -> None:
        self.close()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / (day + _SUFFIX)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.fchmod(self._file, 0o600)
        whole = os.fstat(self._file).st_size // RECORD_BYTES * RECORD_BYTES
        os.ftruncate(self._file, whole)
        self._day = day

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*" + _SUFFIX), reverse=True) if self._directory.is_dir() else []

    def _change(self, requests: set[str], state: bytes, change: Callable[[bytes], bytes]) -> set[str]:
        changed: set[str] = set()
        with self._changing:
            for path in self._files() if requests else ():
                places = [(at, key.request) for at, found, key in _records(path) if found == state]
                places = [(at, request) for at, request in places if request in requests]
                if places:
                    _write(path, [at for at, _ in places], change)
                changed |= {request for _, request in places}
        return changed


def _write(path: Path, places: list[int], change: Callable[[bytes], bytes]) -> None:
    """Each record in one write, so that no crash of ours leaves half of a change."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for at in places:
            os.pwrite(file, change(os.pread(file, RECORD_BYTES, at)), at)
        os.fsync(file)
    finally:
        os.close(file)


def _records(path: Path, wanted: bytes = b"") -> Iterator[tuple[int, bytes, ContentKey]]:
    """Place, state and key of each whole record; with ``wanted`` only of those that have this id."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for at in range(0, len(data) - RECORD_BYTES + 1, RECORD_BYTES):
        if wanted and data[at + 16 : at + 16 + _ID_BYTES] != wanted:
            continue
        record = data[at : at + RECORD_BYTES]
        state, id_size, caller_size, time, request, caller, key, check = _FIELDS.unpack(record)
        if state != _LIVE or check == _check(record):
            name = caller[:caller_size].decode(errors="replace")
            yield at, state, ContentKey(request=request[:id_size].decode(), caller=name, at=time, key=key)


def _record(key: ContentKey) -> bytes:
    request, caller = key.request.encode(), _clipped(key.caller).encode()
    if len(request) > _ID_BYTES:
        raise ValueError(f"a request's id has {len(request)} bytes; the limit is {_ID_BYTES}")
    record = _FIELDS.pack(_LIVE, len(request), len(caller), key.at, request, caller, key.key, b"")
    return record[:_CHECK_AT] + _check(record)


def _check(record: bytes) -> bytes:
    return hashlib.sha256(record[1:_CHECK_AT]).digest()[: RECORD_BYTES - _CHECK_AT]


def _padded(request: str) -> bytes:
    return request.encode().ljust(_ID_BYTES, b"\0")


def _clipped(caller: str) -> str:
    return caller.encode()[:_CALLER_BYTES].decode(errors="ignore")


def _day_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
