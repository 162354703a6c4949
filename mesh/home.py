"""A node's home: one directory that holds everything it must not lose, and one process that may write there."""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mesh.errors import HomeInUse, HomeUnusable, NodeUnreachable


@dataclass(frozen=True)
class Home:
    """Where each thing lives below ``root``."""

    root: Path

    @property
    def key_file(self) -> Path:
        """The Ed25519 seed, mode 0600."""
        return self.root / "identity.key"

    @property
    def network_key(self) -> Path:
        """The key of a private network, mode 0600, where `mesh init` made or got one."""
        return self.root / "swarm.key"

    @property
    def config_file(self) -> Path:
        """Settings."""
        return self.root / "config.toml"

    @property
    def broker(self) -> Path:
        """The embedded nats-server: its configuration, log, pid file and JetStream store."""
        return self.root / "broker"

    @property
    def journal_head(self) -> Path:
        """How far the journal is known to have come, so that a lost end is noticed."""
        return self.root / "journal-head.json"

    @property
    def database(self) -> Path:
        """The projections, as SQLite."""
        return self.root / "state.sqlite"

    @property
    def snapshots(self) -> Path:
        """Live states as they were at some positions of the journal; may be deleted at any time."""
        return self.root / "snapshots"

    @property
    def content_keys(self) -> Path:
        """The keys of sealed prompts and answers, mode 0600: what is erased here cannot be read anywhere."""
        return self.root / "content-keys"

    @property
    def credentials(self) -> Path:
        """NATS credentials of the node, the operator and the readers, one file each, mode 0600."""
        return self.root / "credentials"

    @property
    def gateway_keys(self) -> Path:
        """The hashes of the gateway's API keys, mode 0600."""
        return self.root / "gateway-keys.json"

    @property
    def logs(self) -> Path:
        """What the processes of this node print."""
        return self.root / "logs"

    @property
    def lock_file(self) -> Path:
        """Held, with flock, by the process that may write here."""
        return self.root / "lock"

    def create(self) -> None:
        """Make the directories that are missing, readable by their owner only. Raises HomeUnusable."""
        try:
            for directory in (self.root, self.broker, self.credentials, self.logs):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.root, error) from error

    def require_node(self) -> None:
        """Raises NodeUnreachable where no node was ever made."""
        if not self.key_file.exists():
            raise NodeUnreachable(f"there is no node in {self.root}", remedy="Run `mesh init`, or name it with --home.")

    def never_ran(self) -> NodeUnreachable:
        """What is wrong where there is nothing that a node makes when it runs. Raises NodeUnreachable as above."""
        self.require_node()
        return NodeUnreachable(f"no node has run in {self.root} yet", remedy="Start it with `mesh up`.")


class HomeLock:
    """The exclusive right to write below a home; the kernel takes it back when the process ends.

    Use as a context manager. Raises HomeInUse, naming the holder, when another process has it, and HomeUnusable
    when the lock file cannot be written.
    """

    def __init__(self, home: Home, purpose: str) -> None:
        self._home = home
        self._purpose = purpose
        self._file: IO[str] | None = None

    def __enter__(self) -> "HomeLock":
        try:
            file = self._home.lock_file.open("a+")
        except OSError as error:
            raise _unusable(self._home.root, error) from error
        try:
            self._take(file)
        except BaseException:
            file.close()
            raise
        self._file = file
        return self

    def _take(self, file: IO[str]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise HomeInUse(
                f"{self._home.root} is in use by {_describe(file.read())}",
                remedy="Stop that process, or choose another directory with --home.",
            ) from None
        holder = json.dumps({"pid": os.getpid(), "purpose": self._purpose}).encode()
        try:
            file.truncate(0)
            os.write(file.fileno(), holder)
        except OSError as error:
            raise _unusable(self._home.root, error) from error

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def is_held(home: Home) -> bool:
    """Whether some process may write below the home: its node, or who reads its journal. Looking changes nothing."""
    try:
        with home.lock_file.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _describe(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"`{holder['purpose']}` (process {holder['pid']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _unusable(root: Path, error: OSError) -> HomeUnusable:
    return HomeUnusable(
        f"{error.filename or root} cannot be written: {error.strerror}",
        remedy=f"{root} has to be a directory of the user that runs the node, with room on its disk; see --home.",
    )
