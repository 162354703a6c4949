"""What a wire says of the peer at its other end: when it was listened to, and whether it has spoken meanwhile."""

from collections.abc import Callable

import trio
import trio.testing

from mesh.p2p.host.wires import ByteWire, tcp_wire, unread_of


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not condition():
            await trio.sleep(0.005)


async def pair() -> tuple[ByteWire, trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    near = tcp_wire(await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]), inbound=False)
    far = await listener.accept()
    await listener.aclose()
    return near, far


def test_who_has_spoken_is_unread_until_the_last_byte_is_taken() -> None:
    async def main() -> None:
        (spoken, mouth), (silent, other) = await pair(), await pair()
        wires = [spoken, silent]
        assert unread_of(wires) == set()
        await mouth.send_all(b"hello")
        await until(lambda: unread_of(wires) == {spoken})  # in the kernel
        assert await spoken.read(2) == b"he"
        assert unread_of(wires) == {spoken}  # in what was read ahead
        assert await spoken.read(3) == b"llo"
        assert unread_of(wires) == set()
        spoken.abort("done")
        assert unread_of(wires) == set()
        for stream in (mouth, other):
            await stream.aclose()
        silent.abort("done")

    trio.run(main)


def test_who_is_listened_to_late_was_not_silent() -> None:
    async def main() -> None:
        wire, mouth = await pair()
        await mouth.send_all(b"hello")
        await wire.read(2)
        first = wire.heard_at
        await trio.sleep(60)
        await wire.read(3)
        assert wire.heard_at >= first + 60
        wire.abort("done")
        await mouth.aclose()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))
