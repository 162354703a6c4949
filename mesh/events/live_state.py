"""What a live state is: a fold of the journal that can be put away and taken up again where it was. Pure."""

from typing import Protocol

import msgspec

from mesh.events.envelope import Event


class LiveState(Protocol):
    """A state that only events change, and that says itself how it is put away."""

    def apply(self, event: Event) -> None:
        """Fold the next event of the journal."""
        ...

    def saved(self) -> bytes:
        """All of it as JSON, in the order in which it is held, so that what is taken up decides the same."""
        ...

    def take_up(self, saved: bytes) -> None:
        """Become what was `saved`. Raises ValueError, and changes nothing, when it is none of ours."""
        ...


class LiveStruct(msgspec.Struct):
    """A live state that is all data: its fields are what is put away."""

    def saved(self) -> bytes:
        """See `LiveState.saved`."""
        return msgspec.json.encode(self)

    def take_up(self, saved: bytes) -> None:
        """See `LiveState.take_up`."""
        found = msgspec.json.decode(saved, type=type(self))
        for name in self.__struct_fields__:
            setattr(self, name, getattr(found, name))
