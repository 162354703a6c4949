"""How reading commands get at the tables."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from mesh.cli.options import HomeOption, ReadOptions
from mesh.home import Home, is_held
from mesh.identity import load_key_file

if TYPE_CHECKING:
    from mesh.config import Config
    from mesh.projections.queries import Queries

T = TypeVar("T")


async def projected(options: HomeOption, question: "Callable[[Queries], Awaitable[T]]") -> T:
    """Ask the projected tables what the node itself knows, whether it is running or not."""
    return await _ask(*options.load(), question)


async def standing(options: ReadOptions, question: "Callable[[Queries], Awaitable[T]]") -> T:
    """As `projected`, of tables that say how things are; people are told where no node is running to keep them true."""
    home, config = options.load()
    if options.json or config.broker.url or is_held(home):
        return await _ask(home, config, question)

    async def with_time(tables: "Queries") -> tuple[T, str]:
        return await question(tables), await tables.updated_at()

    answer, since = await _ask(home, config, with_time)
    when = since[:19].replace("T", " ")
    print(f"mesh: the node is not running: its tables are as they were at {when}", file=sys.stderr)
    return answer


async def _ask(home: Home, config: "Config", question: "Callable[[Queries], Awaitable[T]]") -> T:
    from mesh.projections.database import database_url
    from mesh.projections.queries import Queries

    node = load_key_file(home.key_file).peer_id if home.key_file.exists() else ""
    async with Queries(database_url(home, config.storage), node=node) as tables:
        return await question(tables)
