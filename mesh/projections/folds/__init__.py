"""Every projection, in the order that documents show them. Adding one: its fold here, a migration, a test."""

from typing import Any

from mesh.projections.folds.access_rules import ACCESS_RULES
from mesh.projections.folds.alert_history import ALERT_HISTORY
from mesh.projections.folds.alerts import ALERTS
from mesh.projections.folds.attempts import ATTEMPTS
from mesh.projections.folds.connections import CONNECTIONS
from mesh.projections.folds.decisions import DECISIONS
from mesh.projections.folds.experts import EXPERTS
from mesh.projections.folds.health_samples import HEALTH_SAMPLES
from mesh.projections.folds.nodes import NODES
from mesh.projections.folds.peer_health import PEER_HEALTH
from mesh.projections.folds.peer_load import PEER_LOAD
from mesh.projections.folds.peers import PEERS
from mesh.projections.folds.requests import REQUESTS
from mesh.projections.folds.served import SERVED
from mesh.projections.projection import Projection

PROJECTIONS: tuple[Projection[Any], ...] = (
    NODES,
    PEERS,
    CONNECTIONS,
    ACCESS_RULES,
    EXPERTS,
    REQUESTS,
    ATTEMPTS,
    DECISIONS,
    SERVED,
    PEER_LOAD,
    HEALTH_SAMPLES,
    PEER_HEALTH,
    ALERTS,
    ALERT_HISTORY,
)
