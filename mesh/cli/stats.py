"""``mesh stats``"""

import asyncio
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from mesh.cli.options import ReadOptions
from mesh.cli.read import projected
from mesh.cli.render import console, print_json, print_rows
from mesh.clock import SystemClock, rfc3339

_MOST_HOURS = 1_000_000
_TIMES = ("p50_ms", "p95_ms", "p99_ms")


def stats(
    *,
    hours: Annotated[
        float, Parameter(help="Of the last so many hours; 0: of all time", validator=Number(gte=0, lte=_MOST_HOURS))
    ] = 24,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """How the mesh does, as this node sees it: who covers which domain, how fast, how well."""
    since = rfc3339(SystemClock().now() - hours * 3600) if hours else ""
    found = asyncio.run(projected(options, lambda tables: tables.statistics(since)))
    if options.json:
        print_json(found)
        return
    _print_total(found["total"], f"last {hours:g} h" if hours else "all time")
    print_rows(
        found["domains"],
        columns=(
            "domain",
            "experts",
            "peers",
            "slots",
            "load",
            "requests",
            "completed",
            "failed",
            "cache_hits",
            *_TIMES,
        ),
        as_json=False,
        empty="No domain is served, and none was asked for.",
    )
    if found["experts"]:
        console().print()
        columns = ("expert", "peer", "asked", "answered", "failed", "in_flight", *_TIMES, "tokens_per_s")
        print_rows(found["experts"], columns=columns, as_json=False, empty="")


def _print_total(total: dict[str, Any], what: str) -> None:
    ended = (total["completed"] or 0) + (total["failed"] or 0)
    success = f"{total['completed'] / ended:.1%} of {ended} answered" if ended else "no requests"
    times = ", ".join(f"{name[:3]} {total[name]:,.0f} ms" for name in _TIMES if total[name] is not None)
    out = console()
    out.print(f"[bold]{what}[/]  {success}{', ' + times if times else ''}")
    if ended:
        out.print(
            f"{total['attempts']} attempts, {total['cache_hits']} from the cache, {total['fallbacks']} fell back, "
            f"{total['rejected']} rejected, {total['in_flight']} in flight"
        )
    out.print()
