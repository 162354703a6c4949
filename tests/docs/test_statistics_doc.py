"""docs/statistics.md has the statements that `mesh stats` asks, word for word."""

import re
from pathlib import Path

from mesh.projections import statistics
from tests.kit.tables import empty_tables

TEXT = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text()
BLOCKS = re.findall(r"```(?:sql|postgresql)\n(.*?)\n```", TEXT, re.DOTALL)


def shown(statement: str) -> str:
    return statement.replace(":since", "'2026-11-22'").replace(":node", "'12D3KooW…'")


def test_the_statements_are_those_of_the_code() -> None:
    coverage = statistics.COVERAGE
    stated = [statistics.TOTAL, statistics.DOMAINS, coverage["sqlite"], coverage["postgresql"], statistics.EXPERTS]
    assert [shown(statement) for statement in stated] == BLOCKS


def test_they_run_as_they_stand(tmp_path: Path) -> None:
    with empty_tables(tmp_path) as engine, engine.begin() as connection:
        for block in BLOCKS:
            if "json_array_elements_text" not in block:
                connection.exec_driver_sql(block).all()


def test_every_column_is_explained() -> None:
    columns = set(re.findall(r" AS (\w+)[,\n]", statistics.TOTAL)) - {"place", "answers", "each_request"}
    for column in columns | {"slots", "load", "tokens_per_s"}:
        assert f"`{column}`" in TEXT, column
