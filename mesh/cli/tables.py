"""``mesh peers``, ``mesh experts``, ``mesh requests``, ``mesh health``: the projected tables, for people."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mesh.cli.options import ReadOptions, Whole
from mesh.cli.read import projected, standing
from mesh.cli.render import print_rows

Limit = Annotated[Whole, Parameter(help="At most so many rows", validator=Number(gte=1, lte=2**31 - 1))]
State = Literal[
    "", "received", "routed", "dispatched", "answered", "completed", "failed", "cancelled", "rejected", "interrupted"
]


def peers(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """Who this node knows, and how each is."""
    print_rows(
        asyncio.run(standing(options, lambda tables: tables.peers())),
        columns=("name", "peer", "state", "status", "latency_ms", "address", "transport", "last_seen_at"),
        as_json=options.json,
        empty="No peers yet: is another node of this mesh up?",
    )


def experts(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """Who can answer what, here and elsewhere."""
    rows = asyncio.run(standing(options, lambda tables: tables.experts()))
    print_rows(
        rows if options.json else [{**row, "state": _standing(row)} for row in rows],
        columns=(
            "expert",
            "peer_name",
            "peer",
            "domains",
            "model",
            "state",
            "in_flight",
            "queued",
            "concurrency",
            "quality",
            "price",
        ),
        as_json=options.json,
        empty="No experts: declare some in config.toml, or connect to a node that has some.",
    )


def _standing(row: Mapping[str, Any]) -> str:
    """Its state; of one that is left alone for a while until when, and by which rule; or that it takes no requests."""
    if row["state"] != "active":
        return str(row["state"])
    if row["ejected_until"] is None:
        return "active" if row["available"] else "unavailable"
    return f"{row['ejected_by']} until {row['ejected_until'][11:19]}".replace("_", " ")


def requests(
    *,
    limit: Limit = 20,
    state: Annotated[State, Parameter(help="Only those in this state")] = "",
    content: Annotated[bool, Parameter(help="With what was asked and answered, where it is kept", negative="")] = False,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """The latest requests of this node, newest first."""
    rows = asyncio.run(projected(options, lambda tables: tables.requests(limit, state or None)))
    if content:
        from mesh.cli.content import print_requests

        print_requests(rows, options)
        return
    print_rows(
        rows,
        columns=(
            "request",
            "received_at",
            "domain",
            "strategy",
            "state",
            "expert",
            "peer_name",
            "latency_ms",
            "attempts",
            "error_kind",
        ),
        as_json=options.json,
        empty=f"No requests are {state}." if state else "No requests yet: try `mesh ask`.",
    )


def health(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """This node and its peers: status, score and trends."""
    print_rows(
        asyncio.run(standing(options, lambda tables: tables.health())),
        columns=(
            "target",
            "kind",
            "status",
            "score",
            "since_at",
            "latency_ms",
            "cpu_percent",
            "memory_percent",
            "disk_percent",
        ),
        as_json=options.json,
        empty="No health samples yet: the first comes within one interval of `mesh up`.",
    )
