"""A node of `Peers` over the real overlay, in a process of its own: ``python -m tests.kit.peer_child DIRECTORY``.

It serves ``echo`` and ``hang``, and prints its PeerId, its address and the pid of its overlay as one line of JSON.
"""

import asyncio
import json
import sys
from pathlib import Path

from mesh.clock import SystemClock
from mesh.config import OverlayConfig
from mesh.identity import Identity
from mesh.p2p.calls import InboundCall, Reply
from mesh.p2p.overlay_process import ProcessOverlay
from tests.kit.peer_nodes import PeerNode

LOOPBACK = "/ip4/127.0.0.1/tcp/0"


async def hang(call: InboundCall) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


def real_node(
    directory: Path, mesh: str = "lab", listen: str = LOOPBACK, **settings: object
) -> tuple[PeerNode, ProcessOverlay]:
    """A node over the overlay process, to be started."""
    config = OverlayConfig(listen=[listen], mdns=False, redial_min_s=0.2, redial_max_s=2.0, **settings)
    identity = Identity.generate()
    overlay = ProcessOverlay(identity, config, directory / "run", directory / "overlay.log", agent="test/1")
    node = PeerNode(identity.peer_id, overlay, SystemClock(), config, mesh=mesh)
    node.peers.serve("hang", hang)
    return node, overlay


async def main(directory: Path) -> None:
    node, overlay = real_node(directory)
    await node.start()
    line = {"peer": node.peer_id, "address": overlay.addresses[0], "overlay": overlay.pid}
    print(json.dumps(line), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await node.stop()
    print(json.dumps(node.kinds()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
