"""Errors whose text a person can act on: what was wrong, the value, the limit, and what to do."""


class MeshError(Exception):
    """Base of every error that Synaptic Mesh raises on purpose.

    ``remedy`` is one sentence that tells the reader what to do; ``str()`` holds both parts.
    ``exit_code`` is what the command line exits with.
    """

    exit_code = 1

    def __init__(self, what: str, *, remedy: str = "") -> None:
        ended = what if what.endswith((".", "?", "!")) else f"{what}."
        super().__init__(f"{ended} {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class ConfigError(MeshError):
    """A setting is unknown, malformed or out of range."""

    exit_code = 78  # EX_CONFIG of sysexits.h


class HomeInUse(MeshError):
    """Another process holds this node's data directory."""

    exit_code = 75  # EX_TEMPFAIL


class HomeUnusable(MeshError):
    """A node's data directory cannot be made or written to: missing, read-only, full, or somebody else's."""

    exit_code = 73  # EX_CANTCREAT


class IdentityError(MeshError):
    """The node's key file is missing, unreadable, too open, or not an Ed25519 key."""

    exit_code = 77  # EX_NOPERM


class ListenError(MeshError):
    """An address to listen on is taken or unusable."""

    exit_code = 69  # EX_UNAVAILABLE


class BrokerError(MeshError):
    """The NATS server could not be started, reached or kept."""

    exit_code = 69


class JournalError(MeshError):
    """The journal can take no more events, or cannot be trusted."""

    exit_code = 74  # EX_IOERR


class JournalBroken(JournalError):
    """The hash chain does not hold; ``position`` is the first event that does not fit."""

    def __init__(self, what: str, *, position: int, remedy: str = "") -> None:
        super().__init__(what, remedy=remedy)
        self.position = position


class JournalFenced(JournalError):
    """Something else wrote to the stream: an acknowledged sequence is not the position given out."""


class NodeUnreachable(MeshError):
    """No running node answers for this data directory."""

    exit_code = 69


class PeerMisbehaved(MeshError):
    """What a peer sent breaks the protocol: the peer's fault, never ours.

    ``rule`` is the short name of the rule that was broken; it is recorded with the event.
    """

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(what)
        self.rule = rule
