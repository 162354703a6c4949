"""``mesh creds``"""

import msgspec

from mesh.cli.options import ReadOptions
from mesh.cli.render import print_json


def reader(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """What a tool needs to follow and read this node's events, and nothing more."""
    from mesh.events.readers import reader_instructions

    instructions = reader_instructions(options.open())
    if options.json:
        print_json(msgspec.to_builtins(instructions))
    else:
        print(instructions.snippet())
