"""``mesh init``"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mesh.cli.options import HomeOption
from mesh.p2p import network_key
from mesh.setup import initialise


def init(
    *,
    name: Annotated[
        str, Parameter(help="What people call this node [default: the host's name]", show_default=False)
    ] = "",
    private: Annotated[bool, Parameter(help="Make the key of a private network too: swarm.key")] = False,
    psk: Annotated[Path | None, Parameter(help="Join the private network whose key is in this file")] = None,
    options: HomeOption = HomeOption(),  # noqa: B008 - frozen
) -> None:
    """Make a node's home: its identity (an Ed25519 key) and a config.toml to edit."""
    home = options.open()
    key = _network_key(private, psk)
    identity = initialise(home, name=name, network_key=bool(key))
    if key:
        network_key.write_file(home.network_key, key)
    command = sys.argv[0] if Path(sys.argv[0]).name == "mesh" else f"{sys.executable} -m mesh"
    where = "" if options.home is None else f" --home {home.root}"
    print(f"peer    {identity.peer_id}\nhome    {home.root}\nconfig  {home.config_file}\nnext    {command} up{where}")
    if key:
        print(f"network {network_key.fingerprint(key)} (bring {home.network_key} to the other nodes)")


def _network_key(private: bool, file: Path | None) -> bytes:
    if file is not None:
        return network_key.read_file(file)
    return network_key.generate() if private else b""
