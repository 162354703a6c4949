"""Parts of documents that are made from the code."""

from pathlib import Path


def check_made_part(document: Path, begin: str, end: str, made: str, *, refresh: bool) -> None:
    """What stands from the line ``begin`` to the line ``end`` is what was ``made``; ``refresh`` writes it there."""
    before, found, rest = document.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    assert found, f"{document} has lost the line {begin}"
    assert ended, f"{document} has lost the line {end}"
    expected = before + made + after
    if refresh:
        document.write_text(expected)
    assert document.read_text() == expected, "run pytest tests/docs --refresh-golden"
