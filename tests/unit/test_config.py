import re
from pathlib import Path

import pytest

from mesh.config import Config, default_home, load_config
from mesh.errors import ConfigError


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    import os

    for name in list(os.environ):
        if name.upper().startswith("MESH_"):
            monkeypatch.delenv(name)


def write(home: Path, text: str) -> Path:
    (home / "config.toml").write_text(text, encoding="utf-8")
    return home


def refused(home: Path, overrides=None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(home, overrides)
    assert caught.value.remedy, "every refusal says what to do"
    assert caught.value.exit_code == 78
    return caught.value


def test_without_a_file_everything_has_its_default(tmp_path):
    assert load_config(tmp_path) == Config()


def test_the_file_sets_what_it_names_and_nothing_else(tmp_path):
    config = load_config(write(tmp_path, '[node]\nname = "größe"\n[health]\ninterval_s = 5\n'))
    assert config.node.name == "größe"
    assert config.health.interval_s == 5
    assert config.health.window == Config().health.window


def test_the_environment_wins_over_the_file_key_by_key(tmp_path, monkeypatch):
    write(tmp_path, "[health]\ninterval_s = 5\nwindow = 7\n")
    monkeypatch.setenv("MESH_HEALTH__INTERVAL_S", "2.5")
    health = load_config(tmp_path).health
    assert (health.interval_s, health.window) == (2.5, 7)


def test_overrides_win_over_the_file_key_by_key(tmp_path):
    write(tmp_path, "[health]\ninterval_s = 5\nwindow = 7\n")
    health = load_config(tmp_path, {"health": {"interval_s": 1}}).health
    assert (health.interval_s, health.window) == (1, 7)


def test_lists_and_free_tables_can_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MESH_OVERLAY__PEERS", '["/ip4/192.0.2.7/tcp/4701/p2p/x"]')
    monkeypatch.setenv("MESH_ALERTS__RULES__PEER_LOST__FOR_S", "3")
    config = load_config(tmp_path)
    assert config.overlay.peers == ["/ip4/192.0.2.7/tcp/4701/p2p/x"]
    assert config.alerts.rules["peer_lost"].for_s == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[health]\ninterval = 5\n", r"health\.interval = 5 is not a setting \(did you mean interval_s\?\)"),
        ("[healt]\ninterval_s = 5\n", r"healt = \{…\} is not a setting \(did you mean health\?\)"),
        ("[health]\ninterval_s = 0\n", r"health\.interval_s = 0: .*greater than 0"),
        ("[health]\ninterval_s = 9999\n", r"health\.interval_s = 9999: .*less than or equal to 3600"),
        ("[overlay]\nheartbeat_s = inf\n", r"overlay\.heartbeat_s = inf: .*finite"),
        ("[broker]\ndurability = 'maybe'\n", r"broker\.durability = 'maybe': .*'process' or 'power'"),
        ("[broker]\nport = 70000\n", r"broker\.port = 70000: .*65535"),
        ("health = 3\n", r"health = 3: "),
        ("[[experts]]\nname = 'a'\nbackend = 'tools'\n", r"experts \(number 1\)\.domains is missing"),
        (
            "[[experts]]\nname = 'a'\nbackend = 'tools'\ndomains = ['x']\nqeue = 1\n",
            r"experts \(number 1\)\.qeue = 1 is not a setting \(did you mean queue\?\)",
        ),
        ("[[experts]]\nname = 'Ä'\nbackend = 'tools'\ndomains = ['x']\n", r"experts \(number 1\)\.name = 'Ä': "),
        (
            "[[experts]]\nname = 'a'\nbackend = 'tools'\ndomains = ['x']\n" * 2,
            r"experts = \[…\]: .*a is given to more than one",
        ),
        ("[alerts.rules.peer_lost]\nfors_s = 1\n", r"rules\.peer_lost\.fors_s = 1 is not .*did you mean for_s"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_its_limit_and_its_file(tmp_path, text, says):
    error = refused(write(tmp_path, text))
    assert re.search(says, error.what), error.what
    assert str(tmp_path / "config.toml") in error.remedy


def test_all_wrong_settings_are_told_at_once(tmp_path):
    error = refused(write(tmp_path, "[health]\ninterval_s = 0\nwindow = 1\n"))
    assert "health.interval_s" in error.what
    assert "health.window" in error.what


@pytest.mark.parametrize(
    ("name", "value", "says", "remedy"),
    [
        ("MESH_HEALTH__INTERVALS", "5", r"MESH_HEALTH__INTERVALS='5' is not a setting", "MESH_HEALTH__INTERVAL_S"),
        ("mesh_health__intervals", "5", r"mesh_health__intervals='5' is not a setting", "MESH_HEALTH__INTERVAL_S"),
        ("MESH_ZZZZ", "1", r"MESH_ZZZZ='1' is not a setting", "Unset it"),
        ("MESH_HEALTH__INTERVAL_S", "soon", r"health\.interval_s = 'soon': ", "MESH_HEALTH__INTERVAL_S"),
        ("MESH_HEALTH", '{"window": 1}', r"health\.window = 1: .*3", "MESH_HEALTH"),
        ("MESH_HEALTH", "nonsense", r"MESH_HEALTH='nonsense' is not JSON", "JSON"),
        ("MESH_OVERLAY__PEERS", "/ip4/1", r"MESH_OVERLAY__PEERS='/ip4/1' is not JSON", "JSON"),
        ("MESH_HOMES", "/x", r"MESH_HOMES='/x' is not a setting", "MESH_HOME"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_remedy(tmp_path, monkeypatch, name, value, says, remedy):
    monkeypatch.setenv(name, value)
    error = refused(tmp_path)
    assert re.search(says, error.what), error.what
    assert remedy in error.remedy


def test_a_refusal_shows_no_secret_that_stands_beside_the_mistake(tmp_path):
    error = refused(write(tmp_path, "[[experts]]\nbackend = 'openai'\noptions = {api_key = 'hunter2'}\n"))
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("content", [b"[health\n", b"[node]\nname = '\xff'\n"])
def test_a_file_that_is_not_toml_is_named(tmp_path, content):
    (tmp_path / "config.toml").write_bytes(content)
    assert str(tmp_path / "config.toml") in refused(tmp_path).what


def test_a_directory_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "config.toml").mkdir()
    assert str(tmp_path / "config.toml") in refused(tmp_path).what


def test_the_home_is_the_variables_or_the_platforms(tmp_path, monkeypatch):
    monkeypatch.setenv("MESH_HOME", str(tmp_path))
    assert default_home() == tmp_path
    load_config(tmp_path)
    monkeypatch.delenv("MESH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert default_home() == Path("/somewhere/synaptic-mesh")
