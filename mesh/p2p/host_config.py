"""``[overlay]`` as the overlay process takes it. It reads no configuration: it is handed its settings."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from mesh.config import OverlayConfig
from mesh.errors import ConfigError
from mesh.p2p import network_key
from mesh.p2p.addresses import WEBRTC, check_listen, udp_target_of
from mesh.p2p.host.limits import Limits
from mesh.p2p.host.nat import NatSettings
from mesh.p2p.host.relay_book import RelayLimits
from mesh.p2p.host.settings import WebSocketTls


def file_in(home: Path, named: str) -> str:
    """A file of the configuration; relative ones are in the node's home. Empty stays empty."""
    return str(home / Path(named).expanduser()) if named else ""


def checked_network_key(home: Path, config: OverlayConfig) -> bytes:
    """The key of the private network, or empty. Raises ConfigError, also for what cannot be listened on."""
    check_listen(config.listen, private=bool(config.psk_file), certificate=bool(config.wss_certificate))
    check_packages(config.listen)
    return network_key.read_file(Path(file_in(home, config.psk_file))) if config.psk_file else b""


def limits(config: OverlayConfig) -> Limits:
    """Of connections, streams and bytes."""
    return Limits(
        max_connections=config.max_connections,
        max_inbound=config.max_inbound,
        max_streams_per_peer=config.max_streams_per_peer,
        handshake_s=config.handshake_timeout_s,
        inbound_per_address_per_s=config.inbound_per_address_per_s,
        silent_s=config.silence_timeout_s,
        max_inbound_per_subnet=config.max_inbound_per_subnet,
        subnet_ipv4_bits=config.subnet_ipv4_bits,
        subnet_ipv6_bits=config.subnet_ipv6_bits,
        own_networks=tuple(config.own_networks),
        max_streams=config.max_streams,
        max_receive_bytes=config.max_receive_bytes,
    )


def nat_settings(config: OverlayConfig) -> NatSettings:
    """Relays, hole punching, reachability and port mapping."""
    return NatSettings(
        relay=config.relay,
        relays=tuple(config.relays),
        hole_punching=config.hole_punching,
        autonat=config.autonat,
        upnp=config.upnp,
        limits=RelayLimits(
            max_reservations=config.relay_max_reservations,
            max_reservations_per_address=config.relay_max_reservations_per_address,
            reservation_s=config.relay_reservation_s,
            max_circuits=config.relay_max_circuits,
            max_circuits_per_peer=config.relay_max_circuits_per_peer,
            circuit_s=config.relay_duration_s,
            circuit_bytes=config.relay_bytes,
        ),
    )


def websocket_tls(config: OverlayConfig, home: Path) -> WebSocketTls:
    """The certificate of ``/tls/ws``, and whose certificates are trusted there."""
    return WebSocketTls(
        certificate=file_in(home, config.wss_certificate),
        key=file_in(home, config.wss_key),
        trust=file_in(home, config.wss_trust),
    )


def check_packages(listen: Iterable[str]) -> None:
    """Whether what is listened on can be spoken with what is installed. Raises ConfigError."""
    for address in listen:
        target = udp_target_of(address)
        if target is not None and target.transport == WEBRTC and find_spec("google_crc32c") is None:
            raise ConfigError(
                f"[overlay] listen has {address!r}, and WebRTC-direct needs the package google-crc32c",
                remedy="Run `pip install synaptic-mesh[webrtc]`.",
            )
