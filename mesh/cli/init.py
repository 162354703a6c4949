"""``mesh init``"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mesh.cli.options import HomeOption
from mesh.setup import initialise


def init(
    *,
    name: Annotated[str, Parameter(help="What people call this node [default: the host's name]")] = "",
    options: HomeOption = HomeOption(),  # noqa: B008 - frozen
) -> None:
    """Make a node's home: its identity (an Ed25519 key) and a config.toml to edit."""
    home = options.open()
    identity = initialise(home, name=name)
    command = sys.argv[0] if Path(sys.argv[0]).name == "mesh" else f"{sys.executable} -m mesh"
    where = "" if options.home is None else f" --home {home.root}"
    print(f"{identity.peer_id}\nhome    {home.root}\nconfig  {home.config_file}\nnext    {command} up{where}")
