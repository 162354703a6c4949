"""Every fact that a node records, by family. A fact is listed here once, and nowhere else.

Adding one: its class in the family's module, and its name in that module's FACTS.
"""

from mesh.events.envelope import Fact
from mesh.events.vocabulary import access, alerts, experts, health, journal, network, node, requests

FACTS: tuple[type[Fact], ...] = (
    *node.FACTS,
    *network.FACTS,
    *access.FACTS,
    *experts.FACTS,
    *requests.FACTS,
    *health.FACTS,
    *alerts.FACTS,
    *journal.FACTS,
)
