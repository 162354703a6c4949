from mesh.p2p.host.admission import Refusal
from mesh.p2p.host.receiving import ReceiveBudget


class Connection:
    def __init__(self) -> None:
        self.bytes = 0
        self.refusal: Refusal | None = None

    def held(self) -> int:
        return self.bytes

    def give_up(self, refusal: Refusal) -> None:
        self.refusal = refusal

    def receives(self, budget: ReceiveBudget, size: int) -> None:
        budget.receive(self, self.bytes + size)
        if self.refusal is None:
            self.bytes += size


def test_who_holds_the_most_is_given_up_and_says_limit_and_value() -> None:
    budget, greedy, modest = ReceiveBudget(100), Connection(), Connection()
    greedy.receives(budget, 70)
    modest.receives(budget, 20)
    modest.receives(budget, 20)
    assert modest.refusal is None
    assert greedy.refusal == Refusal("max_receive_bytes", "100", "110, of which it held 70")
    assert budget.total == 40


def test_what_was_taken_meanwhile_does_not_count() -> None:
    budget, one, two = ReceiveBudget(100), Connection(), Connection()
    one.receives(budget, 90)
    one.bytes = 5  # the node took the rest
    two.receives(budget, 80)
    assert one.refusal is two.refusal is None
    assert budget.total == 85


def test_a_connection_that_is_over_leaves_nothing() -> None:
    budget = ReceiveBudget(1000)
    for _ in range(10_000):
        connection = Connection()
        connection.receives(budget, 900)
        budget.forget(connection)
        budget.forget(connection)
    assert budget.total == 0
    assert not budget._held
