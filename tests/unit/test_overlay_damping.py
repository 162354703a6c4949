from mesh.p2p.host.damping import Damper


def test_a_flood_becomes_a_few_and_none_is_forgotten() -> None:
    damper = Damper(burst=2, per_s=0.5)
    assert [damper.admit("a", 0.0) for _ in range(5)] == [0, 0, None, None, None]
    assert damper.admit("a", 2.0) == 3
    assert damper.admit("a", 2.0) is None


def test_one_source_does_not_hide_another() -> None:
    damper = Damper(burst=1)
    assert [damper.admit("a", 0.0), damper.admit("a", 0.0), damper.admit("b", 0.0)] == [0, None, 0]


def test_new_sources_without_end_share_what_is_left() -> None:
    damper = Damper(burst=1, per_s=0.001)
    admitted = [damper.admit(str(number), 0.0) for number in range(10_000)]
    assert sum(one is not None for one in admitted) <= 1025


def test_quiet_sources_make_room() -> None:
    damper = Damper(burst=1, per_s=1.0)
    for number in range(5000):
        assert damper.admit(str(number), number * 2.0) == 0
