"""`unless_gone`: a client that hangs up ends the work done for it, and nothing else."""

import asyncio
import contextlib

import pytest

from mesh.gateway.runs import ClientGone, unless_gone

pytestmark = pytest.mark.looptime


class Client:
    """An ASGI ``receive`` of a client that hangs up after so many seconds."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s

    async def __call__(self) -> dict[str, str]:
        await asyncio.sleep(self._after_s)
        return {"type": "http.disconnect"}


async def works(seconds: float, ended: list[str]) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    return "done"


async def test_what_is_done_in_time_is_given_and_the_watch_ends() -> None:
    assert await unless_gone(Client(9), works(1, [])) == "done"
    await asyncio.sleep(20)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_work_for_a_client_that_hangs_up_is_cancelled() -> None:
    ended: list[str] = []
    with pytest.raises(ClientGone):
        await unless_gone(Client(1), works(9, ended))
    assert ended == ["cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    assert asyncio.get_running_loop().time() < 2


async def test_one_that_hangs_up_as_the_work_ends_cancels_nothing_that_follows() -> None:
    for _ in range(3):
        with contextlib.suppress(ClientGone):
            assert await unless_gone(Client(1), works(1, [])) == "done"
        await asyncio.sleep(1)


async def test_cancelled_from_elsewhere_is_cancelled() -> None:
    ended: list[str] = []
    task = asyncio.create_task(unless_gone(Client(9), works(9, ended)))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]


async def test_what_the_work_raises_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("as told")

    with pytest.raises(ValueError, match="as told"):
        await unless_gone(Client(9), fails())


async def test_a_connection_that_fails_ends_the_work_and_says_so() -> None:
    async def receive() -> dict[str, str]:
        await asyncio.sleep(1)
        raise OSError("the connection broke")

    ended: list[str] = []
    with pytest.raises(OSError, match="the connection broke"):
        await unless_gone(receive, works(9, ended))
    assert ended == ["cancelled"]
