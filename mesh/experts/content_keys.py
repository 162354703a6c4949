"""Where the keys of sealed texts are: outside the journal, so that what is erased here cannot be read there."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec


class ContentKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key: of which request, who asked it, and when (Unix seconds)."""

    request: str
    caller: str
    at: float
    key: bytes


class ContentKeys(Protocol):
    """Keys by request; a request may have more than one, where this node served it more than once."""

    def keep(self, key: ContentKey) -> None:
        """Keep a key; when this returns it survives the end of the process. Raises OSError."""
        ...

    def find(self, request: str) -> list[ContentKey]:
        """The keys of a request that are not erased."""
        ...

    def select(self, *, before: float = float("inf"), caller: str = "") -> Iterator[str]:
        """Requests that have a key from before that time and of that caller (empty: of anybody)."""
        ...

    def erase(self, requests: Iterable[str]) -> set[str]:
        """Destroy the keys of these requests, and return those that had one. Raises OSError.

        Until `settle` they are known as `erased`, so that a crash cannot hide that they are gone.
        """
        ...

    def erased(self) -> set[str]:
        """Requests whose keys were erased, which nobody has settled."""
        ...

    def settle(self, requests: Iterable[str]) -> None:
        """That these were erased is on record elsewhere now."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class MemoryContentKeys:
    """Keys that end with the process, for tests and for nodes without a disk."""

    def __init__(self) -> None:
        self._keys: list[ContentKey] = []
        self._erased: set[str] = set()

    def keep(self, key: ContentKey) -> None:
        """See `ContentKeys.keep`."""
        self._keys.append(key)

    def find(self, request: str) -> list[ContentKey]:
        """See `ContentKeys.find`."""
        return [key for key in self._keys if key.request == request]

    def select(self, *, before: float = float("inf"), caller: str = "") -> Iterator[str]:
        """See `ContentKeys.select`."""
        wanted = chosen(before, caller)
        yield from dict.fromkeys(key.request for key in self._keys if wanted(key))

    def erase(self, requests: Iterable[str]) -> set[str]:
        """See `ContentKeys.erase`."""
        gone = set(requests) & {key.request for key in self._keys}
        self._keys = [key for key in self._keys if key.request not in gone]
        self._erased |= gone
        return gone

    def erased(self) -> set[str]:
        """See `ContentKeys.erased`."""
        return set(self._erased)

    def settle(self, requests: Iterable[str]) -> None:
        """See `ContentKeys.settle`."""
        self._erased.difference_update(requests)

    def close(self) -> None:
        """See `ContentKeys.close`."""


def chosen(before: float, caller: str) -> Callable[[ContentKey], bool]:
    """What `ContentKeys.select` asks of each key."""
    return lambda key: key.at < before and caller in ("", key.caller)
