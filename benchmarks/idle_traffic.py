"""What a node of a mesh of ten sends and receives when nobody asks anything: heartbeats, offers, gossip, keep-alives.

Ten real overlays, all connected to all, in a network namespace of their own, where the loopback interface carries
nothing else: its counter has every byte, TCP and IP headers and acknowledgements too.
"""

import asyncio
import fcntl
import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.measure import Measure, below, watched
from benchmarks.members import member, until_connected

NODES = 10
SETTLE_S = 20.0
WATCH_S = 60.0
LIMIT_MB_PER_H = 20.0
_UP_FLAG, _GET_FLAGS, _SET_FLAGS = 0x1, 0x8913, 0x8914
_INSIDE = "inside"


def run() -> Iterable[Measure]:
    """Measure; about two minutes. Without a network namespace there is nothing that could be counted."""
    command = namespace()
    if command is None:
        print("  idle traffic is not measured: there is no network namespace to be had")
        return
    done = subprocess.run(
        [*command, sys.executable, "-m", __name__, _INSIDE], stdout=subprocess.PIPE, check=True, text=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    yield below(f"idle traffic of a node, mesh of {NODES}", figures["mb_per_h"], "MB/h", limit=LIMIT_MB_PER_H)
    yield watched("packets of an idle node", figures["packets_per_s"], "per s")


def namespace() -> list[str] | None:
    """How to run something in a network of its own; None where that is not allowed."""
    if shutil.which("unshare") is None:
        return None
    for options in (["--net"], ["--user", "--map-root-user", "--net"]):
        if subprocess.run(["unshare", *options, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return ["unshare", *options]
    return None


async def inside() -> None:
    loopback_up()
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            members = [await member(stack, Path(directory) / str(number)) for number in range(NODES)]
            for each in members:
                each.meet(*members)
            await until_connected(members, NODES - 1)
            await asyncio.sleep(SETTLE_S)
            before = loopback()
            await asyncio.sleep(WATCH_S)
            size, packets = (after - earlier for after, earlier in zip(loopback(), before, strict=True))
    # What loopback carries once, one node sent and another received.
    figures = {"mb_per_h": 2 * size / NODES / WATCH_S * 3600 / 1e6, "packets_per_s": 2 * packets / NODES / WATCH_S}
    print(json.dumps(figures), flush=True)


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(control, _GET_FLAGS, request))
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP_FLAG))


def loopback() -> tuple[int, int]:
    """Bytes and packets that the loopback interface of this namespace has carried."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    fields = next(line for line in lines if line.strip().startswith("lo:")).split(":")[1].split()
    return int(fields[0]), int(fields[1])


if __name__ == "__main__" and sys.argv[1:] == [_INSIDE]:
    asyncio.run(inside())
