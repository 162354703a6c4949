"""``mesh psk``: the key of a private network."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mesh.errors import ConfigError

FileArgument = Annotated[Path, Parameter(help="The key's file; [overlay] psk_file names it")]


def new(file: FileArgument) -> None:
    """Make a key. Whoever has the file can join; bring it to every node by a way that you trust."""
    from mesh.p2p import network_key

    key = network_key.generate()
    try:
        network_key.write_file(file, key)
    except OSError as error:
        raise ConfigError(
            f"the network key {file} cannot be written: {error.strerror}", remedy="Name a file that is not there yet."
        ) from error
    print(network_key.fingerprint(key))


def fingerprint(file: FileArgument) -> None:
    """What tells one key from another without giving it away; kubo prints the same."""
    from mesh.p2p import network_key

    print(network_key.fingerprint(network_key.read_file(file)))
