"""How reading commands get at the tables."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from mesh.cli.options import HomeOption

if TYPE_CHECKING:
    from mesh.projections.queries import Queries

T = TypeVar("T")


async def projected(options: HomeOption, question: "Callable[[Queries], Awaitable[T]]") -> T:
    """Ask the projected tables, whether the node is running or not."""
    from mesh.projections.database import database_url
    from mesh.projections.queries import Queries

    home, config = options.load()
    async with Queries(database_url(home, config.storage)) as tables:
        return await question(tables)
