"""The audit against each way of changing a history, one at a time."""

from collections.abc import Callable

import msgspec
import pytest

from mesh.events.audit import SEAL_EVERY, Audit, Finding, Report, seal_bytes, verify
from mesh.events.chain import genesis, link
from mesh.events.envelope import Fact, Record
from mesh.events.store import Head
from mesh.events.vocabulary.journal import JournalSealed
from mesh.identity import Identity
from tests.kit.facts import suspected
from tests.kit.records import OTHER, OWNER, chain_of, head_of, some

KEY = Identity(b"\7" * 32)


def changed(record: Record, **parts: object) -> Record:
    return msgspec.structs.replace(record, **parts)


def flipped(record: Record) -> Record:
    at = record.payload.index(b'"phi":') + 6
    return changed(record, payload=record.payload[:at] + b"9" + record.payload[at + 1 :])


def renumbered(records: list[Record]) -> list[Record]:
    """As a store made anew would hold them: contiguous, whatever they say themselves."""
    return [changed(record, position=number) for number, record in enumerate(records, start=1)]


def found(report: Report) -> list[tuple[int, str]]:
    return [(finding.position, finding.kind) for finding in report.findings]


def test_an_untouched_history_is_whole() -> None:
    records = some(50)
    report = verify(records, OWNER, head=head_of(records))
    assert report.ok
    assert (report.events, report.last, report.link) == (50, 50, head_of(records).link.hex())
    assert str(report).startswith("whole: 50 events")


def test_an_empty_history_is_whole() -> None:
    assert verify([], OWNER) == Report(OWNER, 0, 1, 0, genesis(OWNER).hex(), 0, 0, (), 0)


Change = Callable[[list[Record]], list[Record]]


def replaced(position: int, change: Callable[[Record], Record]) -> Change:
    return lambda records: [change(record) if record.position == position else record for record in records]


@pytest.mark.parametrize(
    ("change", "position", "kind"),
    [
        pytest.param(replaced(7, flipped), 7, "changed", id="a flipped digit in a payload"),
        pytest.param(replaced(1, flipped), 1, "changed", id="the first payload"),
        pytest.param(replaced(7, lambda r: changed(r, prev=b"\0" * 32)), 7, "changed", id="a link"),
        pytest.param(lambda r: r[:6] + r[7:], 7, "missing", id="a gap"),
        pytest.param(lambda r: renumbered(r[:6] + r[7:]), 7, "missing", id="an event removed, the rest moved up"),
        pytest.param(lambda r: renumbered(r[:6] + r[9:]), 7, "missing", id="three events removed, the rest moved up"),
        pytest.param(lambda r: renumbered([*r[:6], r[2], *r[6:]]), 7, "foreign", id="an old event inserted again"),
        pytest.param(
            lambda r: renumbered(r[:6] + chain_of(suspected(99), after=head_of(r[:6])) + r[6:]),
            7,
            "foreign",
            id="a well-linked event inserted",
        ),
        pytest.param(lambda r: renumbered([*r[:6], r[7], r[6], *r[8:]]), 7, "foreign", id="two events swapped"),
        pytest.param(lambda r: renumbered(r[1:]), 1, "missing", id="the first event removed"),
        pytest.param(
            replaced(7, lambda r: changed(r, payload=b'{"not":"an event"}')), 7, "unreadable", id="not an event"
        ),
        pytest.param(replaced(7, lambda r: changed(r, payload=b"\xff")), 7, "unreadable", id="not JSON"),
        pytest.param(
            replaced(7, lambda r: changed(r, subject=r.subject.replace("suspected", "rejoined"))),
            7,
            "subject",
            id="subject",
        ),
        pytest.param(replaced(7, lambda r: changed(r, id="x")), 7, "subject", id="the id beside the payload"),
    ],
)
def test_every_change_is_found_where_it_was_made(change: Change, position: int, kind: str) -> None:
    records = some(20)
    report = verify(change(records), OWNER)
    assert not report.ok
    assert (report.findings[0].position, kind) == (position, kind), report
    assert (position, kind) in found(report), report


def test_one_change_is_one_finding_even_when_all_that_follows_was_moved() -> None:
    records = some(200)
    assert found(verify(renumbered(records[:6] + records[7:]), OWNER)) == [(7, "missing")]
    assert found(verify(renumbered([*records[:6], records[2], *records[6:]]), OWNER)) == [(7, "foreign")]
    assert found(verify(replaced(7, flipped)(records), OWNER)) == [(7, "changed")]


def test_two_changes_are_two_findings() -> None:
    records = replaced(15, flipped)(replaced(7, flipped)(some(20)))
    assert found(verify(records, OWNER)) == [(7, "changed"), (15, "changed")]


def test_the_last_event_is_held_against_the_head() -> None:
    records = some(20)
    head = head_of(records)
    assert verify(replaced(20, flipped)(records), OWNER).ok, "nothing follows it that could tell"
    assert found(verify(replaced(20, flipped)(records), OWNER, head=head)) == [(20, "changed")]


def test_a_truncated_end_is_found_by_the_head() -> None:
    records = some(20)
    report = verify(records[:15], OWNER, head=head_of(records))
    assert found(report) == [(16, "truncated")]


def test_the_journal_of_another_node_is_not_ours() -> None:
    report = verify(some(5, owner=OTHER), OWNER)
    assert report.findings[0] == Finding(1, "foreign", report.findings[0].detail)
    assert OWNER in report.findings[0].detail


def test_what_the_store_holds_back_is_missing() -> None:
    audit = Audit(OWNER)
    for record in some(5):
        audit.add(record)
    audit.require_reached(9)
    assert found(audit.report()) == [(6, "missing")]


def sealed_history(key: Identity = KEY, *, events: int = 10, **wrong: object) -> list[Record]:
    records = some(events, owner=KEY.peer_id)
    position, chain_link = head_of(records)
    fact = JournalSealed(
        sealed_position=position,
        link=chain_link.hex(),
        signature=key.sign(seal_bytes(KEY.peer_id, position, chain_link)).hex(),
    )
    seal: Fact = msgspec.structs.replace(fact, **wrong)
    records += chain_of(seal, owner=KEY.peer_id, after=Head(position, chain_link))
    return records + some(3, owner=KEY.peer_id, after=head_of(records))


def test_a_seal_vouches_for_what_is_before_it() -> None:
    report = verify(sealed_history(), KEY.peer_id)
    assert report.ok
    assert (report.seals, report.sealed_position) == (1, 10)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(sealed_history(Identity(b"\1" * 32)), id="another key"),
        pytest.param(sealed_history(link="00" * 32), id="another link"),
        pytest.param(sealed_history(sealed_position=9), id="another position"),
        pytest.param(sealed_history(signature="00" * 64), id="no signature"),
        pytest.param(sealed_history(signature="zz"), id="not hex"),
    ],
)
def test_a_bad_seal_is_found(history: list[Record]) -> None:
    assert found(verify(history, KEY.peer_id)) == [(11, "seal")]


def test_a_chain_made_anew_without_the_key_does_not_pass_its_seal() -> None:
    history = sealed_history()
    anew = chain_of(suspected(77), owner=KEY.peer_id)
    for record in history[1:]:
        position, chain_link = head_of(anew)
        anew.append(changed(record, position=position + 1, prev=chain_link))
    assert verify([r for r in anew if "sealed" not in r.subject][:10], KEY.peer_id).ok, "the chain alone is fooled"
    assert found(verify(anew, KEY.peer_id)) == [(11, "seal")]


def test_a_long_stretch_without_a_seal_is_found() -> None:
    history = sealed_history()
    short = history + some(2 * SEAL_EVERY - 4, owner=KEY.peer_id, after=head_of(history))
    assert verify(short, KEY.peer_id).ok
    report = verify(short + some(1, owner=KEY.peer_id, after=head_of(short)), KEY.peer_id)
    assert found(report) == [(11, "unsealed")]


def test_findings_are_bounded() -> None:
    gaps = [record for record in some(500) if record.position % 2]
    report = verify(gaps, OWNER)
    assert len(report.findings) == 100
    assert report.more == 149
    assert "149 more" in str(report)


def test_a_window_takes_its_first_link_on_trust() -> None:
    records = some(30)
    assert verify(records[10:], OWNER, first=11, head=head_of(records)).ok
    assert found(verify(replaced(20, flipped)(records)[10:], OWNER, first=11)) == [(20, "changed")]


def test_links_are_what_the_chain_says() -> None:
    first, second = some(2)
    assert second.prev == link(first.prev, 1, first.payload)
