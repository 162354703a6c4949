"""The part of the NATS client protocol that the journal speaks, as a parser without I/O.

https://docs.nats.io/reference/reference-protocols/nats-protocol. nats-py is a fine client for services and tools;
one Python object and one task switch a message make it too slow for a journal, which handles messages by the batch.
"""

import re
from collections.abc import Callable

# sid, subject, reply, headers (empty when there are none), payload. A bare tuple: a reader makes 100,000 a second.
Message = tuple[int, bytes, bytes, bytes, bytes]

NO_RESPONDERS = 503
_HMSG = ord("H")
_MSG = ord("M")
_STATUS = re.compile(rb"NATS/1\.0 (\d{3})")


class Parser:
    """Bytes in, whole messages and control lines (``INFO …``, ``PING``, ``-ERR …``) out.

    ``skim`` sees them first: it may take what it knows off their front, and returns where it stopped.
    """

    def __init__(self) -> None:
        self.skim: Callable[[bytes], int] = _nothing
        self._rest = b""

    def feed(self, data: bytes) -> tuple[list[Message], list[bytes]]:
        """What ``data`` completes. Raises ValueError when it is not the NATS protocol."""
        try:
            return self._feed(data)
        except IndexError as error:
            raise ValueError("a message line is too short") from error

    def _feed(self, data: bytes) -> tuple[list[Message], list[bytes]]:
        if self._rest:
            data = self._rest + data
        messages: list[Message] = []
        controls: list[bytes] = []
        position, size, find = self.skim(data), len(data), data.find
        while (end := find(b"\r\n", position)) >= 0:
            if data[position] not in (_MSG, _HMSG):
                controls.append(data[position:end])
                position = end + 2
                continue
            parts = data[position:end].split(b" ")
            start = end + 2
            stop = start + int(parts[-1])
            if stop < start:
                raise ValueError(f"a message of {parts[-1]!r} bytes")
            if stop + 2 > size:
                break
            if data[position] == _HMSG:
                body = start + int(parts[-2])
                reply = parts[3] if len(parts) == 6 else b""
                messages.append((int(parts[2]), parts[1], reply, data[start:body], data[body:stop]))
            else:
                reply = parts[3] if len(parts) == 5 else b""
                messages.append((int(parts[2]), parts[1], reply, b"", data[start:stop]))
            position = stop + 2
        self._rest = data[position:] if position else data
        return messages, controls


def _nothing(_data: bytes) -> int:
    return 0


def publication(subject: str, payload: bytes, *, reply: str = "", headers: bytes = b"") -> bytes:
    """One PUB or HPUB."""
    line = f"{subject} {reply} " if reply else f"{subject} "
    if headers:
        return b"HPUB %b%d %d\r\n%b%b\r\n" % (
            line.encode(),
            len(headers),
            len(headers) + len(payload),
            headers,
            payload,
        )
    return b"PUB %b%d\r\n%b\r\n" % (line.encode(), len(payload), payload)


def status_of(headers: bytes) -> int:
    """The status code in a message's headers, such as 503 for "nobody listens"; 0 when it has none."""
    match = _STATUS.match(headers)
    return int(match[1]) if match is not None else 0


def header(headers: bytes, name: str) -> str:
    """The first value of one header; empty when it is not there."""
    match = re.search(rb"\r\n" + re.escape(name.encode()) + rb": *([^\r\n]*)\r\n", headers, re.IGNORECASE)
    return match[1].decode("utf-8", "replace") if match is not None else ""
