"""``mesh rebuild`` and ``mesh digest``"""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from mesh.cli.options import ReadOptions
from mesh.cli.render import print_json

if TYPE_CHECKING:
    from mesh.projections.digest import Digest


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
        bool, Parameter(help="Also rebuild beside, to the same position, and compare", negative="")
    ] = False,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """The canonical hash of all tables, and the position of the journal that they show."""
    from mesh.journals import journal_reader
    from mesh.projections.database import database_url
    from mesh.projections.digest import live_digest
    from mesh.projections.rebuild import Verification, verify_rebuild

    home, config = options.load()
    url = database_url(home, config.storage)
    if not check:
        _print(live_digest(url), as_json=options.json)
        return

    async def verify() -> Verification:
        async with journal_reader(home, config) as reader:
            return await verify_rebuild(url, reader)

    found = asyncio.run(verify())
    if options.json:
        live, rebuilt = _as_json(found.live), _as_json(found.rebuilt)
        print_json({**live, "rebuilt": rebuilt, "identical": found.identical, "differing": found.differing})
        sys.exit(0 if found.identical else 1)
    _print(found.live, as_json=False)
    verdict = "identical" if found.identical else f"DIFFERENT in {', '.join(found.differing)}"
    print(f"rebuilt                 {found.rebuilt.total}\nrebuilt equals live     {verdict}", file=sys.stderr)
    if not found.identical:
        sys.exit(1)


def _as_json(found: "Digest") -> dict[str, Any]:
    return {"position": found.position, "digest": found.total, "tables": found.tables}


def _print(found: "Digest", *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(found))
        return
    for name, value in sorted(found.tables.items()):
        print(f"{name:<24}{value[:16]}")
    print(f"{'all tables':<24}{found.total}\nposition                {found.position}")
