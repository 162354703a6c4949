"""What a projection is: one table, and the pure fold that fills it from the journal.

A row's fields are the table's columns, in order; the text in each annotation is the column's meaning
(`docs/tables.md` shows it). ``str``, ``int``, ``float`` and ``bool`` are columns of that type, anything with
parts is stored as JSON text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from mesh.events.envelope import Event, Fact

# The values of a row's key columns, in the order of `Projection.key`.
Key = tuple[Any, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of every row. A row is a value: folding makes a new one."""


R = TypeVar("R", bound=Row)

# (row or None, event, its fact) -> the new row; the same row where nothing changes; None to have no row.
Handler = Callable[[Any, Event, Any], Any]


@dataclass(frozen=True)
class Sweep:
    """What one fact does to many rows: ``where(event)`` names columns and the values they may have for it."""

    where: Callable[[Event], Mapping[str, tuple[Any, ...]]]
    handler: Handler


@dataclass(frozen=True)
class Projection(Generic[R]):
    """A table and its fold.

    ``key_of`` names the one row that an event is about (None: no row). ``version`` rises whenever folding gives
    other rows than before: the table is then rebuilt. Facts in ``begins`` make a new row whatever was there, so that
    nothing need be read before. ``append_only`` tables get one new row per event and never change one. ``finish``
    computes columns that follow from the others, once per row written instead of once per event.
    """

    name: str
    version: int
    row: type[R]
    key: tuple[str, ...]
    key_of: Callable[[Event], Key | None]
    handlers: Mapping[type[Fact], Handler]
    begins: frozenset[type[Fact]] = frozenset()
    sweeps: Mapping[type[Fact], Sweep] = field(default_factory=dict)
    indexes: tuple[tuple[str, ...], ...] = ()
    append_only: bool = False
    finish: Callable[[R], R] | None = None

    @property
    def facts(self) -> frozenset[type[Fact]]:
        """The facts that it folds; all others pass it by."""
        return frozenset(self.handlers) | frozenset(self.sweeps)

    def evolve(self, row: R | None, event: Event) -> R | None:
        """The row after ``event``, which is about this row."""
        kind = type(event.fact)
        if kind not in self.handlers:
            return row
        evolved: R | None = self.handlers[kind](None if kind in self.begins else row, event, event.fact)
        return evolved
