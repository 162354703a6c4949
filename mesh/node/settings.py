"""What a part would refuse when others already run is refused before anything does."""

import importlib.util

from mesh.config import Config
from mesh.errors import ConfigError
from mesh.experts.backends import make_backend
from mesh.gateway.server import refuse_an_open_door
from mesh.health.rules.overrides import configured as configured_alerts
from mesh.home import Home
from mesh.p2p.access_control import configured as configured_access
from mesh.p2p.addresses import relays, static_peers
from mesh.p2p.host_config import checked_network_key
from mesh.p2p.sharing.policy import Policy


def check_settings(home: Home, config: Config, peer_id: str) -> None:
    """Raise ConfigError for settings with which the node ``peer_id`` could not start."""
    configured_alerts(config.alerts)
    if config.gateway.enabled:
        refuse_an_open_door(config.gateway, home.gateway_keys)
    if config.storage.url:
        from mesh.projections.database import parse_url  # SQLAlchemy: a second, and only the projector needs it

        parse_url(config.storage.url)
    overlay = config.overlay
    checked_network_key(home.root, overlay)
    static_peers([*overlay.peers, *relays(overlay.relays)], peer_id)
    static_peers(overlay.bootstrap, peer_id, "bootstrap")
    configured_access("block", overlay.block)
    configured_access("allow", overlay.allow)
    Policy(peer_id, config.share)
    if importlib.util.find_spec(config.routing.embedding) is None:
        raise ConfigError(
            f"[routing] embedding is {config.routing.embedding!r}, which is not installed",
            remedy=f"Run `pip install {config.routing.embedding}`, or choose another.",
        )
    for expert in config.experts:
        make_backend(expert)
