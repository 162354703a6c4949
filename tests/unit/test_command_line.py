"""What all commands of `mesh` have in common."""

import math
import re
import shutil
import subprocess
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cyclopts import App, CycloptsError
from rich.console import Console

from mesh.cli import app
from mesh.cli.keys import add as add_key
from mesh.cli.options import HomeOption, Whole
from mesh.errors import ConfigError


def commands(of: App, *path: str) -> Iterator[tuple[str, Callable[..., object]]]:
    """Every command with how it is called."""
    if of.default_command is not None:
        yield " ".join(path), of.default_command
    for name in of:
        if not name.startswith("-"):
            yield from commands(of[name], *path, name)


def whole_numbers() -> list[str]:
    """Every command with a parameter that is a whole number, given a number with a fraction."""
    found = []
    for command, function in commands(app):
        for name, hint in typing.get_type_hints(function, include_extras=True).items():
            if typing.get_origin(hint) is typing.Annotated and typing.get_args(hint)[0] is int:
                option = "" if name == "position" else f"--{name.replace('_', '-')} "
                found.append(f"{command} {option}1.5")
    return found


def test_the_commands_and_their_numbers_are_found() -> None:
    assert {"up", "events tail", "peers", "peers block"} <= {command for command, _ in commands(app)}
    assert {"events tail --after 1.5", "requests --limit 1.5", "ask --fan-out 1.5"} <= set(whole_numbers())


@pytest.mark.parametrize("command", whole_numbers())
def test_a_number_with_a_fraction_is_no_whole_number(command: str) -> None:
    given = f"{command} x" if command.startswith(("ask", "keys", "sql")) else command
    with pytest.raises(CycloptsError, match=r'"1\.5"'):
        app.parse_args(given, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(("written", "number"), [("-20", -20), ("0", 0), ("007", 7)])
def test_whole_numbers_are_taken(written: str, number: int) -> None:
    taken = App(result_action="return_value")
    taken.default(_number)
    assert taken([f"--number={written}"]) == number


def _number(*, number: Whole) -> int:
    return number


@pytest.mark.parametrize(
    "command", ["requests --limit 99999999999999999999", "stats --hours inf", "stats --hours 1e12"]
)
def test_what_no_table_can_count_is_refused(command: str) -> None:
    with pytest.raises(CycloptsError, match=r"Must be <="):
        app.parse_args(command, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("words", [["what", "is", "6*7?"], ["-5", "+", "3"]])
def test_a_question_in_several_words_is_to_be_quoted(words: list[str]) -> None:
    with pytest.raises(CycloptsError, match=rf"^The question ends before '{re.escape(words[1])}'\. Quote it whole"):
        app.parse_args(["ask", *words], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("command", [command for command, _ in commands(app)])
def test_help_tells_one_default(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    app.help_print(command.split(), console=Console(width=1000))
    entries = capsys.readouterr().out.splitlines()
    assert [entry for entry in entries if entry.count("[default:") > 1] == []


def test_help_says_how_json_is_laid_out(capsys: pytest.CaptureFixture[str]) -> None:
    app.help_print(["peers"], console=Console(width=1000))
    assert "of a list one object a line" in capsys.readouterr().out


@pytest.mark.parametrize("days", [-1, math.inf, math.nan, 36_501])
def test_a_key_is_valid_for_a_time_that_can_be_shown(days: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the least is 0, the most 36,500"):
        add_key("ada", days=days, options=HomeOption(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "completed"),
    [("mesh req", ["requests"]), ("mesh events ta", ["tail"]), ("mesh events tail --o", ["--only", "--origin"])],
)
def test_a_shell_completes_commands_and_options(
    line: str, completed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    app(["completion", "bash"], result_action="return_value")
    words = line.split()
    asking = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _mesh; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    ran = subprocess.run(
        ["bash", "--norc", "-c", f"{capsys.readouterr().out}\n{asking}"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == completed
