"""Journals as text files: a line of JSON per record, in the order of the journal."""

import json
from pathlib import Path

from mesh.events.envelope import Record

GOLDEN = Path(__file__).parent.parent / "golden"


def load(name: str) -> list[Record]:
    """The records in ``tests/golden/<name>.jsonl``."""
    lines = (GOLDEN / f"{name}.jsonl").read_text().splitlines()
    return [_record(json.loads(line)) for line in lines]


def save(name: str, records: list[Record]) -> None:
    """Write them."""
    (GOLDEN / f"{name}.jsonl").write_text("".join(json.dumps(_line(record)) + "\n" for record in records))


def _line(record: Record) -> dict[str, object]:
    return {
        "position": record.position,
        "prev": record.prev.hex(),
        "id": record.id,
        "subject": record.subject,
        "payload": record.payload.decode(),
    }


def _record(line: dict[str, str]) -> Record:
    return Record(
        int(line["position"]), bytes.fromhex(line["prev"]), line["id"], line["subject"], line["payload"].encode()
    )
