"""NATS subjects of the journal: ``mesh.event.<origin>.<family>.<fact>``.

Their number is bounded by nodes × fact types, because JetStream keeps every subject in memory;
entity ids stay in the body.
"""

PREFIX = "mesh.event"
STREAM = "MESH_EVENTS"
ALL = f"{PREFIX}.>"


def subject_of(origin: str, fact_type: str) -> str:
    """The subject on which ``origin``'s facts of this type are published."""
    return f"{PREFIX}.{origin}.{fact_type}"


def fact_type_in(subject: str) -> str:
    """What a subject says is published on it, as ``family.fact``; empty when it is none of the journal's."""
    parts = subject.split(".", 3)
    return parts[3] if len(parts) == 4 else ""


def family_filter(family: str) -> str:
    """The filter for one family of every node: ``mesh.event.*.health.>``."""
    return f"{PREFIX}.*.{family}.>"


def origin_filter(origin: str) -> str:
    """The filter for everything that one node reports."""
    return f"{PREFIX}.{origin}.>"
