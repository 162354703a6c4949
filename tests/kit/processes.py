"""Whether a process is there."""

import psutil


def is_running(pid: int) -> bool:
    """Whether it has not ended; who has, and was not waited for yet, has ended."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
