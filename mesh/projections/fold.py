"""Folding a batch of events into the rows of one table, in memory. Pure: the same events give the same rows."""

from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

from mesh.events.envelope import Event, Fact
from mesh.projections.projection import Key, Projection, Row, Sweep

# What is known of a table: a row, None where there is known to be none, no entry where nothing is known.
Rows = MutableMapping[Key, Row | None]
Keyed = tuple[Key | None, Event]


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


def keyed(projection: Projection[Any], events: Iterable[Event]) -> list[Keyed]:
    """Each event with the key of the row that it is about; None where it is about none, or only sweeps."""
    handlers, key_of = projection.handlers, projection.key_of
    if not projection.sweeps:
        events = list(events)
        return list(zip(map(key_of, events), events, strict=True))
    return [(key_of(event) if type(event.fact) in handlers else None, event) for event in events]


def needed(projection: Projection[Any], events: Iterable[Keyed], rows: Rows) -> list[Key]:
    """The keys whose rows must be known, and are not, before ``events`` can be folded."""
    begins = projection.begins
    met: set[Key | None] = {None}
    missing: list[Key] = []
    for key, event in events:
        if key in rows or key in met or key is None:
            continue
        met.add(key)
        if type(event.fact) not in begins:
            missing.append(key)
    return missing


def fold(projection: Projection[Any], events: Iterable[Keyed], rows: Rows) -> dict[Key, Row | None]:
    """Fold ``events`` into ``rows``, which must know every row they touch; return what changed.

    A key whose row is None in the result has no row any more.
    """
    handlers, begins, sweeps = projection.handlers, projection.begins, projection.sweeps
    changed: dict[Key, Row | None] = {}
    for key, event in events:
        fact = event.fact
        kind = type(fact)
        if sweeps and kind in sweeps:
            _sweep(sweeps[kind], event, rows, changed)
        if key is None:
            continue
        before = None if kind in begins else rows.get(key)
        after = handlers[kind](before, event, fact)
        if after is not before:
            rows[key] = changed[key] = after
    return changed


def append(projection: Projection[Any], events: Iterable[Event]) -> list[Row]:
    """The new rows of an ``append_only`` projection."""
    handlers = projection.handlers
    made = [handlers[type(event.fact)](None, event, event.fact) for event in events]
    return [row for row in made if row is not None]


def _sweep(sweep: Sweep, event: Event, rows: Rows, changed: dict[Key, Row | None]) -> None:
    where = tuple(sweep.where(event).items())
    swept = [
        (key, row)
        for key, row in rows.items()
        if row is not None and all(getattr(row, column) in values for column, values in where)
    ]
    for key, row in swept:
        after = sweep.handler(row, event, event.fact)
        if after is not row:
            rows[key] = changed[key] = after
