"""The audit of a stored journal, from its first event to its last, and to the end that the node remembers."""

from collections.abc import Callable

from mesh.events.audit import Audit, Report
from mesh.events.head_file import load_head
from mesh.events.store import EventReader, Head
from mesh.home import Home


async def audit_journal(
    reader: EventReader, owner: str, home: Home, *, on_progress: Callable[[int], None] = lambda _position: None
) -> Report:
    """`audit_stored`, with the end that is remembered in ``home``. Raises JournalError when that file is damaged."""
    return await audit_stored(reader, owner, load_head(home.journal_head), on_progress=on_progress)


async def audit_stored(
    reader: EventReader,
    owner: str,
    head: Head | None = None,
    *,
    on_progress: Callable[[int], None] = lambda _position: None,
) -> Report:
    """Audit everything that is stored, as `mesh.events.audit.verify` does.

    Events that the store itself no longer gives out, because their bytes on disk are damaged, are found by the gap.
    ``on_progress`` hears the positions that were reached.
    """
    stored = await reader.last_position()
    audit = Audit(owner, head=head)
    async for records in reader.scan():
        for record in records:
            audit.add(record)
        on_progress(audit.position)
    audit.require_reached(stored)
    return audit.report()
