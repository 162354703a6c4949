"""A small internet in network namespaces: a public machine, and machines behind masquerading NATs of their own."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import pytest

_numbers = count(1)


class Internet:
    """``public`` is reachable from everywhere; each of ``homes`` only reaches out.

    A command runs in one of them with ``enter(name)`` before it.
    """

    PUBLIC_IP = "11.0.0.1"

    def __init__(self, homes: Sequence[str]) -> None:
        self._prefix = f"mesh{os.getpid() % 10000}n{next(_numbers)}"
        self.homes = tuple(homes)

    def enter(self, name: str) -> list[str]:
        """The beginning of a command that runs there."""
        return ["ip", "netns", "exec", self._space(name)]

    def home_ip(self, name: str) -> str:
        """Its private address; every home has the same network."""
        return f"192.168.{self.homes.index(name) + 1}.2"

    def router_ip(self, name: str) -> str:
        """The public address of the router that a home is behind."""
        return f"11.0.0.{self.homes.index(name) + 2}"

    def _space(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def build(self) -> None:
        self._add("core", "public")
        self._core("ip link add br0 type bridge", "ip link set br0 up")
        self._join("public", 1)
        for number, home in enumerate(self.homes, start=1):
            self._home(number, home)

    def _add(self, *names: str) -> None:
        for name in names:
            _run(f"ip netns add {self._space(name)}")
            self._in(name, "ip link set lo up")

    def _core(self, *commands: str) -> None:
        self._in("core", *commands)

    def _in(self, name: str, *commands: str) -> None:
        for command in commands:
            _run(f"ip netns exec {self._space(name)} {command}")

    def _join(self, name: str, number: int) -> None:
        """A cable to the core, with the address 11.0.0.<number>."""
        core = self._space("core")
        _run(f"ip link add out netns {self._space(name)} type veth peer name p{number} netns {core}")
        self._core(f"ip link set p{number} master br0 up")
        self._in(name, "ip link set out up", f"ip addr add 11.0.0.{number}/24 dev out")

    def _home(self, number: int, home: str) -> None:
        router = f"{home}nat"
        self._add(router, home)
        self._join(router, number + 1)
        _run(f"ip link add in netns {self._space(router)} type veth peer name out netns {self._space(home)}")
        self._in(router, "ip link set in up", f"ip addr add 192.168.{number}.1/24 dev in")
        self._in(home, "ip link set out up", f"ip addr add 192.168.{number}.2/24 dev out")
        self._in(home, f"ip route add default via 192.168.{number}.1")
        self._in(router, "sysctl -qw net.ipv4.ip_forward=1")
        self._rules(
            router,
            "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; };"
            "add rule ip nat post oifname out masquerade;"
            "add table ip f; add chain ip f input { type filter hook input priority 0; };"
            "add rule ip f input iifname out ct state new drop;"
            "add chain ip f forward { type filter hook forward priority 0; };"
            "add rule ip f forward iifname out ct state new drop",
        )

    def _rules(self, router: str, rules: str) -> None:
        subprocess.run([*self.enter(router), "nft", rules], check=True, capture_output=True, text=True)

    def cut_between_homes(self) -> None:
        """Homes reach the public machine and nothing else: holes cannot be punched."""
        for home in self.homes:
            self._rules(f"{home}nat", f"add rule ip f forward oifname out ip daddr != {self.PUBLIC_IP} drop")

    def tear_down(self) -> None:
        names = ["core", "public", *self.homes, *(f"{home}nat" for home in self.homes)]
        for name in names:
            subprocess.run(["ip", "netns", "del", self._space(name)], check=False, capture_output=True)


@contextmanager
def internet(*homes: str) -> Iterator[Internet]:
    """An internet that is gone afterwards. Skips where this machine does not let us make one, and says why."""
    why = _why_not()
    if why:
        pytest.skip(why)
    net = Internet(homes)
    try:
        net.build()
    except subprocess.CalledProcessError as error:
        net.tear_down()
        pytest.skip(f"network namespaces with NAT cannot be made here: {error.stderr.strip() or error}")
    try:
        yield net
    finally:
        net.tear_down()


def _why_not() -> str:
    missing = [tool for tool in ("ip", "nft", "sysctl") if shutil.which(tool) is None]
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing:
        return f"{', '.join(missing)} not found; install iproute2, nftables and procps"
    return ""


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, text=True)
