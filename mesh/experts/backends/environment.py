"""What a program that a backend starts gets of the node's environment: no secrets, unless they are named. Pure."""

from collections.abc import Iterable, Mapping

# Where programs and their data are, and how they write text and times. Nothing here is anybody's password.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")


def clean_environment(
    environment: Mapping[str, str], named: Iterable[str] = (), given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Of ``environment`` only `PASSED_ON` and ``named``, and then ``given``, which wins."""
    kept = {name: environment[name] for name in (*PASSED_ON, *named) if name in environment}
    return {**kept, **(given or {})}
