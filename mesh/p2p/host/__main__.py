"""``python -m mesh.p2p.host <descriptor>``: started by the node, which left the settings in a pipe."""

import logging
import sys

import trio

from mesh.p2p.host.service import serve
from mesh.p2p.host.settings import take_over


def main() -> None:
    """Serve until the node is gone."""
    logging.disable(logging.ERROR)  # py-libp2p logs every stranger's mistake; what matters is reported as a fact
    trio.run(serve, take_over(int(sys.argv[1])))


main()
