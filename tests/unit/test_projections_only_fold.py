"""Projections fold what was decided; they have nothing to decide with."""

import subprocess
import sys

# Where decisions are made: policies, strategies, scores, statuses, rules.
DECIDING = ("mesh.experts", "mesh.health.decide", "mesh.health.score", "mesh.health.status", "mesh.health.rules",
            "mesh.health.alerting", "mesh.p2p", "mesh.api", "mesh.node")  # fmt: skip


def test_a_projector_has_no_code_that_decides_in_its_process() -> None:
    program = "import sys, mesh.projections.worker, mesh.projections.rebuild; print(*sys.modules, sep='\\n')"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = ran.stdout.split()
    assert "mesh.projections.folds" in loaded
    assert [name for name in loaded if name.startswith(DECIDING)] == []
