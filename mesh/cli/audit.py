"""``mesh audit``"""

import asyncio
import sys

import msgspec

from mesh.cli.options import ReadOptions
from mesh.cli.render import print_json
from mesh.errors import JournalBroken


def verify(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """Check the whole chain and every seal; name the first event that does not fit."""
    from mesh.events.audit import Report
    from mesh.events.audit_journal import audit_journal
    from mesh.identity import load_key_file
    from mesh.journals import journal_reader

    async def audit() -> Report:
        home, config = options.load()
        async with journal_reader(home, config) as reader:
            return await audit_journal(reader, load_key_file(home.key_file).peer_id, home)

    report = asyncio.run(audit())
    if options.json:
        print_json(msgspec.to_builtins(report))
        sys.exit(0 if report.ok else JournalBroken.exit_code)
    print(report)
    if not report.ok:
        sys.exit(JournalBroken.exit_code)
