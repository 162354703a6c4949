"""Whole nodes whose only transport is QUIC: one asks the other, which is killed, and found again when it is back."""

from pathlib import Path

import pytest

from mesh.demo.nodes import NodeProcess, until
from tests.kit.nodes import MATHS, config, connected, offered, running_node, tables

pytestmark = pytest.mark.e2e
BY_TCP, BY_QUIC = "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"


def by_quic(name: str, *experts: str, peer: str = "") -> str:
    return config(name, *experts, peers=[peer] if peer else []).replace(BY_TCP, BY_QUIC)


async def answer(node: NodeProcess, question: str) -> str:
    code, output, errors = await node.command("ask", "--domain", "mathematics", question)
    assert code == 0, errors
    return output


async def test_nodes_on_quic_alone_ask_each_other_and_find_each_other_again(tmp_path: Path) -> None:
    async with running_node(tmp_path, "second", by_quic("second", MATHS)) as second:
        (address,) = (await second.status()).addresses
        fixed = address.partition("/p2p/")[0]
        async with running_node(tmp_path, "first", by_quic("first", peer=address)) as first:
            await connected(first, second)
            await offered(first, 1)
            assert "391" in await answer(first, "17*23")
            async with tables(first) as found:
                _, rows = await found.sql("SELECT DISTINCT transport FROM connections")
            assert rows == [("quic-v1",)]
            await second.kill()

            async def alone() -> bool:
                return not (await first.status()).connected

            await until(alone, within=60, what="the death was not noticed")
            second.home.config_file.write_text(by_quic("second", MATHS).replace(BY_QUIC, fixed))
            await second.start()
            await connected(first, second, within=60)
            await offered(first, 1)
            assert "42" in await answer(first, "6*7")
