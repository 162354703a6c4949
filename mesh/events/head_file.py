"""The end that the journal is known to have reached, kept beside it: a store that was cut short is noticed."""

import json
import os
from pathlib import Path

from mesh.errors import JournalError
from mesh.events.chain import HASH_BYTES
from mesh.events.store import Head

REMEDY = "If `mesh audit verify` finds the journal whole without it, delete this file: it is written anew."


def load_head(path: Path) -> Head | None:
    """What `save_head` wrote, None when there is nothing yet. Raises JournalError when it is damaged."""
    try:
        fields = json.loads(path.read_text())
        head = Head(int(fields["position"]), bytes.fromhex(fields["link"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JournalError(
            f"{path} cannot be read: {error!r}",
            remedy=REMEDY,
        ) from error
    if head.position < 0 or len(head.link) != HASH_BYTES:
        raise JournalError(f"{path} holds no position and link", remedy=REMEDY)
    return head


def save_head(path: Path, head: Head) -> None:
    """Remember ``head``: after a crash the file holds it or the one before, whole."""
    draft = path.with_suffix(".new")
    with draft.open("w") as file:
        json.dump({"position": head.position, "link": head.link.hex()}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
