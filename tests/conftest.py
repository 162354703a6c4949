import asyncio

import pytest


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
