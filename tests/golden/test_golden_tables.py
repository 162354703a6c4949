"""The same journal gives the same rows in every release, unless the version of the fold says otherwise.

`--refresh-golden` writes ``tables.json`` anew; ``history.jsonl`` is never changed, only made where it is missing.
"""

import json
from pathlib import Path

from benchmarks.events import records
from mesh.projections.folds import PROJECTIONS
from mesh.projections.runner import Runner
from tests.kit.golden import GOLDEN, load, save
from tests.kit.tables import digest_of, empty_tables

HISTORY = "history"
TABLES = GOLDEN / "tables.json"


def test_folds_that_give_other_rows_have_another_version(tmp_path: Path, refresh_golden: bool) -> None:
    if refresh_golden and not (GOLDEN / f"{HISTORY}.jsonl").exists():
        save(HISTORY, records(250, seed=7, peers=3, restarts=1.5))
    with empty_tables(tmp_path) as engine:
        runner = Runner(engine)
        runner.open()
        runner.apply(load(HISTORY))
        digests = digest_of(engine).tables
    now = {p.name: {"version": p.version, "digest": digests[p.name]} for p in PROJECTIONS}
    if refresh_golden:
        TABLES.write_text(json.dumps(now, indent=1) + "\n")
    before = json.loads(TABLES.read_text())
    for name, found in now.items():
        assert name in before, f"{name} is new: run with --refresh-golden"
        if found["version"] == before[name]["version"]:
            assert found == before[name], f"{name} folds other rows now: raise its version, then --refresh-golden"
        else:
            assert found["version"] > before[name]["version"], f"the version of {name} went back"
