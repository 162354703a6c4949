"""Ports for servers that begin to listen only later: nobody else gets them in between, and no two the same."""

import os
import socket
import sys
from contextlib import ExitStack


def own_host() -> str:
    """A loopback address that no other process of this machine listens at; where there is but one, that one."""
    pid = os.getpid()
    return f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}" if sys.platform == "linux" else "127.0.0.1"


def free_ports(host: str, count: int = 1) -> list[int]:
    """Each is held until all are found: the kernel may give one that was let go to who asks next."""
    with ExitStack() as held:
        found = [held.enter_context(socket.create_server((host, 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in found]
