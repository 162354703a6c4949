"""``mesh rebuild`` and ``mesh digest``"""

import asyncio
import sys
from typing import Annotated

from cyclopts import Parameter

from mesh.cli.options import ReadOptions
from mesh.cli.render import print_json


def rebuild(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """Build every table anew from the journal, beside the old ones, and swap."""
    from mesh.journals import journal_reader
    from mesh.projections.database import database_url
    from mesh.projections.digest import Digest
    from mesh.projections.rebuild import rebuild as rebuild_tables

    async def run() -> Digest:
        home, config = options.load()
        async with journal_reader(home, config) as reader:
            return await rebuild_tables(database_url(home, config.storage), reader)

    _print(asyncio.run(run()), as_json=options.json)


def digest(
    *,
    check: Annotated[
        bool, Parameter(help="Also rebuild beside, up to the same position, and compare", negative="")
    ] = False,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """The canonical hash of all tables, and the position of the journal that they show."""
    from mesh.journals import journal_reader
    from mesh.projections.database import database_url
    from mesh.projections.digest import Digest
    from mesh.projections.rebuild import verify_rebuild

    async def compare() -> tuple[Digest, Digest]:
        home, config = options.load()
        async with journal_reader(home, config) as reader:
            return await verify_rebuild(database_url(home, config.storage), reader)

    if not check:
        from mesh.projections.digest import live_digest

        home, config = options.load()
        _print(live_digest(database_url(home, config.storage)), as_json=options.json)
        return
    live, rebuilt = asyncio.run(compare())
    _print(live, as_json=options.json)
    same = live == rebuilt
    print(
        f"rebuilt   {rebuilt.total} at position {rebuilt.position}: {'identical' if same else 'DIFFERENT'}",
        file=sys.stderr,
    )
    if not same:
        differing = [name for name in live.tables if live.tables[name] != rebuilt.tables.get(name)]
        print(f"tables that differ: {', '.join(differing)}", file=sys.stderr)
        sys.exit(1)


def _print(found: "Digest", *, as_json: bool) -> None:  # type: ignore[name-defined]  # noqa: F821
    if as_json:
        print_json({"position": found.position, "digest": found.total, "tables": found.tables})
        return
    for name, value in sorted(found.tables.items()):
        print(f"{name:<24}{value[:16]}")
    print(f"{'all':<24}{found.total}\nposition                {found.position}")
