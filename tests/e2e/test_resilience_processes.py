"""One of five real nodes becomes slow, or fails at random: those who ask hardly notice, and the journal says why.

Healthy and troubled experts are asked at the same time, so that other processes of the machine are felt by both. A
short one of this is among what tests/e2e/test_consensus_processes.py shows.
"""

import json
from pathlib import Path

import pytest

from benchmarks.peer_trouble import TROUBLES, five, measures, troubled
from mesh.api.client import Mesh
from tests.kit.effort import thorough

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
REQUESTS = 1200


@thorough
async def test_one_of_five_in_trouble_is_hardly_felt(tmp_path: Path) -> None:
    async with five(tmp_path) as asking, Mesh.connect(asking.home.root) as mesh:
        found = measures(await troubled(mesh, tmp_path / "trouble", REQUESTS))
        for measure in found:
            print(measure)
            assert measure.met is not False
        only = ("--only", "expert.ejected", "--after", "1", "--no-follow", "--json")
        _, printed, _ = await asking.command("events", "tail", *only)
        ejected = [json.loads(line)["event"]["data"]["expert"] for line in printed.splitlines()]
        assert set(ejected) >= set(TROUBLES)
