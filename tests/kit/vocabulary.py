"""Any fact of the vocabulary, from the types of its fields alone: a new fact is covered the day it is listed."""

import types
import typing
from typing import Any

import msgspec
from hypothesis import strategies as st

from mesh.events.envelope import Fact

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_NUMBER = st.floats(allow_nan=False, allow_infinity=False)
_INTEGER = st.integers(min_value=-(2**53), max_value=2**53)
_JSON = st.recursive(
    st.none() | st.booleans() | _INTEGER | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
).map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    int: _INTEGER,
    float: _NUMBER,
    bool: st.booleans(),
    msgspec.Raw: _JSON,
}


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation that the vocabulary uses."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return st.lists(any_of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(any_of(arguments[0]), any_of(arguments[1]), max_size=3)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(st.none() if part is type(None) else any_of(part) for part in arguments))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return any_fact(kind)
    raise TypeError(f"tests/kit/vocabulary.py knows no values of {kind}")


def any_fact(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Instances of one fact (or of a struct inside one)."""
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: any_of(hints[name]) for name in kind.__struct_fields__})


def sample(kind: type[Fact]) -> Any:
    """One instance that is the same for ever: every field says its own name, or a small number."""
    return _sample_struct(kind)


def _sample_struct(kind: type[msgspec.Struct]) -> Any:
    hints = typing.get_type_hints(kind)
    return kind(**{name: _sample_value(name, hints[name]) for name in kind.__struct_fields__})


def _sample_value(name: str, kind: Any) -> Any:
    plain = {str: name, int: len(name), float: len(name) + 0.5, bool: True, msgspec.Raw: msgspec.Raw(b'{"of":"raw"}')}
    if kind in plain:
        return plain[kind]
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is tuple:
        return (_sample_value(name, arguments[0]),)
    if origin is dict:
        return {name: _sample_value(name, arguments[1])}
    if origin is typing.Literal:
        return arguments[0]
    if origin in (typing.Union, types.UnionType):
        return _sample_value(name, next(part for part in arguments if part is not type(None)))
    return _sample_struct(kind)
