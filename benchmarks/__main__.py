"""Run the benchmarks: ``python -m benchmarks [NAME …]``."""

import asyncio
import importlib
import inspect
import json
import os
import platform
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measure

NAMES = (
    "append",
    "replay",
    "visible",
    "start",
    "overlay",
    "transports",
    "peer_requests",
    "gateway",
    "api_requests",
    "peer_death",
    "peer_trouble",
    "detection",
    "offers",
    "idle",
    "bulk",
    "idle_traffic",
)
LATEST = Path(__file__).with_name("latest.json")


def main(arguments: list[str]) -> int:
    """Run what was asked for, all by default. A missed goal is said, and is no failure; a crash is one."""
    unknown = sorted(set(arguments) - set(NAMES))
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 140)
    measured: dict[str, list[Measure]] = {}
    crashed = []
    for name in arguments or NAMES:
        if find_spec(f"benchmarks.{name}") is None:
            console.print(f"{name}: there is no benchmarks/{name}.py", style="yellow")
            continue
        console.print(f"\n[bold]{name}[/] …")
        try:
            measured[name] = list(_shown(console, measures_of(name)))
        except Exception:
            traceback.print_exc()
            crashed.append(name)
    write_latest(LATEST, measured)
    console.print(verdict(measured, crashed))
    return 1 if crashed else 0


def measures_of(name: str) -> Iterable[Measure]:
    """What the benchmark ``name`` reports; a generator's measures come one by one."""
    result = importlib.import_module(f"benchmarks.{name}").run()
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def _shown(console: Console, measures: Iterable[Measure]) -> Iterator[Measure]:
    table = Table("measure", "value", "unit", "ratio", "baseline", "goal", "")
    for measure in measures:
        console.print(f"  {measure.name}: {measure.value:,.4g} {measure.unit}", style="dim")
        ratio = "" if measure.ratio is None else f"{measure.ratio:.2f}×"
        met = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[measure.met]
        table.add_row(measure.name, f"{measure.value:,.4g}", measure.unit, ratio, measure.baseline, measure.goal, met)
        yield measure
    console.print(table)


def verdict(measured: dict[str, list[Measure]], crashed: list[str]) -> str:
    """The closing line: how many goals were met, which were missed, what crashed."""
    goals = [measure for measures in measured.values() for measure in measures if measure.met is not None]
    missed = [measure.name for measure in goals if not measure.met]
    line = f"{len(goals) - len(missed)} of {len(goals)} goals met"
    line += f"; missed: {', '.join(missed)}" if missed else ""
    return line + (f"; crashed: {', '.join(crashed)}" if crashed else "")


def write_latest(path: Path, measured: dict[str, list[Measure]]) -> None:
    """Write a row a measure. A run of some benchmarks keeps the rows of the others, if they are this machine's."""
    rows = [asdict(measure) for measures in measured.values() for measure in measures]
    machine = machine_facts()
    before = json.loads(path.read_text()) if path.exists() else {}
    if set(measured) != set(NAMES) and before.get("machine") == machine:
        new = {row["name"] for row in rows}
        rows = [row for row in before["rows"] if row["name"] not in new] + rows
    latest = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "rows": rows}
    path.write_text(json.dumps(latest, indent=1, ensure_ascii=False) + "\n")


def machine_facts() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
