"""``mesh alerts``"""

import asyncio
import getpass
from typing import Annotated

from cyclopts import Parameter

from mesh.cli.options import HomeOption, ReadOptions
from mesh.cli.read import projected
from mesh.cli.render import print_rows
from mesh.cli.whole_ids import LEAST, only


def list_alerts(
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="", help="Resolved ones too")] = False,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Alerts that are open."""
    print_rows(
        asyncio.run(projected(options, lambda tables: tables.alerts(open_only=not all_))),
        columns=("alert", "severity", "state", "raised_at", "resolved_at", "acknowledged_by", "summary"),
        as_json=options.json,
        empty="No alerts." if all_ else "No open alerts.",
    )


def ack(
    alert: Annotated[str, Parameter(help="The alert's id, as `mesh alerts` lists it, or its first 8 or more")],
    /,
    *,
    note: Annotated[str, Parameter(help="Why, for those who read the history")] = "",
    actor: Annotated[str, Parameter(help="Who acknowledges [default: your user name]", show_default=False)] = "",
    options: HomeOption = HomeOption(),  # noqa: B008 - frozen
) -> None:
    """Say that somebody has seen an alert."""
    from mesh.api.client import Mesh, RequestFailed

    async def acknowledge() -> str:
        async with Mesh.connect(options.open().root) as mesh:
            who = actor or getpass.getuser()
            whole = alert
            try:
                await mesh.acknowledge(whole, actor=who, note=note)
            except RequestFailed:
                if not (whole := await _begun_by(alert, options)):
                    raise
                await mesh.acknowledge(whole, actor=who, note=note)
            return whole

    print(f"acknowledged {asyncio.run(acknowledge())}")


async def _begun_by(given: str, options: HomeOption) -> str:
    """The open alert whose id begins so, empty: none does. Raises MeshError when there are several."""
    rows = await projected(options, lambda tables: tables.alerts(open_only=True))
    found = [row["alert"] for row in rows if len(given) >= LEAST and row["alert"].startswith(given)]
    return only(given, found) if found else ""
