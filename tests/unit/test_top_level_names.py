"""`from mesh import Mesh`, at no cost to whoever wants something else."""

import subprocess
import sys

import pytest

import mesh
from mesh.api import client, failures

HEAVY = ("nats", "asyncio", "pydantic", "msgspec", "sqlalchemy")


def test_what_programs_need_is_at_the_top() -> None:
    from mesh import Mesh, RequestFailed

    assert Mesh is client.Mesh
    assert RequestFailed is failures.RequestFailed
    assert all(getattr(mesh, name) for name in mesh.__all__)
    assert set(mesh.__all__) <= set(dir(mesh))


def test_what_is_not_there_is_said_not_to_be() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Mash'"):
        _ = mesh.Mash  # type: ignore[attr-defined]


def test_importing_it_loads_nothing_else() -> None:
    code = f"import sys, mesh; print([name for name in {HEAVY} if name in sys.modules], mesh.__version__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split()[0] == "[]", found.stdout
