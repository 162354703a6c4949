"""Given these facts of nodes, peers, connections and experts, then these rows."""

import pytest
from msgspec.structs import replace

from mesh.events.vocabulary.experts import (
    ExpertDeregistered,
    ExpertEjected,
    ExpertExpired,
    ExpertOffered,
    ExpertReadmitted,
    ExpertRegistered,
)
from mesh.events.vocabulary.health import PeerSampled
from mesh.events.vocabulary.network import (
    PeerConfirmedDown,
    PeerConnected,
    PeerDialFailed,
    PeerDisconnected,
    PeerDiscovered,
    PeerGreeted,
    PeerIdentified,
    PeerLeft,
    PeerMisbehaved,
    PeerPathChanged,
    PeerRefused,
    PeerRejoined,
    PeerSuspected,
)
from mesh.events.vocabulary.node import NodeRecovered, NodeStarted, NodeStopped, ProcessRestarted
from mesh.projections.folds.connections import CONNECTIONS
from mesh.projections.folds.experts import EXPERTS
from mesh.projections.folds.nodes import NODES
from mesh.projections.folds.peers import PEERS
from tests.kit.tables import NODE, event, folded, only_row

DISCOVERED = PeerDiscovered(peer="p", addresses=("/ip4/10.0.0.1/tcp/1",), source="mdns")
CONNECTED = PeerConnected(
    peer="p",
    connection="c1",
    address="/ip4/10.0.0.1/tcp/1",
    transport="tcp",
    direction="outbound",
    security="/noise",
    muxer="/yamux/1.0.0",
    setup_ms=8.5,
)
DISCONNECTED = PeerDisconnected(peer="p", connection="c1", reason="reset", lasted_s=4.0)
SUSPECTED = PeerSuspected(peer="p", phi=9.0, silent_s=3.0)
DOWN = PeerConfirmedDown(peer="p", reason="silent", silent_s=9.0)
GREETED = PeerGreeted(peer="p", name="attic", role="node", protocol_version=1)
LEFT = PeerLeft(peer="p", reason="this node is stopping")
REJOINED = PeerRejoined(peer="p", away_s=1.0)
REFUSED = PeerRefused(peer="p", address="/ip4/10.0.0.1", rule="max_inbound", limit="200", value="201")
MISBEHAVED = PeerMisbehaved(peer="p", address="", rule="frame_size", detail="9 MiB")
DIAL_FAILED = PeerDialFailed(peer="p", addresses=(), error="refused", attempt=1, retry_in_s=0.5)


def started(epoch: int = 2, *, clean: bool = False) -> NodeStarted:
    return NodeStarted(epoch=epoch, name="n", release="0.2", resumed_from=9, clean=clean)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ([DISCOVERED], "discovered"),
        ([DISCOVERED, DIAL_FAILED], "discovered"),
        ([CONNECTED], "connected"),
        ([CONNECTED, SUSPECTED], "suspected"),
        ([CONNECTED, SUSPECTED, REJOINED], "connected"),
        ([CONNECTED, SUSPECTED, DOWN], "down"),
        ([CONNECTED, SUSPECTED, DOWN, DISCONNECTED], "down"),
        ([CONNECTED, DISCONNECTED], "disconnected"),
        ([CONNECTED, DISCONNECTED, CONNECTED], "connected"),
        ([CONNECTED, LEFT, DISCONNECTED], "left"),
        ([CONNECTED, LEFT, DISCONNECTED, CONNECTED], "connected"),
        ([REFUSED], "refused"),
        ([CONNECTED, REFUSED], "connected"),
        ([CONNECTED, started()], "disconnected"),
        ([CONNECTED, SUSPECTED, started()], "disconnected"),
        ([DISCOVERED, started()], "discovered"),
    ],
)
def test_the_state_of_a_peer(facts: list, state: str) -> None:
    assert only_row(PEERS, *facts).state == state


def test_a_peer_is_told_by_its_last_connection_and_all_its_addresses() -> None:
    identified = PeerIdentified(peer="p", agent="mesh/1", protocols=("/a", "/b"), addresses=("/ip4/10.0.0.2/tcp/1",))
    row = only_row(PEERS, DISCOVERED, DIAL_FAILED, DIAL_FAILED, CONNECTED, identified, DISCOVERED)
    assert row.addresses == ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1")
    assert (row.agent, row.protocols, row.transport, row.direction) == ("mesh/1", ("/a", "/b"), "tcp", "outbound")
    assert (row.dials_failed, row.dial_error, row.connects) == (0, None, 1)
    assert row.discovered_at < row.connected_at < row.last_seen_at


def sampled(latency_ms: float, loss: float = 0.0) -> PeerSampled:
    return PeerSampled(
        peer="p",
        latency_ms=latency_ms,
        jitter_ms=0.1,
        loss=loss,
        request_latency_ms=-1,
        requests=0,
        success_rate=-1,
        throughput_bytes_s=0,
        experts_offered=0,
        experts_available=0,
    )


def test_a_peer_has_the_name_that_it_gave_and_a_change_of_it_is_seen() -> None:
    renamed = PeerGreeted(peer="p", name="cellar", role="client", protocol_version=1)
    assert (only_row(PEERS, CONNECTED, GREETED).name, only_row(PEERS, CONNECTED, GREETED).role) == ("attic", "node")
    assert (only_row(PEERS, GREETED, renamed).name, only_row(PEERS, GREETED, renamed).role) == ("cellar", "client")


def test_answered_heartbeats_are_signs_of_life_and_unanswered_ones_are_not() -> None:
    row = only_row(PEERS, CONNECTED, GREETED, sampled(2.5))
    assert row.last_seen_at > only_row(PEERS, CONNECTED, GREETED).last_seen_at
    for nothing in (sampled(-1), sampled(2.5, loss=1.0)):
        assert only_row(PEERS, CONNECTED, GREETED, nothing) == only_row(PEERS, CONNECTED, GREETED)
    assert not folded(PEERS, sampled(2.5))


def test_misdeeds_are_counted_and_nameless_strangers_have_no_row() -> None:
    nameless = PeerRefused(peer="", address="/ip4/6.6.6.6", rule="max_inbound", limit="200", value="201")
    row = only_row(PEERS, CONNECTED, MISBEHAVED, REFUSED, nameless)
    assert (row.misbehaviours, row.refusals, row.last_offence) == (1, 1, "max_inbound")


def test_connections_are_closed_by_their_end_or_by_a_start_of_the_node() -> None:
    second = PeerConnected(
        **{name: getattr(CONNECTED, name) for name in CONNECTED.__struct_fields__} | {"connection": "c2"}
    )
    rows = folded(CONNECTIONS, CONNECTED, second, DISCONNECTED, event(CONNECTED, 4, origin="other"), started())
    first, left = rows["c1", NODE], rows["c2", NODE]
    assert (first.state, first.close_reason, first.lasted_s, first.setup_ms) == ("closed", "reset", 4.0, 8.5)
    assert (left.state, left.close_reason, left.closed_at) == (
        "closed",
        "the node restarted",
        "2026-11-22T10:00:05.000000Z",
    )
    assert rows["c1", "other"].state == "open"


def test_a_connection_is_relayed_until_there_is_a_direct_way() -> None:
    relayed = PeerConnected(
        **{name: getattr(CONNECTED, name) for name in CONNECTED.__struct_fields__} | {"transport": "relay"}
    )
    assert only_row(CONNECTIONS, CONNECTED).path == "direct"
    assert only_row(CONNECTIONS, relayed).path == "relayed"
    direct = PeerPathChanged(peer="p", connection="c1", path="direct", address="/ip4/10.0.0.2/tcp/2", transport="tcp")
    row = only_row(CONNECTIONS, relayed, direct)
    assert (row.state, row.path, row.transport, row.address) == ("open", "direct", "tcp", "/ip4/10.0.0.2/tcp/2")
    assert row.path_changed_at == "2026-11-22T10:00:02.000000Z"
    assert row.setup_ms == 8.5


def test_a_peer_is_shown_where_it_is_reached_now() -> None:
    direct = PeerPathChanged(peer="p", connection="c1", path="direct", address="/ip4/10.0.0.2/tcp/2", transport="ws")
    row = only_row(PEERS, CONNECTED, direct)
    assert (row.state, row.address, row.transport, row.direction) == ("connected", direct.address, "ws", "outbound")


def test_the_end_of_a_connection_whose_beginning_is_missing() -> None:
    row = only_row(CONNECTIONS, DISCONNECTED)
    assert (row.state, row.opened_at, row.peer) == ("closed", None, "p")


def offered(peer: str = "p", **more: object) -> ExpertOffered:
    fields = {"model": "m", "domains": ("coding",), "concurrency": 4, "queue_limit": 8, "in_flight": 1, "queued": 0}
    return ExpertOffered(
        peer=peer, expert="e", **{**fields, "available": True, "quality": 0.5, "valid_s": 30.0, **more}
    )


REGISTERED = ExpertRegistered(expert="e", backend="code", model="", domains=("coding",), concurrency=2, queue_limit=8)


def test_an_offer_is_believed_for_as_long_as_it_says() -> None:
    row = only_row(EXPERTS, offered(), offered(in_flight=3))
    assert (row.offers, row.in_flight, row.local, row.state) == (2, 3, False, "active")
    assert (row.offered_at, row.expires_at) == ("2026-11-22T10:00:02.000000Z", "2026-11-22T10:00:32.000000Z")


def test_an_expired_offer_is_renewed_by_the_next() -> None:
    expired = ExpertExpired(peer="p", expert="e", reason="not renewed")
    row = only_row(EXPERTS, offered(), expired)
    assert (row.state, row.available, row.end_reason, row.domains) == ("expired", False, "not renewed", ("coding",))
    row = only_row(EXPERTS, offered(), expired, offered())
    assert (row.state, row.available, row.ended_at) == ("active", True, None)


def test_own_experts_are_the_nodes_and_their_own_offers_fall_on_the_same_row() -> None:
    row = only_row(EXPERTS, event(REGISTERED, 1, subject=NODE), offered(peer=NODE))
    assert (row.peer, row.local, row.backend, row.concurrency) == (NODE, True, "code", 4)
    row = only_row(EXPERTS, REGISTERED, ExpertDeregistered(expert="e", reason="config"))
    assert (row.state, row.end_reason, row.available) == ("deregistered", "config", False)


def test_after_a_start_only_what_is_registered_or_offered_again_is_active() -> None:
    rows = folded(EXPERTS, REGISTERED, offered(), offered(peer="q"), started(), REGISTERED, offered(peer="q"))
    assert {key[0]: row.state for key, row in rows.items()} == {NODE: "active", "p": "expired", "q": "active"}
    assert rows["p", "e", NODE].end_reason == "the node restarted"


def test_an_ejected_expert_is_seen_until_it_is_readmitted_and_its_ejections_are_counted() -> None:
    out = ExpertEjected(
        peer="p", expert="e", rule="breaker_open", detail="5 failures in a row", for_s=40.0, times=1, as_of=1
    )
    back = ExpertReadmitted(peer="p", expert="e", rule="breaker_open", as_of=2)
    row = only_row(EXPERTS, offered(), event(out, 5, subject="a-request"))
    assert row.ejected_until == "2026-11-22T10:00:45.000000Z"
    assert (row.ejected_by, row.ejected_for, row.ejections) == ("breaker_open", "5 failures in a row", 1)
    row = only_row(EXPERTS, offered(), out, offered(), out, back)
    assert (row.ejected_until, row.ejected_by, row.ejected_for, row.ejections) == (None, None, None, 2)
    assert folded(EXPERTS, out, back) == {}


def test_what_an_expert_costs_is_what_was_last_said() -> None:
    assert only_row(EXPERTS, offered(price=2.5)).price == 2.5
    assert only_row(EXPERTS, replace(REGISTERED, price=1.5)).price == 1.5
    assert only_row(EXPERTS, offered(price=2.5), offered()).price == 0.0


def test_a_node_counts_its_starts_crashes_and_restarts() -> None:
    row = only_row(
        NODES,
        started(1, clean=True),
        ProcessRestarted(process="broker", reason="killed by SIGKILL", restarts=1, down_ms=20.0),
        NodeStopped(reason="asked to"),
        started(2, clean=True),
        started(3),
        NodeRecovered(interrupted_requests=4, journal_position=5),
    )
    assert (row.epoch, row.crashes, row.state, row.stop_reason) == (3, 1, "running", "asked to")
    assert (row.interrupted_requests, row.process_restarts) == (4, 1)
    assert row.last_restart == "broker: killed by SIGKILL"
