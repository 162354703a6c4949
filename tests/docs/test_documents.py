"""The documents name things that exist: files, commands with their options, modules, settings."""

import ast
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from cyclopts import App, CycloptsError, MissingArgumentError

from mesh.cli import app
from mesh.config import Config
from mesh.gateway.models import AUTO

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
TOP = ("mesh/", "tests/", "docs/", "benchmarks/", "migrations/", "scripts/", ".ci/")

pytestmark = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(document: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def prose(document: Path) -> str:
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def spans(document: Path) -> list[str]:
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(document))]


def commands(document: Path) -> list[str]:
    """Every command line that the document shows, without its comment and prompt."""
    lines = [line for block in blocks(document, "sh", "bash", "console") for line in block.splitlines()]
    lines = [re.sub(r"\s#\s.*", "", line).removeprefix("$ ").strip() for line in lines]
    return [line.removeprefix(".venv/bin/") for line in (*lines, *spans(document))]


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_its_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path) if path else document
        assert linked.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(linked), f"{target}: no such heading"


def test_the_files_that_it_names_exist(document):
    for span in spans(document):
        path = span.split("::")[0]
        if path.startswith(TOP) and " " not in path and "<" not in path and path != AUTO:
            assert list(ROOT.glob(path.rstrip("/"))), f"{path} is not there"


def test_the_tests_that_it_names_exist(document):
    for span in spans(document):
        path, _, name = span.partition("::")
        if name and path.endswith(".py"):
            assert f"def {name.split('[')[0]}(" in (ROOT / path).read_text(), span


def test_the_modules_that_it_runs_exist(document):
    for name in re.findall(r"python -m ([\w.]+)", document.read_text()):
        if name.split(".")[0] in ("mesh", "benchmarks"):
            assert importlib.util.find_spec(name), name


def test_the_make_targets_that_it_names_exist(document):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(document):
        words = command.split()
        if words and words[0] == "make" and len(words) > 1 and "=" not in words[1]:
            assert words[1] in targets, command


def test_the_mesh_commands_that_it_shows_are_real(document):
    shown = [command for command in commands(document) if command.startswith("mesh ")]
    for command in shown:
        words = [re.sub(r"^[A-Z][A-Z_]*$", "1", word) for word in shlex.split(command) if word not in ("…", "...")]
        words = words[: next((at for at, word in enumerate(words) if word in ("|", ">", "&", "&&")), len(words))]
        problem = why_not(words[1:])
        assert not problem, f"`{command}`: {problem}"


def why_not(words: list[str]) -> str:
    """Why the command line would be refused; what it leaves out may be left out in a document."""
    if words[:1] and words[0].startswith("-"):
        return "" if words[0] in ("--help", "-h", "--version") else f"unknown option {words[0]}"
    _, _, left = app.parse_commands(words)
    command: App = app
    for word in words[: len(words) - len(left)]:
        command = command[word]
    if command is app:
        return "no such command"
    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except MissingArgumentError:
        return ""
    except CycloptsError as error:
        return str(error) or type(error).__name__
    return ""


def test_its_python_compiles_and_imports_what_there_is(document):
    for source in blocks(document, "python", "py"):
        compile(source, str(document), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mesh":
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_its_settings_are_accepted(document):
    for source in blocks(document, "toml"):
        tables = tomllib.loads(source)
        if set(tables) & set(Config.model_fields):
            Config(**tables)


def test_its_tables_have_a_cell_for_every_column(document):
    width = None
    for line in prose(document).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else None
        assert width is None or cells is None or cells == width, line
        width = cells
