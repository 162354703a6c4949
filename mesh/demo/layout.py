"""Which node has which experts, and the settings of each."""

from collections.abc import Sequence
from typing import NamedTuple

import mesh.experts


class Member(NamedTuple):
    """One node of the demo: its name and its experts as (name, backend, domains)."""

    name: str
    experts: tuple[tuple[str, str, tuple[str, ...]], ...]


def members() -> tuple[Member, ...]:
    """Five nodes: three solve, two run the same language model, so that each can fail."""
    talker = ("smollm", "llm", ("language", "reasoning"))
    return (
        Member("alpha", (("toolbox", "tools", ("tool_use",)),)),
        Member("bravo", (("solver", "mathematics", ("mathematics",)),)),
        Member("charlie", (("solver", "mathematics", ("mathematics",)), ("pythonist", "code", ("coding",)))),
        Member("delta", (talker, ("toolbox", "tools", ("tool_use",)))),
        Member(
            "echo",
            (
                talker,
                ("librarian", "context", ("context",)),
                ("solver", "mathematics", ("mathematics",)),
            ),
        ),
    )


def config_text(member: Member, *, listen: str, peers: Sequence[str]) -> str:
    """The config.toml of one member; with ``peers`` it relies on them and leaves mDNS off."""
    lines = [
        "[node]",
        f'name = "{member.name}"',
        'mesh = "demo"',
        "[overlay]",
        f'listen = ["{listen}"]',
        f"peers = {list(peers)!r}".replace("'", '"'),
        f"mdns = {str(not peers).lower()}",
        'mdns_interfaces = ["127.0.0.1"]',
        "offer_interval_s = 2.0",
        "redial_max_s = 2.0",
        "[health]",
        "interval_s = 2.0",
        "[alerts.rules.peer_lost]",
        "for_s = 1.0",
        "[routing]",
        'content = "full"',
        "timeout_s = 600.0",  # a busy machine tells its long story slowly
    ]
    for name, backend, domains in member.experts:
        lines += ["[[experts]]", f'name = "{name}"', f'backend = "{backend}"']
        lines += [f"domains = {list(domains)!r}".replace("'", '"')]
        if backend == "context":
            lines += [f'options = {{ folder = "{mesh.experts.__path__[0]}/documents" }}']
        if backend == "llm":
            lines += ["concurrency = 1"]
    return "\n".join(lines) + "\n"
