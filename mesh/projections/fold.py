"""Folding a batch of events into the rows of one table, in memory. Pure: the same events give the same rows."""

from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

from mesh.events.envelope import Event, Fact
from mesh.projections.projection import Key, Projection, Row

# What is known of a table: a row, None where there is known to be none, no entry where nothing is known.
Rows = MutableMapping[Key, Row | None]


class Router:
    """Sorts events by the projections that fold them."""

    def __init__(self, projections: Sequence[Projection[Any]]) -> None:
        self._count = len(projections)
        self._routes: dict[type[Fact], tuple[int, ...]] = {}
        for number, projection in enumerate(projections):
            for fact in projection.facts:
                self._routes[fact] = (*self._routes.get(fact, ()), number)

    def route(self, events: Iterable[Event]) -> list[list[Event]]:
        """For each projection, in order, the events that it folds."""
        routed: list[list[Event]] = [[] for _ in range(self._count)]
        routes = self._routes
        for event in events:
            for number in routes.get(type(event.fact), ()):
                routed[number].append(event)
        return routed


def fold(projection: Projection[Any], events: Iterable[Event], rows: Rows) -> dict[Key, Row | None]:
    """Fold ``events`` into ``rows``, which must know every row they touch; return what changed.

    A key whose row is None in the result has no row any more.
    """
    handlers, sweeps, key_of = projection.handlers, projection.sweeps, projection.key_of
    changed: dict[Key, Row | None] = {}
    for event in events:
        fact = event.fact
        kind = type(fact)
        if kind in sweeps:
            _sweep(projection, event, rows, changed)
        handler = handlers.get(kind)
        if handler is None:
            continue
        key = key_of(event)
        if key is None:
            continue
        before = rows.get(key)
        after = handler(before, event, fact)
        if after is not before:
            rows[key] = changed[key] = after
    return changed


def append(projection: Projection[Any], events: Iterable[Event]) -> list[Row]:
    """The new rows of an ``append_only`` projection."""
    handlers, key_of = projection.handlers, projection.key_of
    made = (handlers[type(event.fact)](None, event, event.fact) for event in events if key_of(event) is not None)
    return [row for row in made if row is not None]


def _sweep(projection: Projection[Any], event: Event, rows: Rows, changed: dict[Key, Row | None]) -> None:
    for key, row in list(rows.items()):
        if row is None:
            continue
        after = projection.swept(row, event)
        if after is not row:
            rows[key] = changed[key] = after
