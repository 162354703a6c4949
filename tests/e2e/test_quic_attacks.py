"""Attacks on a real QUIC socket: others are served, who it was is recorded, and nothing grows."""

import asyncio
import datetime as dt
import errno
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable

import psutil
import pytest
import pytest_asyncio
from aioquic.quic.packet import QuicErrorCode
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.identity import Identity
from mesh.p2p.access import Access
from mesh.p2p.addresses import udp_target_of
from mesh.p2p.host.quic.machine import STREAM_WINDOW_BYTES
from mesh.p2p.overlay import Connected, DialFailed, Disconnected, Misbehaved, OverlayFact, Refused, Restarted, Stream
from tests.kit.effort import times
from tests.kit.overlays import PROTOCOL, Node, ProcessWorld, pid_of, reset
from tests.kit.quic_attacker import BadNetwork, Intruder, first_packet, flood, garbage

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
HANDSHAKE_S = 6.0
MAX_INBOUND = 60
STRANGERS = itertools.count(2)
ECHO = PROTOCOL.encode()
LISTEN = ["/ip4/127.0.0.1/udp/0/quic-v1"]


def stranger() -> str:
    """An address that nobody has come from yet."""
    number = next(STRANGERS)
    return f"127.0.{number // 250}.{number % 250 + 1}"


class Siege(ProcessWorld):
    """A victim, and a friend who is connected to it all the time."""

    source = ""

    @property
    def victim(self) -> Node:
        return self.nodes[0]

    @property
    def friend(self) -> Node:
        return self.nodes[1]

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(pid_of(self.victim))

    @property
    def to(self) -> tuple[str, int]:
        target = udp_target_of(self.victim.overlay.addresses[0])
        assert target is not None
        return target.host, target.port

    def complaints(self, *rules: str) -> list[OverlayFact]:
        said = [*self.victim.heard.of(Refused), *self.victim.heard.of(Misbehaved)]
        return [fact for fact in said if fact.rule in rules and self.source in fact.address]

    async def recorded(self, *rules: str) -> OverlayFact:
        return (await self.victim.heard.until(lambda: self.complaints(*rules), 60))[0]

    def intruder(self, **how: object) -> Intruder:
        return Intruder(self.to, self.source, **how)  # type: ignore[arg-type]

    async def until_flat(self, files: int) -> None:
        async with asyncio.timeout(60):
            while self.process.num_fds() > files:
                await asyncio.sleep(0.05)

    async def still_serves(self) -> None:
        assert not self.victim.heard.of(Restarted)
        assert not [fact for fact in self.victim.heard.of(Disconnected) if fact.peer == self.friend.peer]
        for near, far in ((self.friend, self.victim), (self.victim, self.friend)):
            pair = await stream_of(near, far)
            await ping(*pair)
            close(*pair)


async def stream_of(near: Node, far: Node) -> tuple[Stream, Stream]:
    """A new stream, as both ends see it, whoever else opens some."""
    known = list(far.heard.streams)
    stream = await near.overlay.open_stream(far.peer, PROTOCOL, 30)

    def new() -> list[Stream]:
        return [one for one in far.heard.streams if one not in known and one.peer == near.peer]

    return stream, (await far.heard.until(new, 60))[0]


async def ping(near: Stream, far: Stream) -> None:
    """Four bytes go there and back."""
    async with asyncio.timeout(60):
        near.writer.write(b"ping")
        assert await far.reader.readexactly(4) == b"ping"
        far.writer.write(b"pong")
        assert await near.reader.readexactly(4) == b"pong"


def close(*streams: Stream) -> None:
    for stream in streams:
        stream.writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def besieged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Siege]:
    strict = {
        "handshake_timeout_s": HANDSHAKE_S,
        "inbound_per_address_per_s": 1.0,  # slower than any machine
        "max_inbound": MAX_INBOUND,
    }
    siege = Siege(tmp_path_factory.mktemp("siege"), count=2, settings=[strict], common={"listen": LISTEN})
    await siege.start()
    yield siege
    await siege.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def siege(besieged: Siege) -> AsyncIterator[Siege]:
    await reset(besieged)
    besieged.source = stranger()
    await besieged.friend.dial(besieged.victim)
    yield besieged
    await besieged.still_serves()


@pytest.mark.parametrize("make", [first_packet, garbage])
async def test_datagrams_from_anywhere_cost_nothing_and_starve_nobody(siege: Siege, make: Callable[..., bytes]) -> None:
    pair = await stream_of(siege.friend, siege.victim)
    await asyncio.to_thread(flood, siege.to, siege.source, 500, 5000, make)  # caches fill
    files, memory = siege.process.num_fds(), siege.process.memory_info().rss
    pings = 0
    while pings <= 3:  # the machine may have paused for all of a short one
        attack = asyncio.create_task(asyncio.to_thread(flood, siege.to, siege.source, times(40_000, 4000), 4000, make))
        while not attack.done():
            await ping(*pair)
            pings += 1
        assert await attack > 0
    await siege.until_flat(files)
    assert siege.process.memory_info().rss - memory < 8 << 20
    close(*pair)


async def test_a_token_is_for_who_asked_for_it(siege: Siege) -> None:
    with siege.intruder() as one, siege.intruder() as other:
        await asyncio.to_thread(one.half_a_handshake)
        other.connection._peer_token = one.connection._peer_token
        await asyncio.to_thread(other.until, lambda: other.ended is not None)
        assert other.ended == QuicErrorCode.INVALID_TOKEN


async def test_half_handshakes_are_counted_and_meet_the_deadline(siege: Siege) -> None:
    halves = [siege.intruder() for _ in range(33)]
    for one in halves:
        await asyncio.to_thread(one.half_a_handshake)
    await asyncio.to_thread(halves[-1].until, lambda: halves[-1].ended is not None)
    assert halves[-1].ended == QuicErrorCode.CONNECTION_REFUSED
    refused = await siege.recorded("handshakes_per_address")
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.value) == ("32", "33")
    assert f"/ip4/{siege.source}/udp/" in refused.address
    late = await siege.recorded("handshake_deadline")
    assert isinstance(late, Refused)
    assert late.limit == f"{HANDSHAKE_S:g} s"
    for one in halves:
        one.sock.close()

    async def welcome() -> bool:
        with siege.intruder() as guest:
            await asyncio.to_thread(guest.handshake)
            return guest.ended is None

    async with asyncio.timeout(60):
        while not await welcome():
            await asyncio.sleep(0.2)


async def test_who_hammers_is_slowed_down_and_who_is_many_is_too_many(siege: Siege) -> None:
    for _ in range(120):
        with siege.intruder() as one:
            await asyncio.to_thread(one.handshake)
            one.close()
            if siege.complaints("inbound_per_address_per_s"):
                break
    assert isinstance(await siege.recorded("inbound_per_address_per_s"), Refused)
    crowd = []
    for _ in range(3):
        siege.source = stranger()
        crowd += [siege.intruder() for _ in range(30)]
    for one in crowd:  # made already: all must come within the time of a handshake
        await asyncio.to_thread(one.half_a_handshake)
        if one.ended is not None:
            break
    siege.source = "127.0."
    refused = await siege.recorded("max_inbound")
    assert isinstance(refused, Refused)
    assert refused.limit == str(MAX_INBOUND)
    for one in crowd:
        one.close()
        one.sock.close()


async def test_a_blocked_network_is_refused_at_once(siege: Siege) -> None:
    await siege.victim.overlay.restrict(Access(block=(f"{siege.source}/32",)))
    with siege.intruder() as one:
        await asyncio.to_thread(one.handshake)
        assert one.ended == QuicErrorCode.CONNECTION_REFUSED
    assert isinstance(await siege.recorded("blocked_address"), Refused)
    await siege.victim.overlay.restrict(Access())
    with siege.intruder() as one:
        await asyncio.to_thread(one.handshake)
        assert one.ended is None
        one.close()


def proving_nothing(_key_pair: object) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate that is good for itself, and says nothing of a PeerId."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    return builder.sign(key, hashes.SHA256()), key


@pytest.mark.parametrize(
    ("how", "says"),
    [
        pytest.param({"shows": 0}, "it must show one certificate", id="none"),
        pytest.param({"shows": 2}, "it must show one certificate", id="two"),
        pytest.param(
            {"proves": proving_nothing},
            "expected certificate to contain the key extension",
            id="one that proves nothing",
        ),
        pytest.param({"alpn": "h3"}, "No common ALPN protocols", id="another protocol"),
    ],
)
async def test_who_does_not_prove_who_it_is_is_refused(siege: Siege, how: dict[str, object], says: str) -> None:
    with siege.intruder(**how) as one:
        await asyncio.to_thread(one.until, lambda: one.ended is not None)
    complaint = await siege.recorded("handshake")
    assert isinstance(complaint, Misbehaved)
    assert says in complaint.detail
    assert not [fact for fact in siege.victim.heard.of(Connected) if siege.source in fact.address]


async def test_what_nobody_reads_stops_at_the_windows(siege: Siege) -> None:
    """Eight streams of 4 MiB each for a node that reads none; when they are given up, all room is there again."""
    memory = siege.process.memory_info().rss
    pair = await stream_of(siege.friend, siege.victim)
    with siege.intruder() as one:
        await asyncio.to_thread(one.handshake)
        for _ in range(times(3, 2)):
            numbers = [one.open(ECHO) for _ in range(8)]
            await asyncio.to_thread(one.until, lambda n=numbers: all(map(one.accepted, n)))
            for number in numbers:
                one.connection.send_stream_data(number, bytes(4 << 20))
            stepping = asyncio.create_task(asyncio.to_thread(one.until_quiet, 0.3))
            while not stepping.done():
                await ping(*pair)
            await stepping
            for number in numbers:
                sent = one.connection._streams[number].sender.highest_offset
                assert sent < STREAM_WINDOW_BYTES + (2 << 20), "what the node's socket took, and the window"
            assert siege.process.memory_info().rss - memory < 40 << 20
            for number in numbers:
                one.give_up(number)
            await asyncio.to_thread(one.until, lambda n=numbers: one.connection._streams.keys().isdisjoint(n))
            # Until the node lets go of them too they count as its peer's (`max_streams_per_peer`).
            close(*(stream for stream in siege.victim.heard.streams if stream.peer != siege.friend.peer))
        assert one.ended is None
        assert not siege.complaints("max_streams_per_peer")
        one.close()
    close(*pair)


async def test_streams_that_are_opened_written_and_reset_do_not_wedge_the_connection(siege: Siege) -> None:
    with siege.intruder() as one:
        await asyncio.to_thread(one.handshake)

        def go(count: int) -> None:
            for number in range(count):
                stream = one.open(ECHO)
                one.connection.send_stream_data(stream, bytes(3000))
                if number % 3:
                    one.send()
                one.give_up(stream)
                one.until(lambda: sum(not at.is_finished for at in one.connection._streams.values()) < 6)

        await asyncio.to_thread(go, 200)
        memory = siege.process.memory_info().rss
        await asyncio.to_thread(go, times(10_000, 600))
        assert siege.process.memory_info().rss - memory < 8 << 20
        stream = one.open(ECHO)
        await asyncio.to_thread(one.until, lambda: one.accepted(stream))
        assert one.ended is None
        one.close()


async def test_streams_faster_than_anybody_can_look_end_nobody_else(siege: Siege) -> None:
    """Each is ended by both sides before the other has seen it, which lets the next be opened."""
    with siege.intruder() as one:
        await asyncio.to_thread(one.handshake)

        def go() -> None:
            machine, end = one.connection, time.monotonic() + 60
            while one.ended is None and (number := machine.get_next_available_stream_id()) < 4 * 400:
                assert time.monotonic() < end
                if number // 4 < machine._remote_max_streams_bidi:
                    machine.send_stream_data(number, b"x", end_stream=True)
                    machine.stop_stream(number, 0)
                else:
                    one.step(0.001)

        await asyncio.to_thread(go)
        one.close()


async def test_more_streams_than_are_allowed_are_refused_by_name(siege: Siege) -> None:
    with siege.intruder() as one:
        await asyncio.to_thread(one.handshake)
        for _ in range(40):
            one.open(ECHO)
        stepping = asyncio.create_task(asyncio.to_thread(one.until, lambda: siege.complaints("max_streams_per_peer")))
        refused = await siege.recorded("max_streams_per_peer")
        await stepping
        assert isinstance(refused, Refused)
        assert refused.limit == "16"
        assert refused.peer
        one.close()


async def test_memory_and_files_stay_flat_over_many_connections(siege: Siege) -> None:
    """From many addresses, for one that comes so often is slowed down."""

    def come_and_go(count: int) -> int:
        refused = 0
        for _ in range(count):
            with Intruder(siege.to, stranger()) as one:
                one.handshake()
                refused += one.ended is not None
                one.open(ECHO)
                one.until(lambda one=one: one.received or one.ended is not None)
                one.close()
        return refused

    async def gone() -> None:
        async with asyncio.timeout(60):
            while any(fact.peer != siege.friend.peer for fact in connected(siege.victim)):
                await asyncio.sleep(0.05)

    await asyncio.to_thread(come_and_go, 20)
    await gone()
    files, memory = siege.process.num_fds(), siege.process.memory_info().rss
    assert await asyncio.to_thread(come_and_go, times(1000, 40)) == 0
    await gone()
    await siege.until_flat(files + 2)
    grown = siege.process.memory_info().rss - memory
    assert grown < 6 << 20, f"{grown} bytes more"


def connected(node: Node) -> list[Connected]:
    over = [fact.connection for fact in node.heard.of(Disconnected)]
    return [fact for fact in node.heard.of(Connected) if fact.connection not in over]


async def test_another_peer_at_the_address_is_not_the_one_we_wanted(siege: Siege) -> None:
    nobody = Identity.generate().peer_id
    addresses = [one.partition("/p2p/")[0] for one in siege.victim.overlay.addresses]
    with pytest.raises(DialFailed, match=f"it is {siege.victim.peer}, not {nobody}"):
        await siege.friend.overlay.dial(nobody, addresses, 20)


async def test_where_no_socket_of_ours_leads_a_dial_fails_at_once(siege: Siege) -> None:
    """Ours are of loopback."""
    kernels = "|".join(os.strerror(code) for code in (errno.EINVAL, errno.ENETUNREACH, errno.EHOSTUNREACH))
    with pytest.raises(DialFailed, match=rf"192\.0\.2\.1/udp/9/quic-v1: ({kernels})\."):
        await siege.friend.overlay.dial(Identity.generate().peer_id, ["/ip4/192.0.2.1/udp/9/quic-v1"], 60)


async def through(network: BadNetwork, near: Node, far: Node) -> None:
    await near.overlay.disconnect(far.peer, "to come another way")
    await far.heard.until(lambda: not far.is_connected(near))
    await near.overlay.dial(far.peer, [network.address], 60)
    await far.heard.until(lambda: far.is_connected(near), 60)


async def echo(near: Stream, far: Stream, data: bytes) -> None:
    """``data`` goes both ways at once."""

    async def one_way(out: Stream, into: Stream) -> None:
        out.writer.write(data)
        received, _ = await asyncio.gather(into.reader.readexactly(len(data)), out.writer.drain())
        assert received == data

    async with asyncio.timeout(120):
        await asyncio.gather(one_way(near, far), one_way(far, near))


async def test_bodies_arrive_whole_over_a_network_that_loses_doubles_and_reorders(besieged: Siege) -> None:
    await reset(besieged)
    near, far = besieged.friend, besieged.victim
    with BadNetwork(besieged.to, loss=0.02) as network:
        await through(network, near, far)
        body, small = await stream_of(near, far), await stream_of(near, far)
        carried = asyncio.create_task(echo(*body, os.urandom(times(8 << 20, 1 << 20))))
        pings = 0
        while not carried.done():
            await ping(*small)
            pings += 1
        await carried
        assert pings > 1
        close(*body, *small)
        await near.overlay.disconnect(far.peer, "done")
        await far.heard.until(lambda: not far.is_connected(near), 60)


async def test_a_connection_outlives_a_nat_that_forgets_its_port(besieged: Siege) -> None:
    await reset(besieged)
    near, far = besieged.friend, besieged.victim
    with BadNetwork(besieged.to) as network:
        await through(network, near, far)
        pair = await stream_of(near, far)
        await ping(*pair)
        for _ in range(2):
            network.rebind()
            await ping(*pair)
            await echo(*pair, os.urandom(200_000))
        assert near.is_connected(far)
        assert far.is_connected(near)
        close(*pair)
        await near.overlay.disconnect(far.peer, "done")
        await far.heard.until(lambda: not far.is_connected(near), 60)


@pytest.mark.parametrize("dialled", [True, False])
async def test_who_crashes_and_comes_back_is_missed_before_it_would_be_silent(besieged: Siege, dialled: bool) -> None:
    """Its machine says that its port is closed, or it says itself that it has lost the connection."""
    await reset(besieged)
    near, far = besieged.friend, besieged.victim
    await (near.dial(far) if dialled else far.dial(near))
    await besieged.crash(near)
    (fact,) = await far.heard.until(lambda: [one for one in far.heard.of(Disconnected) if one.peer == near.peer], 60)
    assert fact.reason in {"closed by the peer", "the peer has lost the connection"}
