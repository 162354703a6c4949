import asyncio

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.effort import THOROUGH

# How long an example took says how busy the machine was. The usual run draws the same examples each time, so that what
# fails was changed; `make thorough` draws new ones.
settings.register_profile(
    "mesh", deadline=None, derandomize=not THOROUGH, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("mesh")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--refresh-golden",
        action="store_true",
        help="rewrite the golden files from what the code does now, instead of comparing with them",
    )


def pytest_configure() -> None:
    # looptime asks for the current loop around every test, also where there is none; unless told so, asyncio makes
    # one then, which nobody closes.
    asyncio.set_event_loop(None)


@pytest.fixture
def refresh_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--refresh-golden"))
