"""Who is connected to whom. Pure."""

from collections.abc import Iterator

# Up to so many are all connected to all.
_ALL = 10
# Of more, each is connected to the first, who has something to tell, and to four others: those so many places further
# on around a ring, and those as many back.
_STRIDES = (5, 18)


def pairs(count: int) -> Iterator[tuple[int, int]]:
    """The connections of ``count`` members, each once."""
    for first in range(count):
        for second in range(first + 1, count):
            if count <= _ALL or first == 0 or _chosen(first, second, count):
                yield first, second


def _chosen(first: int, second: int, count: int) -> bool:
    apart = (second - first) % (count - 1)
    return any(apart in (stride, count - 1 - stride) for stride in _STRIDES)


def degrees(count: int) -> list[int]:
    """How many connections each has."""
    ends = [end for pair in pairs(count) for end in pair]
    return [ends.count(number) for number in range(count)]
