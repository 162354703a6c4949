"""Parameters that every command has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mesh.config import Config, default_home, load_config
from mesh.home import Home


@Parameter(name="*")
@dataclass(frozen=True)
class HomeOption:
    """Which node."""

    home: Annotated[
        Path | None, Parameter(help="The node's directory [default: $MESH_HOME or the user's data directory]")
    ] = None

    def open(self) -> Home:
        """The home that was chosen."""
        return Home((self.home or default_home()).expanduser().absolute())

    def load(self) -> tuple[Home, Config]:
        """The home and its settings. Raises ConfigError."""
        home = self.open()
        return home, load_config(home.root)


@Parameter(name="*")
@dataclass(frozen=True)
class ReadOptions(HomeOption):
    """Which node, and for whom the answer is."""

    json: Annotated[bool, Parameter(help="Print JSON, for programs", negative="")] = False
