"""How reading commands get at the tables."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from mesh.cli.options import HomeOption
from mesh.projections.database import database_url
from mesh.projections.queries import Queries

T = TypeVar("T")


async def projected(options: HomeOption, question: Callable[[Queries], Awaitable[T]]) -> T:
    """Ask the projected tables, whether the node is running or not."""
    home, config = options.load()
    async with Queries(database_url(home, config.storage)) as tables:
        return await question(tables)
