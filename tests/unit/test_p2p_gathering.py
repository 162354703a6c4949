"""Bodies that arrive in parts."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from mesh.p2p.gathering import Gathering

MIB = 1 << 20


@given(st.lists(st.binary(max_size=50)))
def test_the_whole_is_its_parts_in_order_and_taken_once(parts: list[bytes]) -> None:
    gathering = Gathering()
    for part in parts:
        gathering.add(part)
    assert gathering.take() == b"".join(parts)
    assert gathering.take() == b""


def test_a_large_body_is_held_about_once() -> None:
    part, gathering = bytes(64 * 1024), Gathering()
    tracemalloc.start()
    try:
        for _ in range(256):
            gathering.add(part)
        whole = gathering.take()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(whole) == 16 * MIB
    assert peak < 1.25 * len(whole)
