"""JSON text read into models: pydantic's, msgspec's structs, and dataclasses.

pydantic and msgspec read their own. Neither is imported here: code that names one of their models has loaded it.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, fields
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from .values import msgspec_of

_SCALARS: Final = (str, int, float, bool, type(None))
_UNIONS: Final = (typing.Union, types.UnionType)


def read(text: str, model: Any) -> Any:
    """Read JSON text into a model.

    Raises:
        ValueError: the text is not JSON, or does not fit the model.
        TypeError: the model, or a type in it, can't be read.
    """
    if hasattr(model, "model_validate_json"):
        return model.model_validate_json(text)
    if hasattr(model, "__pydantic_validator__"):  # a dataclass of pydantic's
        return model.__pydantic_validator__.validate_json(text)
    if hasattr(model, "__struct_fields__"):
        return msgspec_of(model).json.decode(text, type=model)
    return _built(json.loads(text), model, "data")


def _built(value: Any, kind: Any, place: str) -> Any:
    """Build what a type describes from a JSON value; the kind of type alone decides how."""
    if kind is Any or kind is object:
        return value
    if kind is None or kind in _SCALARS:
        return _scalar(value, type(None) if kind is None else kind, place)
    if typing.get_origin(kind) is not None:
        return _generic(value, kind, place)
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    if hasattr(kind, "__pydantic_validator__"):
        return kind.__pydantic_validator__.validate_python(value)
    if hasattr(kind, "__struct_fields__"):
        return msgspec_of(kind).convert(value, kind)
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass(value, kind, place)
    if kind in (dict, list):
        return _of(value, kind, place)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    raise _unknown(kind, place)


def _scalar(value: Any, kind: type, place: str) -> Any:
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:  # JSON has numbers only
        return float(value)
    raise _other(value, kind, place)


def _generic(value: Any, kind: Any, place: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in _UNIONS:
        return _first_of(value, args, place)
    if origin is typing.Annotated:
        return _built(value, args[0], place)
    if origin is typing.Literal:
        if any(type(value) is type(one) and value == one for one in args):
            return value
        raise ValueError(f"{place} must be one of {', '.join(map(repr, args))}")
    if origin is list:
        return [_built(one, args[0], f"{place}[{index}]") for index, one in enumerate(_of(value, list, place))]
    if origin is dict and args[0] is str:
        return {key: _built(one, args[1], f"{place}[{key!r}]") for key, one in _of(value, dict, place).items()}
    if origin is tuple:
        items = _of(value, list, place)
        kinds = [args[0]] * len(items) if args[1:] == (...,) else list(args)
        if len(kinds) != len(items):
            raise ValueError(f"{place} has {len(items)} items, not {len(kinds)}")
        return tuple(_built(one, kind, f"{place}[{i}]") for i, (one, kind) in enumerate(zip(items, kinds, strict=True)))
    raise _unknown(kind, place)


def _first_of(value: Any, kinds: tuple[Any, ...], place: str) -> Any:
    faults = []
    for kind in kinds:
        try:
            return _built(value, kind, place)
        except ValueError as fault:
            faults.append(str(fault))
    raise ValueError("; and ".join(faults))


def _dataclass(value: Any, kind: Any, place: str) -> Any:
    given = _of(value, dict, place)
    taken = {}
    for name, (type_, is_required) in _fields_of(kind).items():
        if name in given:
            taken[name] = _built(given[name], type_, f"{place}.{name}")
        elif is_required:
            raise ValueError(f"{place} has no {name!r}, which a {kind.__name__} needs")
    return kind(**taken)


@lru_cache(maxsize=256)
def _fields_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The arguments of a dataclass, each with its type and whether there has to be one."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise TypeError(f"the fields of {kind.__name__} can't be read from JSON: {error}") from None
    return {
        field.name: (hints[field.name], field.default is MISSING and field.default_factory is MISSING)
        for field in fields(kind)
        if field.init
    }


def _of(value: Any, kind: type, place: str) -> Any:
    if type(value) is not kind:
        raise _other(value, kind, place)
    return value


def _unknown(kind: Any, place: str) -> TypeError:
    return TypeError(
        f"{place} has the type {kind!r}: put it in a pydantic model or a msgspec struct, which can read it"
    )


def _other(value: Any, kind: type, place: str) -> ValueError:
    """The error for a value of another type, without the value, since a log may get to see the text."""
    return ValueError(f"{place} must be {kind.__name__}, not {type(value).__name__}")
