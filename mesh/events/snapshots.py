"""Snapshots of the live states, in files beside the journal, so that a start need not fold all of it again.

The journal stays the truth: a snapshot counts only while the journal holds, at its position, the very event that it was
taken after (its chain link says so), and while the code that folds is the code that folded. Anything else is passed
over, and the journal is folded from an older one, or from the beginning. Deleting all of them costs time, nothing else.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec
import structlog

import mesh
from mesh.events.chain import link
from mesh.events.live_state import LiveState
from mesh.events.store import EventReader

FORMAT = 1
# So many files are kept at most; beyond it every second one goes, but not the newest.
MAX_KEPT = 64
NEWEST_KEPT = 8
_DRAFT = ".draft"
log = structlog.get_logger(__name__)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The live states after the event at ``position``, whose chain link is ``link`` (hex).

    ``made_by`` says which code and settings folded, ``origin_seq`` how many events the owner had recorded itself.
    """

    owner: str
    made_by: str
    position: int
    link: str
    origin_seq: int
    states: dict[str, msgspec.Raw]
    format: int = FORMAT

    def restore(self, states: Mapping[str, LiveState]) -> None:
        """Make ``states`` what they were. Raises ValueError when one cannot be."""
        if not states.keys() <= self.states.keys():
            raise ValueError(f"it does not hold {', '.join(states.keys() - self.states.keys())}")
        for name, state in states.items():
            state.take_up(bytes(self.states[name]))


class SnapshotFiles:
    """The snapshots in ``directory`` of the node ``owner``. ``settings`` is whatever changes how its states fold."""

    def __init__(self, directory: Path, owner: str, settings: str = "") -> None:
        self._directory = directory
        self.owner = owner
        self.made_by = sha256(f"{code_fingerprint()} {settings}".encode()).hexdigest()

    def save(self, snapshot: Snapshot) -> None:
        """Write one: after a crash it is there whole, or not at all. Raises OSError."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        body = msgspec.json.encode(snapshot)
        draft = self._directory / f"{snapshot.position}{_DRAFT}"
        with draft.open("wb") as file:
            file.write(sha256(body).hexdigest().encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path(snapshot.position))
        for position in superfluous(self.positions()):
            self.remove(position)

    def positions(self) -> list[int]:
        """Where there are snapshots, in ascending order."""
        return sorted(int(path.stem) for path in self._directory.glob("*.json") if path.stem.isdigit())

    def load(self, position: int) -> Snapshot:
        """The snapshot at ``position``. Raises ValueError when it is damaged, another's, or made by other code."""
        digest, _, body = self._path(position).read_bytes().partition(b"\n")
        if digest != sha256(body).hexdigest().encode():
            raise ValueError("it is damaged")
        snapshot = msgspec.json.decode(body, type=Snapshot)
        if (snapshot.format, snapshot.owner, snapshot.position) != (FORMAT, self.owner, position):
            raise ValueError("it is not of this node")
        if snapshot.made_by != self.made_by:
            raise ValueError("it was made by another release, or under other settings")
        return snapshot

    def remove(self, position: int) -> None:
        """Delete one, where that is possible."""
        with suppress(OSError):
            self._path(position).unlink()

    async def fitting(self, reader: EventReader, last: int) -> Snapshot | None:
        """The newest snapshot at or before ``last`` that the journal bears out; None when there is none."""
        for position in reversed(self.positions()):
            if position <= last and (snapshot := await self._borne_out(reader, position)) is not None:
                return snapshot
        return None

    async def resume(self, states: Mapping[str, LiveState], reader: EventReader, last: int) -> Snapshot | None:
        """Make ``states`` what they were at the newest snapshot that fits the journal, which ends at ``last``.

        None when there is none: the states are then as they were. What does not fit is deleted.
        """
        for left_over in self._directory.glob(f"*{_DRAFT}"):
            left_over.unlink()
        blank = {name: state.saved() for name, state in states.items()}
        for position in reversed(self.positions()):
            if position > last:
                _passed_over(position, "the journal does not reach so far")
            elif (snapshot := await self._borne_out(reader, position)) is not None:
                try:
                    snapshot.restore(states)
                except ValueError as error:
                    _passed_over(position, str(error))
                else:
                    return snapshot
            self.remove(position)
        for name, state in states.items():
            state.take_up(blank[name])
        return None

    async def _borne_out(self, reader: EventReader, position: int) -> Snapshot | None:
        try:
            snapshot = self.load(position)
        except (OSError, ValueError) as error:
            _passed_over(position, str(error))
            return None
        if await _link_at(reader, position) == snapshot.link:
            return snapshot
        _passed_over(position, "the journal holds another event there")
        return None

    def _path(self, position: int) -> Path:
        return self._directory / f"{position}.json"


def superfluous(positions: Sequence[int]) -> Sequence[int]:
    """Which of ``positions`` (ascending) go so that at most MAX_KEPT stay: the older they are, the thinner."""
    return positions[1:-NEWEST_KEPT:2] if len(positions) > MAX_KEPT else ()


@cache
def code_fingerprint() -> str:
    """SHA-256 (hex) of this package's sources: code that folds in another way has another one, whoever forgets what."""
    root = Path(mesh.__file__).parent
    digest = sha256(mesh.__version__.encode())
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


async def _link_at(reader: EventReader, position: int) -> str:
    async for records in reader.read(position, position):
        return link(records[0].prev, position, records[0].payload).hex()
    return ""


def _passed_over(position: int, reason: str) -> None:
    log.info("a snapshot is passed over", position=position, reason=reason)
