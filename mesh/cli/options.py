"""Parameters that every command has, and kinds that many have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, Token

from mesh.home import Home

if TYPE_CHECKING:
    from mesh.config import Config


def _as_written(_type: object, tokens: Sequence[Token]) -> int:
    """A whole number; cyclopts alone takes 1.5 and rounds it."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError from None  # without words: then cyclopts names the parameter and the value


Whole = Annotated[int, Parameter(converter=_as_written)]
_HOME_HELP = "The node's directory [default: $MESH_HOME or the user's data directory]"


@Parameter(name="*")
@dataclass(frozen=True)
class HomeOption:
    """Which node."""

    home: Annotated[Path | None, Parameter(help=_HOME_HELP)] = None

    def open(self) -> Home:
        """The home that was chosen."""
        from mesh.config import default_home

        return Home((self.home or default_home()).expanduser().absolute())

    def node(self) -> Home:
        """The same, where a node was made. Raises NodeUnreachable."""
        home = self.open()
        home.require_node()
        return home

    def load(self) -> "tuple[Home, Config]":
        """The home and its settings. Raises ConfigError."""
        from mesh.config import load_config

        home = self.open()
        return home, load_config(home.root)


@Parameter(name="*")
@dataclass(frozen=True)
class ReadOptions(HomeOption):
    """Which node, and for whom the answer is."""

    json: Annotated[bool, Parameter(help="Print JSON, for programs: of a list one object a line", negative="")] = False
