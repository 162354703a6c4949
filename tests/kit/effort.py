"""How much work a test makes of it: enough for every change, and all of it with ``THOROUGH=1`` (`make thorough`)."""

import os

import pytest

THOROUGH = os.environ.get("THOROUGH") == "1"

thorough = pytest.mark.skipif(not THOROUGH, reason="it takes a minute or more: `make thorough` runs it")


def times(everything: int, usually: int) -> int:
    """How often a costly thing is tried."""
    return everything if THOROUGH else usually
