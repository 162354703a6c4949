"""When an answer is late enough to ask somebody else beside. Pure.

Dean and Barroso, The Tail at Scale (2013): the second request goes out when the first has taken longer than nearly all
do, so that it costs little and cuts the tail off.
"""

from mesh.experts.candidates import Candidate
from mesh.experts.state import RoutingState
from mesh.experts.tracks import REMEMBERED_LATENCIES, median

# From how many latencies on the 95th percentile of an expert is believed.
ENOUGH = REMEMBERED_LATENCIES // 2
# And this much longer: where all answers take the same, none is late for being the last by a hair.
MARGIN_MS = 1.0


def usual_p95_ms(state: RoutingState, candidates: tuple[Candidate, ...]) -> float:
    """What nearly all answers took lately: the median of the candidates' own 95th percentiles; -1: not known.

    The median, so that one slow expert does not make lateness usual.
    """
    tracks = [state.track(one.target) for one in candidates]
    known = [track.p95_ms for track in tracks if len(track.recent_ms) >= ENOUGH]
    return median(known) if known else -1.0
