"""``mesh demo``"""

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def demo(
    *,
    keep: Annotated[bool, Parameter(help="Leave the mesh up at the end", negative="")] = False,
    directory: Annotated[Path | None, Parameter(help="Where the nodes' homes go [default: a temporary one]")] = None,
) -> None:
    """Five nodes on this machine: asked, killed, alerted on, resumed, replayed. Takes a minute or two."""
    from mesh.demo.run import run_demo

    asyncio.run(run_demo(directory, keep=keep))
