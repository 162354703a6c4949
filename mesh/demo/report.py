"""The figures at the end of the demo, out of the tables and of nothing else."""

from rich.table import Table

from mesh.demo.screen import Screen
from mesh.projections.queries import Queries


async def report(tables: Queries, screen: Screen) -> None:
    """Requests by domain with their latencies, and events by kind of table."""
    _, rows = await tables.sql("SELECT domain, state, latency_ms, attempts FROM requests ORDER BY domain", 10_000)
    table = Table(box=None, pad_edge=False, header_style="bold", title="Requests", title_justify="left")
    for name in ("domain", "asked", "completed", "attempts", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "domain" else "right")
    for domain in [*sorted({row[0] for row in rows}), "all"]:
        found = [row for row in rows if domain in (row[0], "all")]
        latencies = sorted(row[2] for row in found if row[2] is not None)
        table.add_row(
            domain,
            str(len(found)),
            str(sum(row[1] == "completed" for row in found)),
            str(sum(row[3] or 0 for row in found)),
            f"{percentile(latencies, 50):,.0f}",
            f"{percentile(latencies, 99):,.0f}",
        )
    screen.console.print(table)
    _, alerts = await tables.sql("SELECT rule, state, COUNT(*) FROM alerts GROUP BY rule, state ORDER BY rule", 100)
    screen.console.print(
        "Alerts    " + (", ".join(f"{rule} {state} {count}" for rule, state, count in alerts) or "none")
    )


def percentile(ordered: list[float], percent: float) -> float:
    """The nearest-rank percentile of sorted values; 0 when there are none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, round(len(ordered) * percent / 100 + 0.5) - 1))]
