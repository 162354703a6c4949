"""``mesh peers block`` and its kin against two running nodes: in force at once, recorded, and after a restart too."""

import getpass
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh.api.client import Mesh, RequestFailed
from mesh.api.messages import AccessChanged
from mesh.demo.nodes import NodeProcess, until
from mesh.projections.queries import Queries
from tests.kit.cli import mesh
from tests.kit.nodes import tables, two_nodes

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
Nodes = tuple[NodeProcess, NodeProcess]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    """The first has the second as a static peer, and would redial it for ever."""
    async with two_nodes(tmp_path_factory.mktemp("access")) as both:
        yield both


async def said(node: NodeProcess, *arguments: str) -> str:
    ran = await mesh(node.home.root, "peers", *arguments)
    assert ran.code == 0, ran.errors
    return ran.output


async def changed(node: NodeProcess, action: str, party: str) -> AccessChanged:
    async with Mesh.connect(node.home.root) as api:
        return await api.access(action, party, actor="test")


async def are_connected(nodes: Nodes) -> bool:
    return all([len((await node.status()).connected) == 1 for node in nodes])


async def are_apart(nodes: Nodes) -> bool:
    return not any([(await node.status()).connected for node in nodes])


async def test_a_blocked_peer_is_cut_off_at_once_stays_out_after_a_restart_and_comes_back(nodes: Nodes) -> None:
    first, second = nodes
    peer = (await second.status()).peer_id
    assert await said(first, "block", peer, "--reason", "spam") == f"blocked {peer}, 1 connected peer cut off\n"
    assert not (await first.status()).connected
    assert not (await changed(first, "block", peer)).changed
    async with tables(first) as found:
        (rule,) = await until_listed(found)
    assert (rule["list"], rule["party"], rule["kind"], rule["reason"]) == ("block", peer, "peer", "spam")
    assert json.loads(await said(first, "rules", "--json"))["actor"] == getpass.getuser()
    await first.stop()
    await first.start()
    await until(lambda: are_apart(nodes), within=60, what="a blocked peer was connected after a restart")
    assert (await said(first, "unblock", peer[-8:])) == f"unblocked {peer}\n"
    await until(lambda: are_connected(nodes), within=60, what="the nodes did not find each other again")


async def until_listed(found: Queries) -> list[dict[str, object]]:
    async def listed() -> bool:
        return bool(await found.access_rules())

    await until(listed, within=60, what="the rule was not projected")
    return await found.access_rules()


async def test_an_allow_list_and_networks(nodes: Nodes) -> None:
    first, second = nodes
    ours = (await first.status()).peer_id
    assert (await changed(second, "allow", ours)).closed == 0
    change = await changed(second, "block", "127.0.0.1/8")
    assert (change.party, change.closed) == ("127.0.0.0/8", 1)
    await until(lambda: are_apart(nodes), within=60, what="a blocked network was connected")
    await changed(second, "unblock", "127.0.0.0/8")
    await until(lambda: are_connected(nodes), within=60, what="the nodes did not find each other again")
    assert (await changed(second, "allow", "198.51.100.0/24")).closed == 0
    assert (await changed(second, "disallow", ours)).closed == 1
    with pytest.raises(RequestFailed, match="is not on the block list"):
        await changed(second, "unblock", ours)
    await changed(second, "disallow", "198.51.100.0/24")
    await until(lambda: are_connected(nodes), within=60, what="the nodes did not find each other again")


async def test_what_is_no_rule_is_said_with_the_remedy(nodes: Nodes) -> None:
    ran = await mesh(nodes[0].home.root, "peers", "block", "everybody")
    ran.refused(1, "neither a PeerId nor an address", "192.0.2.0/24")
