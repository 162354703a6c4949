"""A peer that is said to be gone is asked once, and gone if it is not heard of in the time that it has."""

from mesh.p2p.host.doubt import Doubt


def test_who_is_not_heard_of_is_gone() -> None:
    doubt = Doubt()
    assert doubt.until is None
    assert doubt.raise_at(10.0)
    assert not doubt.raise_at(11.0)  # asked already
    assert doubt.until == 12.0
    assert not doubt.is_confirmed(11.9, heard_at=9.0)
    assert doubt.is_confirmed(12.0, heard_at=9.0)
    assert doubt.until is None


def test_who_is_heard_of_is_there_and_may_be_doubted_again() -> None:
    doubt = Doubt()
    assert doubt.raise_at(10.0)
    assert not doubt.is_confirmed(12.0, heard_at=10.1)
    assert not doubt.is_confirmed(99.0, heard_at=10.1)  # that doubt is over
    assert doubt.raise_at(20.0)
    assert doubt.is_confirmed(22.0, heard_at=20.0)
