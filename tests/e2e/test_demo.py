"""The demo is the first thing that anybody runs: all its steps come true, from nothing to the report."""

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason="the language model of the [llm] extra is not installed"),
]


async def test_the_demo_tells_its_whole_story(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mesh", "demo", "--directory", str(tmp_path / "homes"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    assert text.count(" → ") + text.count("                     →") >= 30
    assert "on attempt 2" in text
    assert text.count("recomputed: identical") == 2
    assert "alert peer_lost" in text
    assert "alert resolved" in text
    assert "start number 2, resumed from position" in text
    assert "of 3 asked agree, 2 were needed" in text
    assert "rebuilt equals live     identical" in text
    assert "whole:" in text
    assert "all steps came true" in text
