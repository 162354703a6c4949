"""The project's own files: what they promise to somebody with a fresh clone."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import mesh

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/protocol.md", "docs/tables.md")
LOCKS = ("requirements.lock", "requirements-llm.lock")
TEXTS = (
    *(".py", ".js", ".mjs", ".md", ".toml", ".lock", ".mako", ".yml", ".yaml", ".json"),
    *(".editorconfig", ".gitignore", ".npmrc"),
)
# Written in parts, so that this file does not name them either.
NOWHERE_ELSE = (
    *("/" + name + "/" for name in ("work", "root", "home", "Users", "opt")),
    *(".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("golang", "org"))),
)


def files() -> list[Path]:
    tracked = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in ("mesh", "tests", "docs", "benchmarks", "migrations", "scripts", "examples", ".ci"):
        tracked += [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [path for path in tracked if path.suffix in TEXTS or path.name in (*TEXTS, "Makefile", "run")]


def normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def entries(lock: str) -> list[str]:
    return re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())


def test_no_file_names_a_package_index_or_a_directory_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}: {word}" for path in files() for word in NOWHERE_ELSE if word in path.read_text()
    ]
    assert not found


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_pins_every_package_by_version_and_hash(lock):
    for entry in entries(lock):
        assert re.match(r"[a-z0-9-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_locks_hold_everything_that_the_project_asks_for():
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    locked = {normal(entry) for entry in entries("requirements.lock")}
    assert {normal(requirement) for requirement in asked} <= locked
    llm = {normal(requirement) for requirement in PROJECT["project"]["optional-dependencies"]["llm"]}
    assert llm == {normal(entry) for entry in entries("requirements-llm.lock")}


def test_the_build_needs_only_what_the_lock_has():
    locked = {normal(entry) for entry in entries("requirements.lock")}
    assert {normal(requirement) for requirement in PROJECT["build-system"]["requires"]} <= locked


def test_the_version_is_said_once_and_the_same():
    assert PROJECT["project"]["version"] == mesh.__version__
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_licence_is_the_one_that_is_declared():
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()


def test_every_make_target_is_explained_and_phony():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    assert targets == set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split())
    assert targets == set(re.findall(r"^(\w+):.*  ## ", makefile, re.MULTILINE))


def test_the_ci_script_is_valid_and_runs_tests_and_lint():
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111
    assert {"test", "style", "types", "contracts"} <= set(re.findall(r"target (\w+)", script.read_text()))


def test_the_documents_that_people_start_from_are_there():
    assert not [name for name in NEEDED if not (ROOT / name).exists()]


def test_each_law_names_tests_that_hold_it():
    rows = re.findall(r"^\| (\d) \|.*\|(.*)\|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert [number for number, _ in rows[:8]] == [str(number) for number in range(1, 9)]
    for number, held_by in rows[:8]:
        assert re.search(r"`tests/[\w/]+\.py(::\w+)?`", held_by), f"law {number}: {held_by}"
