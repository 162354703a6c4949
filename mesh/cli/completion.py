"""``mesh completion``"""

from typing import Annotated, Literal

from cyclopts import Parameter


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Which shell reads it")], /) -> None:
    """Print the script by which a shell completes commands and options."""
    from mesh.cli import app

    print(app.generate_completion(prog_name="mesh", shell=shell))
