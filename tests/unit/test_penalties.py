"""Who breaks the rules is kept out, longer each time, and nobody fills the memory with offenders."""

from mesh.p2p.penalties import LONGEST_S, MAX_PENALTIES, Penalties


def test_an_offender_is_kept_out_until_its_pause_is_over() -> None:
    penalties = Penalties(60)
    assert penalties.offend("p", 100.0) == 60
    assert penalties.kept_out(159.5) == ("p",)
    assert penalties.next_end_in(159.5) == 0.5
    assert penalties.kept_out(160.0) == ()
    assert penalties.next_end_in(160.0) is None


def test_an_offence_within_the_pause_is_part_of_it() -> None:
    penalties = Penalties(60)
    penalties.offend("p", 100.0)
    assert penalties.offend("p", 130.0) == 30
    assert penalties.kept_out(160.0) == ()


def test_each_further_offence_doubles_the_pause_up_to_the_longest() -> None:
    penalties, now, pauses = Penalties(60), 0.0, []
    for _ in range(9):
        pauses.append(penalties.offend("p", now))
        now += pauses[-1] + 1
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_the_longest_pause_can_be_a_shorter_one() -> None:
    penalties = Penalties(60, 100)
    assert [penalties.offend("p", 0.0), penalties.offend("p", 61.0), penalties.offend("p", 200.0)] == [60, 100, 100]


def test_who_kept_the_rules_for_long_starts_anew() -> None:
    penalties = Penalties(60)
    penalties.offend("p", 0.0)
    assert penalties.offend("p", 61.0 + LONGEST_S) == 60


def test_a_first_pause_over_the_longest_stays_as_it_is() -> None:
    penalties = Penalties(2 * LONGEST_S)
    assert penalties.offend("p", 0.0) == penalties.offend("p", 2 * LONGEST_S) == 2 * LONGEST_S


def test_the_first_offenders_are_forgotten_when_there_are_too_many() -> None:
    penalties = Penalties(60)
    for number in range(MAX_PENALTIES + 1):
        penalties.offend(f"p{number}", 0.0)
    assert len(penalties.kept_out(1.0)) == MAX_PENALTIES
    assert "p0" not in penalties.kept_out(1.0)
