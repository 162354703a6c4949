"""TLS 1.3 as libp2p has it: against py-libp2p's own, and against those who lie."""

from collections.abc import Callable

import pytest
import trio
import trio.testing
from cryptography import x509
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.io.exceptions import IOException
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.tls import certificate
from libp2p.security.tls.transport import TLSTransport

from mesh.p2p.host import certificates
from mesh.p2p.host.tls import TlsTransport
from mesh.p2p.host.wires import ByteWire

CLIENT, SERVER, OTHER = (create_new_key_pair(bytes([number]) * 32) for number in range(3))


def peer_of(pair) -> ID:
    return ID.from_pubkey(pair.public_key)


async def shake(client, server, expected: ID):
    """Both ends' sessions, or what they raised."""
    near, far = trio.testing.memory_stream_pair()
    results: list[object] = [None, None]

    async def end(index: int, secure: Callable, stream: trio.StapledStream) -> None:
        def hang_up() -> None:
            stream.send_stream.close()
            stream.receive_stream.close()

        wire = ByteWire(stream, ("127.0.0.1", 1), inbound=index == 1, transport="tcp", hang_up=hang_up)
        try:
            results[index] = await secure(RawConnection(wire, index == 0))
        except (HandshakeFailure, IOException) as error:
            results[index] = error
            hang_up()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, 0, lambda conn: client.secure_outbound(conn, expected), near)
            nursery.start_soon(end, 1, server.secure_inbound, far)
    return results


@pytest.mark.parametrize("client", [TlsTransport, TLSTransport])
def test_both_prove_who_they_are_and_bytes_go_both_ways(client: type) -> None:
    async def main() -> None:
        ours, theirs = await shake(client(CLIENT), TlsTransport(SERVER), peer_of(SERVER))
        assert (ours.get_remote_peer(), theirs.get_remote_peer()) == (peer_of(SERVER), peer_of(CLIENT))
        sent = bytes(range(256)) * 1000
        for near, far in ((ours, theirs), (theirs, ours)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.write, sent)
                received = b""
                while len(received) < len(sent):
                    received += await far.read(min(60_000, len(sent) - len(received)))
            assert received == sent
        await ours.close()
        with pytest.raises(IOException):
            await theirs.read(1)

    trio.run(main)


def test_who_is_not_whom_we_dialled_is_left() -> None:
    async def main() -> None:
        ours, _ = await shake(TlsTransport(CLIENT), TlsTransport(SERVER), peer_of(OTHER))
        assert isinstance(ours, HandshakeFailure)
        assert str(peer_of(OTHER)) in str(ours)

    trio.run(main)


def stolen(private_key, template):
    """The certificate says that it is SERVER's, and somebody else has signed that."""
    forged = certificate.add_libp2p_extension
    certificate.add_libp2p_extension = lambda builder, _, signature: forged(builder, SERVER.public_key, signature)
    try:
        return certificate.generate_certificate(private_key, template)
    finally:
        certificate.add_libp2p_extension = forged


def expired(private_key, template):
    import datetime as dt

    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    template._not_valid_before, template._not_valid_after = past, past + dt.timedelta(days=1)
    return certificate.generate_certificate(private_key, template)


def without_identity(private_key, template):
    plain = certificate.add_libp2p_extension
    certificate.add_libp2p_extension = lambda builder, *_: builder
    try:
        return certificate.generate_certificate(private_key, template)
    finally:
        certificate.add_libp2p_extension = plain


def with_a_critical_extension(private_key, template):
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"?")
    return certificate.generate_certificate(private_key, template.add_extension(strange, critical=True))


def with_junk_for_identity(private_key, template):
    plain = certificate.encode_signed_key
    certificate.encode_signed_key = lambda *_: b"junk"
    try:
        return certificate.generate_certificate(private_key, template)
    finally:
        certificate.encode_signed_key = plain


@pytest.mark.parametrize(
    "forge", [stolen, expired, without_identity, with_a_critical_extension, with_junk_for_identity]
)
def test_a_certificate_that_proves_nothing_is_refused(forge: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "generate_certificate", forge)
        liar = TlsTransport(OTHER)

    async def main() -> None:
        _, ours = await shake(liar, TlsTransport(SERVER), peer_of(SERVER))
        assert isinstance(ours, HandshakeFailure)
        ours, _ = await shake(TlsTransport(CLIENT), liar, peer_of(SERVER))
        assert isinstance(ours, HandshakeFailure)

    trio.run(main)


@pytest.mark.parametrize("junk", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000])
def test_what_is_no_tls_fails(junk: bytes) -> None:
    class Junk:
        async def secure_outbound(self, conn, _):
            await conn.write(junk)
            await conn.close()

    async def main() -> None:
        _, ours = await shake(Junk(), TlsTransport(SERVER), peer_of(SERVER))
        assert isinstance(ours, HandshakeFailure | IOException)

    trio.run(main)
