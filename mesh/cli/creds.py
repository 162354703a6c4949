"""``mesh creds``"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from mesh.cli.options import ReadOptions
from mesh.cli.render import print_json
from mesh.home import Home

if TYPE_CHECKING:
    from mesh.events.readers import ReaderCredentials
    from mesh.events.workers import WorkerCredentials


def reader(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """What a tool needs to follow and read this node's events, and nothing more."""
    from mesh.events.readers import reader_instructions

    _print(reader_instructions, options)


def worker(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """What a NATS service needs to be an expert of this node, and nothing more."""
    from mesh.events.workers import worker_instructions

    _print(worker_instructions, options)


def _print(instructions: "Callable[[Home], ReaderCredentials | WorkerCredentials]", options: ReadOptions) -> None:
    home = options.open()
    try:
        given = instructions(home)
    except FileNotFoundError:
        raise home.never_ran() from None
    if options.json:
        print_json(msgspec.to_builtins(given))
    else:
        print(given.snippet())
