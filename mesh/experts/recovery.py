"""After a crash: the requests that it cut short get their outcome."""

from mesh.events.journal import Journal
from mesh.events.vocabulary.node import NodeRecovered
from mesh.events.vocabulary.requests import RequestInterrupted
from mesh.experts.state import RoutingState


def recover(state: RoutingState, journal: Journal) -> int:
    """After a start: end every request that an earlier life of this node left open, and say how many there were.

    Call it once the journal is open and ``node.started`` is recorded, before anything is asked.
    """
    left = {request: state.requests[request].last_position for request in state.in_flight()}
    if left:
        journal.emit(
            NodeRecovered(interrupted_requests=len(left), journal_position=journal.position), subject=journal.origin
        )
    for request, last_position in left.items():
        fact = RequestInterrupted(request=request, last_position=last_position)
        journal.emit(fact, subject=request, correlation=request)
    return len(left)
