"""Two ends of a QUIC connection without a socket between them: a test decides what is carried, lost or said first."""

from collections.abc import Callable
from typing import Any

import trio
import trio.testing
from aioquic.tls import Epoch
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from mesh.p2p.host.quic.connection import QuicMuxed, QuicWire
from mesh.p2p.host.quic.machine import Identity, Machine
from mesh.p2p.host.quic.resets import Resets
from mesh.p2p.host.receiving import ReceiveBudget

CLIENT, SERVER = ("192.0.2.1", 1111), ("192.0.2.2", 2222)
MAX_STREAMS = 48
SILENT_S = 30.0


def identity_of(seed: int, max_streams: int = MAX_STREAMS) -> Identity:
    return Identity(create_new_key_pair(bytes([seed] * 32)), silent_s=SILENT_S, max_streams=max_streams)


def peer_of(seed: int) -> ID:
    return ID.from_pubkey(create_new_key_pair(bytes([seed] * 32)).public_key)


# A certificate takes a while to make.
IDENTITIES = {CLIENT: identity_of(1), SERVER: identity_of(2)}


class End:
    """One side: what it has sent waits in ``sent`` until it is carried."""

    def __init__(self, machine: Machine, own: Any, remote: Any, budget: ReceiveBudget) -> None:
        self.own = own
        self.machine = machine
        self.sent: list[bytes] = []
        self.ids: set[bytes] = {machine.host_cid}
        self.muxed = QuicMuxed(
            machine,
            QuicWire(remote, inbound=own == SERVER),
            budget,
            send=lambda data, _remote: self.sent.append(data),
            on_ids=self._on_ids,
        )

    def _on_ids(self, muxed: QuicMuxed, connection_id: bytes, means_it: bool) -> None:
        assert muxed is self.muxed
        (self.ids.add if means_it else self.ids.discard)(connection_id)

    def tick(self) -> None:
        """What `QuicMuxed.run` does when it is time."""
        at = self.machine.get_timer()
        if not self.muxed.is_closed and at is not None and at <= trio.current_time():
            self.machine.handle_timer(trio.current_time())
            self.muxed.flush()


class Pair:
    """A client and a server. Inside trio; ``identities`` may replace those that they have."""

    def __init__(self, identities: dict[Any, Identity] | None = None, budget: int = 1 << 40) -> None:
        known = IDENTITIES | (identities or {})
        self.budget = ReceiveBudget(budget)
        dialler = Machine(known[CLIENT], Resets(b"a" * 32, "a"), is_client=True)
        first = dialler.original_destination_connection_id
        listener = Machine(known[SERVER], Resets(b"b" * 32, "b"), is_client=False, original_cid=first)
        self.client = End(dialler, CLIENT, SERVER, self.budget)
        self.server = End(listener, SERVER, CLIENT, self.budget)
        self.lose: Callable[[bytes], bool] = lambda _data: False

    def begin(self) -> None:
        """Both have proved who they are."""
        self.client.machine.connect(SERVER, trio.current_time())
        self.client.muxed.flush()
        self.carry()

    def carry(self) -> None:
        """Bring everything that is on its way, and what is said of it, until both are quiet."""
        for _ in range(1000):
            if not self.carry_once(self.client, self.server) + self.carry_once(self.server, self.client):
                return
        raise AssertionError("they go on for ever")

    def carry_once(self, near: End, far: End) -> int:
        """Bring what ``near`` has sent; how many datagrams that were."""
        sent, near.sent = near.sent, []
        for data in sent:
            if not self.lose(data):
                far.muxed.receive(data, near.own)
        far.muxed.flush()
        return len(sent)

    def say(self, near: End, far: End, frames: bytes) -> None:
        """A packet of ``near`` that holds just these, whatever they are."""
        crypto = near.machine._cryptos[Epoch.ONE_RTT]
        number = near.machine._packet_number
        near.machine._packet_number += 1
        header = bytes([0x41 | crypto.key_phase << 2]) + near.machine._peer_cid.cid + number.to_bytes(2)
        far.muxed.receive(crypto.encrypt_packet(header, frames.ljust(4, b"\0"), number), near.own)
        far.muxed.flush()

    async def later(self, seconds: float = 0.1, steps: int = 10) -> None:
        """Time passes for both, and what they send meanwhile is brought."""
        for _ in range(steps):
            await trio.sleep(seconds / steps)
            for end in (self.client, self.server):
                end.tick()
            self.carry()

    async def until(self, condition: Callable[[], bool], within_s: float = 100.0) -> None:
        """Time passes until ``condition()`` holds: what is much is paced."""
        end = trio.current_time() + within_s
        while not condition():
            assert trio.current_time() < end, "it did not come"
            await self.later(0.01, 1)


def inside_trio(main: Callable[[], Any]) -> None:
    """Run it in a time that passes as soon as everybody waits."""

    async def bounded() -> None:
        with trio.fail_after(3600):
            await main()

    trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))
