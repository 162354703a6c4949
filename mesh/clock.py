"""The one door to time. Everything that decides takes its time from a clock that it was given."""

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

# Characters of a timestamp as `rfc3339` writes it.
_WIDTH = 27


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> float:
        """Wall-clock time, seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """See `Clock.now`."""
        return time.time()  # noqa: TID251 - this is the door

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(seconds)


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC with microseconds: ``2026-11-22T10:00:00.000000Z``.

    The width is fixed, so that the order of the strings is the order of the times.
    """
    second, microsecond = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_to_the_second(second)}.{microsecond:06d}Z"


@lru_cache(maxsize=4)
def _to_the_second(second: int) -> str:
    """Most timestamps are of the second that the last one was of, and this is nine tenths of making one."""
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def unix_seconds(timestamp: str) -> float:
    """The inverse of `rfc3339`; raises ValueError for anything that is not a timestamp with an offset."""
    if len(timestamp) == _WIDTH and timestamp[19] == "." and timestamp[26] == "Z":
        microsecond = timestamp[20:26]
        if microsecond.isascii() and microsecond.isdigit():
            return (_of_the_second(timestamp[:19]) * 1_000_000 + int(microsecond)) / 1_000_000
    moment = datetime.fromisoformat(timestamp)
    if moment.tzinfo is None:
        raise ValueError(f"timestamp {timestamp!r} has no UTC offset")
    return moment.timestamp()


@lru_cache(maxsize=4)
def _of_the_second(timestamp: str) -> int:
    """As `_to_the_second`, the other way."""
    return round(datetime.fromisoformat(f"{timestamp}.000000Z").timestamp())
