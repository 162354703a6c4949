"""What a mesh in a program tells of its past, from its journal alone."""

from typing import Any

from mesh.events.audit import Report, verify
from mesh.events.codec import decode
from mesh.events.envelope import Record
from mesh.events.store_memory import MemoryEventStore
from mesh.experts.explain import Explainer, Explanation
from mesh.identity import Identity


class History:
    """The journal of ``identity`` in ``store``, and the questions that commands ask of a node's."""

    def __init__(self, identity: Identity, store: MemoryEventStore) -> None:
        self.identity = identity
        self._store = store

    @property
    def records(self) -> list[Record]:
        """The journal. `mesh.events.lines` writes it as text, for a later life to go on from."""
        return list(self._store.records)

    def why(self, request: str) -> Explanation:
        """What ``mesh why`` tells: each decision made again from the journal. Raises LookupError."""
        explainer = Explainer(self.identity.peer_id, request)
        for record in self._store.records:
            explainer.feed(decode(record))
        return explainer.result()

    def verify(self) -> Report:
        """What ``mesh audit verify`` tells: whether the journal was changed. It is sealed when the mesh is closed."""
        return verify(self._store.records, self.identity.peer_id)

    def sql(self, question: str) -> list[dict[str, Any]]:
        """The rows that a SELECT over the tables of docs/tables.md gives. They are made anew for each question."""
        from mesh.projections.in_memory import rows_of  # SQLAlchemy: a second to load, and asking needs none of it

        return rows_of(self._store.records, question)

    def digest(self) -> str:
        """The digest of those tables: what ``mesh digest`` gives for this journal on any machine."""
        from mesh.projections.in_memory import digest_of_records

        return digest_of_records(self._store.records).total
