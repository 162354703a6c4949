"""The kinds of columns that the tables have, by the name of what they hold. What is here never changes."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, PrimaryKeyConstraint, Text
from sqlalchemy.types import TypeEngine

# SQLite makes only INTEGER PRIMARY KEY the row id; PostgreSQL is told to compare text by bytes, as SQLite does.
_WHOLE = BigInteger().with_variant(Integer(), "sqlite")
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")


def text(name: str, *, null: bool = False) -> Column[Any]:
    return _column(name, _TEXT, null)


def whole(name: str, *, null: bool = False) -> Column[Any]:
    return _column(name, _WHOLE, null)


def real(name: str, *, null: bool = False) -> Column[Any]:
    return _column(name, Double(), null)


def flag(name: str, *, null: bool = False) -> Column[Any]:
    return _column(name, Boolean(), null)


def key(table: str, *columns: str) -> PrimaryKeyConstraint:
    return PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _column(name: str, kind: TypeEngine[Any], null: bool) -> Column[Any]:
    return Column(name, kind, nullable=null, autoincrement=False)
