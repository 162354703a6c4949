import asyncio
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.clock import SystemClock, rfc3339, unix_seconds
from mesh.ids import new_id

moments = st.floats(min_value=0, max_value=4e9)


@given(moments)
def test_a_time_comes_back_to_the_microsecond(seconds):
    text = rfc3339(seconds)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert abs(unix_seconds(text) - seconds) <= 1e-6
    assert rfc3339(unix_seconds(text)) == text


@given(moments, moments)
def test_the_order_of_the_texts_is_the_order_of_the_times(one, other):
    assert (one <= other) <= (rfc3339(one) <= rfc3339(other))


def test_a_known_time_is_written_as_everybody_writes_it():
    assert rfc3339(1795341600.5) == "2026-11-22T10:00:00.500000Z"
    assert unix_seconds("2026-11-22T12:00:00+02:00") == 1795341600


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-22T10:00:00", "2026-13-01T00:00:00Z"])
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        unix_seconds(text)


async def test_the_system_clock_sleeps_as_long_as_it_says():
    clock = SystemClock()
    before, loop = clock.monotonic(), asyncio.get_running_loop()
    started = loop.time()
    await clock.sleep(0.02)
    assert clock.monotonic() - before >= 0.02
    assert loop.time() > started
    assert clock.now() > 1.7e9


def test_ids_are_version_7_unique_and_sorted_by_when_they_were_made():
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert uuid.UUID(ids[0]).version == 7
    assert uuid.UUID(ids[0]).variant == uuid.RFC_4122
