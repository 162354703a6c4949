"""``mesh creds``"""

import msgspec

from mesh.cli.options import ReadOptions
from mesh.cli.render import print_json
from mesh.errors import NodeUnreachable


def reader(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """What a tool needs to follow and read this node's events, and nothing more."""
    from mesh.events.readers import reader_instructions

    home = options.open()
    try:
        instructions = reader_instructions(home)
    except FileNotFoundError:
        raise NodeUnreachable(
            f"no node has run in {home.root}", remedy="Start one with `mesh up`, or name its directory with --home."
        ) from None
    if options.json:
        print_json(msgspec.to_builtins(instructions))
    else:
        print(instructions.snippet())
