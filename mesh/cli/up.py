"""``mesh up``"""

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated

from cyclopts import Parameter

from mesh.cli.options import HomeOption


def up(
    *,
    ready_fd: Annotated[int | None, Parameter(help="Write a line there once the node serves", show=False)] = None,
    options: HomeOption = HomeOption(),  # noqa: B008 - frozen
) -> None:
    """Run the node until SIGINT or SIGTERM."""
    home, config = options.load()  # before all that a node is made of is loaded: what is wrong here is said at once

    from mesh.logs import configure_logging
    from mesh.running import run_node

    configure_logging(config.log)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run_node(home, config, ready_fd=ready_fd))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, where there is uvloop."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
