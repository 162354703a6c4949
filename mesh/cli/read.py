"""How reading commands get at the tables."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from mesh.cli.options import HomeOption
from mesh.identity import load_key_file

if TYPE_CHECKING:
    from mesh.projections.queries import Queries

T = TypeVar("T")


async def projected(options: HomeOption, question: "Callable[[Queries], Awaitable[T]]") -> T:
    """Ask the projected tables what the node itself knows, whether it is running or not."""
    from mesh.projections.database import database_url
    from mesh.projections.queries import Queries

    home, config = options.load()
    node = load_key_file(home.key_file).peer_id if home.key_file.exists() else ""
    async with Queries(database_url(home, config.storage), node=node) as tables:
        return await question(tables)
