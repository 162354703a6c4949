"""Given these rules, then these are let in, and who is not is told by which rule."""

import asyncio
from collections.abc import Awaitable

import pytest

from mesh.errors import ConfigError, MeshError
from mesh.events.envelope import Fact
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.access import PeerAllowed, PeerBlocked, PeerUnblocked
from mesh.p2p.access import MAX_RULES, Access, AccessError, Gate, canonical
from mesh.p2p.access_control import AccessControl
from mesh.p2p.access_state import AccessState
from mesh.projections.folds.access_rules import ACCESS_RULES
from tests.kit.asking import identity
from tests.kit.loop_clock import LoopClock
from tests.kit.tables import only_row

A, B, US = (identity(number).peer_id for number in (1, 2, 3))


def gate(block: tuple[str, ...] = (), allow: tuple[str, ...] = (), cut_off: tuple[str, ...] = ()) -> Gate:
    return Gate(Access(block=block, allow=allow, cut_off=cut_off))


def rule(denied: object) -> str:
    return getattr(denied, "rule", "")


@pytest.mark.parametrize(
    ("written", "kind", "value"),
    [
        (A, "peer", A),
        (f" {A}\n", "peer", A),
        ("192.0.2.7", "network", "192.0.2.7/32"),
        ("192.0.2.7/24", "network", "192.0.2.0/24"),
        ("2001:DB8::1/64", "network", "2001:db8::/64"),
        ("::ffff:192.0.2.7", "network", "192.0.2.7/32"),
        ("0.0.0.0/0", "network", "0.0.0.0/0"),
    ],
)
def test_a_rule_has_one_form_however_it_is_written(written: str, kind: str, value: str) -> None:
    assert canonical(written) == (kind, value)
    assert canonical(value) == (kind, value)


@pytest.mark.parametrize("written", ["", "nobody", "192.0.2.300", "192.0.2.0/33", "12D3KooW", "/ip4/192.0.2.7/tcp/1"])
def test_what_is_no_rule_is_named(written: str) -> None:
    with pytest.raises(AccessError, match="neither a PeerId nor an address"):
        canonical(written)


def test_without_rules_everybody_is_let_in() -> None:
    assert gate().deny_address("192.0.2.1") is gate().deny_peer(A, "192.0.2.1") is gate().deny_dial(A) is None


def test_a_peer_that_was_cut_off_is_neither_dialled_nor_let_in() -> None:
    cut_off = gate(cut_off=(A,))
    assert rule(cut_off.deny_peer(A, "192.0.2.1")) == rule(cut_off.deny_dial(A)) == "cut_off"
    assert str(cut_off.deny_peer(A)) == f"{A} is cut off for what it did"
    assert cut_off.deny_address("192.0.2.1") is cut_off.deny_peer(B, "192.0.2.1") is None


def test_a_blocked_peer_is_let_in_from_nowhere() -> None:
    blocked = gate(block=(A,))
    assert blocked.deny_address("192.0.2.1") is None
    assert rule(blocked.deny_peer(A, "192.0.2.1")) == rule(blocked.deny_dial(A)) == "blocked_peer"
    assert blocked.deny_peer(B, "192.0.2.1") is None


@pytest.mark.parametrize("ip", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::5", "fe80::1%eth0"])
def test_a_blocked_network_is_refused_before_anybody_says_who_he_is(ip: str) -> None:
    blocked = gate(block=("192.0.2.0/24", "2001:db8::/32", "fe80::/10"))
    denied = blocked.deny_address(ip)
    assert denied is not None
    assert (denied.rule, denied.value) == ("blocked_address", ip)
    assert rule(blocked.deny_peer(A, ip)) == "blocked_address"
    assert blocked.deny_address("198.51.100.1") is None


def test_the_rule_that_matches_is_named() -> None:
    denied = gate(block=("10.0.0.0/8", "192.0.2.0/24")).deny_address("192.0.2.77")
    assert denied is not None
    assert denied.limit == "192.0.2.0/24"


def test_an_allow_list_of_networks_turns_others_away_before_the_first_byte() -> None:
    allowed = gate(allow=("192.0.2.0/24",))
    assert allowed.deny_address("192.0.2.1") is allowed.deny_peer(A, "192.0.2.1") is None
    assert rule(allowed.deny_address("198.51.100.1")) == rule(allowed.deny_peer(A, "198.51.100.1")) == "not_allowed"


def test_an_allow_list_of_peers_has_to_hear_who_it_is() -> None:
    allowed = gate(allow=(A,))
    assert allowed.deny_address("198.51.100.1") is allowed.deny_peer(A, "198.51.100.1") is allowed.deny_dial(A) is None
    assert rule(allowed.deny_peer(B, "198.51.100.1")) == rule(allowed.deny_dial(B)) == "not_allowed"


def test_either_list_entry_is_enough_to_be_allowed() -> None:
    allowed = gate(allow=(A, "192.0.2.0/24"))
    assert allowed.deny_peer(A, "198.51.100.1") is allowed.deny_peer(B, "192.0.2.1") is allowed.deny_dial(B) is None
    assert rule(allowed.deny_peer(B, "198.51.100.1")) == "not_allowed"


def test_being_blocked_weighs_more_than_being_allowed() -> None:
    both = gate(block=(A, "192.0.2.7/32"), allow=(A, "192.0.2.0/24"))
    assert rule(both.deny_peer(A, "192.0.2.1")) == "blocked_peer"
    assert rule(both.deny_address("192.0.2.7")) == "blocked_address"


def test_thousands_of_networks_cost_little() -> None:
    many = gate(block=tuple(f"10.{number >> 8}.{number & 255}.0/24" for number in range(9000)))
    assert len(many._blocked._lengths) == 1
    assert rule(many.deny_address("10.3.4.5")) == "blocked_address"
    assert many.deny_address("192.0.2.1") is None


# -- changed while the node runs ------------------------------------------------------------------------------------


class Running:
    """A node's rules, its journal, and what was put into force."""

    def __init__(self, store: MemoryEventStore | None = None, block: tuple[str, ...] = ()) -> None:
        self.state = AccessState(US)
        self.store = store or MemoryEventStore(US)
        self.journal = Journal(US, self.store, LoopClock(), folds=[self.state.apply])
        self.in_force: list[Access] = []
        self.control = AccessControl(self.state, self.journal, block=block, allow=(), enforce=self.enforce)

    async def enforce(self, access: Access) -> int:
        self.in_force.append(access)
        return 2

    async def start(self) -> "Running":
        await self.journal.open()
        await self.control.start()
        return self

    async def facts(self) -> list[Fact]:
        await self.journal.stored()
        from mesh.events.codec import decode

        return [decode(record).fact for record in self.store.records]


async def test_a_rule_is_recorded_and_in_force_at_once() -> None:
    node = await Running().start()
    change = await node.control.block("192.0.2.7/24", "ada", "spam")
    assert (change.party, change.changed, change.closed) == ("192.0.2.0/24", True, 2)
    assert node.in_force[-1] == Access(block=("192.0.2.0/24",))
    assert await node.facts() == [PeerBlocked(party="192.0.2.0/24", kind="network", actor="ada", reason="spam")]
    await node.journal.close()


async def test_rules_hold_after_a_restart() -> None:
    before = await Running().start()
    await before.control.block(A, "ada", "")
    await before.control.block(B, "ada", "")
    await before.control.allow("10.0.0.0/8", "ada", "")
    await before.control.unblock(B, "bob", "a mistake")
    await before.journal.close()
    after = await Running(before.store).start()
    assert after.in_force == [Access(block=(A,), allow=("10.0.0.0/8",))]
    await after.journal.close()


async def test_saying_it_again_changes_nothing() -> None:
    node = await Running().start()
    await node.control.block(A, "ada", "")
    assert not (await node.control.block(A, "bob", "")).changed
    assert len(await node.facts()) == len(node.in_force) - 1 == 1
    await node.journal.close()


async def test_what_other_nodes_block_is_their_business() -> None:
    state = AccessState(US)
    from tests.kit.journals import history

    for event in history(A, [PeerBlocked(party=B, kind="peer", actor="x", reason="")]):
        state.apply(event)
    assert state.access() == Access()


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda control: control.block(US, "x", ""), "is this node itself"),
        (lambda control: control.unblock(A, "x", ""), "is not on the block list"),
        (lambda control: control.disallow(A, "x", ""), "is not on the allow list"),
        (lambda control: control.unblock("192.0.2.7", "x", ""), r"blocked by \[overlay\] block in config.toml"),
        (lambda control: control.allow("everybody", "x", ""), "neither a PeerId"),
    ],
)
async def test_what_cannot_be_done_is_said(act: "type[Awaitable[object]]", what: str) -> None:
    node = await Running(block=("192.0.2.7",)).start()
    with pytest.raises(MeshError, match=what):
        await act(node.control)
    assert await node.facts() == []
    await node.journal.close()


async def test_there_are_not_more_rules_than_the_overlay_process_can_take() -> None:
    node = await Running().start()
    node.state.block = {f"10.0.{n >> 8}.{n & 255}/32": None for n in range(MAX_RULES)}  # type: ignore[misc]
    with pytest.raises(AccessError, match=f"the limit is {MAX_RULES}"):
        await node.control.block(A, "ada", "")
    await node.journal.close()


async def test_commands_at_once_are_carried_out_one_after_another() -> None:
    node = await Running().start()
    await asyncio.gather(*(node.control.block(f"192.0.2.{n}", "ada", "") for n in range(20)))
    assert [len(access.block) for access in node.in_force] == list(range(21))
    await node.journal.close()


def test_a_wrong_entry_of_the_configuration_is_named() -> None:
    with pytest.raises(ConfigError, match=r"overlay\.block: 'x' is neither"):
        AccessControl(AccessState(US), None, block=["x"], allow=[], enforce=None)  # type: ignore[arg-type]


# -- the table ------------------------------------------------------------------------------------------------------


def test_a_rule_and_its_end_are_one_row() -> None:
    made = PeerBlocked(party=A, kind="peer", actor="ada", reason="spam")
    row = only_row(ACCESS_RULES, made)
    assert (row.list, row.party, row.state, row.actor, row.reason) == ("block", A, "active", "ada", "spam")
    lifted = only_row(ACCESS_RULES, made, PeerUnblocked(party=A, kind="peer", actor="bob", reason="sorry"))
    assert (lifted.state, lifted.lifted_by, lifted.lift_reason, lifted.actor) == ("lifted", "bob", "sorry", "ada")
    again = only_row(ACCESS_RULES, made, PeerUnblocked(party=A, kind="peer", actor="bob", reason=""), made)
    assert (again.state, again.lifted_at) == ("active", None)


def test_the_lists_are_kept_apart() -> None:
    keys = {
        ACCESS_RULES.key_of(event)
        for event in _events(
            PeerBlocked(party=A, kind="peer", actor="", reason=""),
            PeerAllowed(party=A, kind="peer", actor="", reason=""),
        )
    }
    assert len(keys) == 2


def _events(*facts: Fact):
    from tests.kit.journals import history

    return history(US, facts)
