"""What a caller of the mesh gets instead of an answer, wherever the mesh may be."""

from mesh.errors import MeshError

_REMEDIES = {
    "no_candidates": "`mesh experts` lists who serves what; config.toml declares more.",
    "lacks_feature": "Name another expert, or a domain.",
}


class RequestFailed(MeshError):
    """The node gave no answer. ``kind`` says why; ``request`` is the id that ``mesh why`` takes, if it got one."""

    def __init__(self, kind: str, message: str, request: str = "", *, remedy: str = "") -> None:
        why = f" (mesh why {request})" if request else ""
        super().__init__(f"{kind}: {message}{why}", remedy=remedy or _REMEDIES.get(kind, ""))
        self.kind = kind
        self.message = message
        self.request = request
