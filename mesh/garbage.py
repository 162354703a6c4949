"""Python's search for reference cycles, in processes that live long and answer soon."""

import gc

_COLLECT_AFTER = 10_000


def settle() -> None:
    """Leave what there is by now out of every later search, and search less often: call it once a process is up.

    A full search among the 80,000 objects of a node stopped it for 29 ms; among those made since for less than 1 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
