"""docs/tables.md says what the tables really are, and its queries run."""

import re
from pathlib import Path

import pytest

from mesh.projections.document import BEGIN, END, described
from mesh.projections.folds import PROJECTIONS
from mesh.projections.tables import METADATA, CheckpointRow, columns_of
from tests.kit.documents import check_made_part
from tests.kit.tables import empty_tables

DOCUMENT = Path(__file__).parents[2] / "docs" / "tables.md"


def test_the_reference_is_that_of_the_code(refresh_golden: bool) -> None:
    check_made_part(DOCUMENT, BEGIN, END, described(), refresh=refresh_golden)


def test_every_table_and_every_column_of_the_database_is_described() -> None:
    text = DOCUMENT.read_text()
    for table in METADATA.tables.values():
        section = text.partition(f"### `{table.name}`\n")[2].partition("\n### ")[0]
        assert section, table.name
        described_columns = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert described_columns == [column.name for column in table.columns], table.name


@pytest.mark.parametrize("row", [*(projection.row for projection in PROJECTIONS), CheckpointRow])
def test_columns_say_what_they_mean_in_which_unit(row: type) -> None:
    for column in columns_of(row):
        assert len(column.meaning) >= 3, column.name
        if column.name.endswith("_at"):
            assert column.python is str, column.name
        if column.python is float:
            units = ("_ms", "_s", "_percent", "_per_min", "_rate", "loss", "score", "quality", "agreement", "price")
            assert column.name.endswith(units), f"{column.name} has no unit"


QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.parametrize("query", QUERIES)
def test_the_queries_run(query: str, tmp_path: Path) -> None:
    with empty_tables(tmp_path) as engine, engine.begin() as connection:
        connection.exec_driver_sql(query).all()


def test_there_are_queries() -> None:
    assert len(QUERIES) >= 5
