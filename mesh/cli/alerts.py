"""``mesh alerts``"""

import asyncio
import getpass
from typing import Annotated

from cyclopts import Parameter

from mesh.cli.options import HomeOption, ReadOptions
from mesh.cli.read import projected
from mesh.cli.render import print_rows


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
    alert: Annotated[str, Parameter(help="The alert's id, as `mesh alerts` lists it")],
    /,
    *,
    note: Annotated[str, Parameter(help="Why, for those who read the history")] = "",
    actor: Annotated[str, Parameter(help="Who acknowledges [default: your user name]")] = "",
    options: HomeOption = HomeOption(),  # noqa: B008 - frozen
) -> None:
    """Say that somebody has seen an alert."""
    from mesh.api.client import Mesh

    async def acknowledge() -> None:
        async with Mesh.connect(options.open().root) as mesh:
            await mesh.acknowledge(alert, actor=actor or getpass.getuser(), note=note)

    asyncio.run(acknowledge())
    print(f"acknowledged {alert}")
