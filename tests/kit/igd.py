"""A router that passes ports on when it is asked to (UPnP IGD): miniupnpd in the namespace of a NAT."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.processes import die_with_parent
from tests.kit.nat import Internet

# What `Internet` has the router drop, and before it the chains that miniupnpd writes its own rules into.
_RULES = """
delete table ip f
table inet filter {
  chain miniupnpd { }
  chain forward { type filter hook forward priority 0; jump miniupnpd; iifname "out" ct state new drop; }
}
table inet nat {
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; }
}
"""
_SETTINGS = """\
ext_ifname=out
listening_ip=in
http_port=0
enable_natpmp=no
secure_mode=yes
upnp_table_name=filter
upnp_nat_table_name=nat
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=5b1ad00d-0000-4000-8000-000000000001
allow 1024-65535 0.0.0.0/0 1024-65535
"""
_MAP = """
import sys
from mesh.p2p.host.upnp import find_gateway, map_port
gateway = find_gateway()
for port in map(int, sys.argv[1:]):
    assert map_port(gateway, port, port)[1] == port
"""


def map_for_another_machine(net: Internet, home: str, ports: Sequence[int]) -> None:
    """The router passes ``ports`` on to 192.168.1.3, another machine of the first home."""
    if ports:
        enter = net.enter(home)
        usual, other = "ip route change 192.168.1.0/24 dev out src 192.168.1.2", "192.168.1.3"
        for command in (f"ip addr add {other}/24 dev out", usual.replace("192.168.1.2", other)):
            subprocess.run([*enter, *command.split()], check=True)
        subprocess.run([*enter, sys.executable, "-c", _MAP, *map(str, ports)], check=True)
        subprocess.run([*enter, *usual.split()], check=True)


@contextmanager
def port_mapping_router(net: Internet, home: str, directory: Path) -> Iterator[None]:
    """The router of ``home`` is asked over UPnP. Skips where miniupnpd is not installed."""
    program = shutil.which("miniupnpd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("miniupnpd is not installed")
    router = net.enter(f"{home}nat")
    settings = directory / "miniupnpd.conf"
    settings.write_text(_SETTINGS)
    subprocess.run([*router, "nft", "-f", "-"], input=_RULES, text=True, check=True, capture_output=True)
    command = [*router, program, "-d", "-f", settings, "-P", directory / "miniupnpd.pid"]
    with (directory / "miniupnpd.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        yield
    finally:
        server.terminate()
        server.wait(30)
