"""Values as JSON text (RFC 8259), which becomes an event's data.

pydantic models and msgspec structs are written by their own encoders. Neither package is imported here: code that
passes one of theirs has loaded it.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final, NoReturn

_PLAIN: Final = frozenset({dict, list, tuple, str, int, float, bool, type(None)})
_DEEPEST: Final = 100  # levels in which a fault is looked for
_NOT_FINITE: Final = "and JSON has neither NaN nor an infinity (RFC 8259, section 6): make it None, or a str"


def text_of(value: object) -> str:
    """Return a value as compact JSON text on one line.

    A model's field is named by its alias if it has one, as the model's own reader expects.

    Raises:
        TypeError: the value, or something in it, is of a type that JSON lacks.
        ValueError: NaN or an infinity, even where a model's encoder would write null for it; a value that contains
            itself; anything else that a model's encoder refuses.
    """
    kind = value.__class__
    try:
        if kind in _PLAIN:
            return _without_surrogates(_encode(value))
        if hasattr(kind, "__pydantic_serializer__"):
            text = _by_pydantic(value)
        elif hasattr(kind, "__struct_fields__"):
            text = msgspec_of(kind).json.encode(value).decode()
        else:
            return _without_surrogates(_encode(value))
    except (TypeError, ValueError, RecursionError) as error:
        _refuse(value, error)
    if "null" in text or "NaN" in text or "Infinity" in text:
        _check_finite(value, text)
    return text


def msgspec_of(kind: object) -> Any:
    """The package msgspec, to which a struct belongs.

    Raises:
        TypeError: the struct belongs to another package.
    """
    try:
        return sys.modules["msgspec"]
    except KeyError:
        raise TypeError(f"{kind!r} looks like a struct of msgspec, which is not loaded") from None


def _by_pydantic(value: Any) -> str:
    dump = getattr(type(value), "model_dump_json", None)  # a dataclass of pydantic's has none
    if dump is None or dump is sys.modules["pydantic.main"].BaseModel.model_dump_json:
        data: bytes = value.__pydantic_serializer__.to_json(value, by_alias=True)  # what that calls, in half the time
        return data.decode()
    text: str = dump(value, by_alias=True)
    return text


def _parts_of(value: Any) -> Any:
    """The parts of a value that is neither plain nor of a plain type's subclass; the encoder asks.

    Raises:
        TypeError: it is neither a model nor a dataclass.
    """
    kind = type(value)
    if hasattr(kind, "__pydantic_serializer__"):
        return json.loads(text_of(value))  # the same text as if it stood alone
    if hasattr(kind, "__struct_fields__"):
        return msgspec_of(kind).to_builtins(value)
    if hasattr(kind, "__dataclass_fields__"):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"a {kind.__name__} is not JSON")


_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_parts_of).encode


def _without_surrogates(text: str) -> str:
    """JSON text with its lone surrogates escaped (RFC 8259, section 8.2): readers take them so, and UTF-8 has none."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return _surrogate.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    return text


_surrogate: Final = re.compile("[\ud800-\udfff]")


# -- numbers that a model's encoder writes as something else


def _check_finite(value: Any, text: str) -> None:
    """Refuse a number that JSON lacks, for which a model's encoder wrote null or NaN: neither can be read back.

    A model that writes something else for it, such as a str, has chosen to.

    Raises:
        ValueError: the model holds one; the text says where.
    """
    if hasattr(type(value), "__struct_fields__"):
        held = msgspec_of(type(value)).to_builtins(value)
    else:
        held = value.__pydantic_serializer__.to_python(value, by_alias=True)
    if _is_finite(held):
        return
    for place, number, instead in _beside(held, json.loads(text), "value"):  # json.loads takes NaN and Infinity, too
        if isinstance(number, float) and not _is_finite(number) and (instead is None or not _is_finite(instead)):
            raise ValueError(f"{place} is {number!r}, {_NOT_FINITE}")


def _is_finite(held: Any) -> bool:
    """Whether no number in it is NaN or an infinity."""
    kind = held.__class__
    if kind is float:
        return math.isfinite(held)
    if kind is dict:
        held = held.values()
    elif kind not in _ARRAYS:
        return True
    for one in held:
        kind = one.__class__
        if kind is not str and kind is not int and not _is_finite(one):  # most are one of the two
            return False
    return True


_ARRAYS: Final = (list, tuple, set, frozenset)


def _beside(held: Any, written: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield all that a model holds, each with its place and with what was written for it, as far as they match."""
    if isinstance(held, dict) and isinstance(written, dict):
        for key, one in held.items():
            if str(key) in written:
                yield from _beside(one, written[str(key)], f"{place}[{key!r}]")
    elif isinstance(held, _ARRAYS) and isinstance(written, list) and len(held) == len(written):
        for index, (one, other) in enumerate(zip(held, written, strict=True)):
            yield from _beside(one, other, f"{place}[{index}]")
    else:
        yield place, held, written


# -- what is refused, and where it stands


def _refuse(value: object, error: Exception) -> NoReturn:
    """Raise an error that says what is wrong with a value, and where, in place of the encoder's.

    Raises:
        TypeError, ValueError: always.
    """
    fault = _fault_of(value, "value", ())
    if fault is None and isinstance(error, RecursionError):
        fault = ValueError("value is nested too deeply")
    if fault is None:  # only its encoder knows
        kind = TypeError if isinstance(error, TypeError) else ValueError
        fault = kind(f"value is a {type(value).__name__} that can't be JSON: {error}")
    raise fault from None


def _fault_of(value: object, place: str, above: tuple[int, ...]) -> Exception | None:
    """Find the first thing in a value that JSON lacks; None if there is none, or only the value's encoder knows."""
    kind = type(value)
    if isinstance(value, float) and not math.isfinite(value):
        return ValueError(f"{place} is {value!r}, {_NOT_FINITE}")
    if value is None or isinstance(value, str | int | float) or len(above) == _DEEPEST:
        return None
    if id(value) in above:
        return ValueError(f"{place} contains itself, and a text has to end")
    inner: Iterator[tuple[str, object]]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int | float | None):
                return TypeError(f"{place} has a key that is a {type(key).__name__}: make it a str")
        inner = ((f"{place}[{key!r}]", one) for key, one in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{place}[{index}]", one) for index, one in enumerate(value))
    elif hasattr(kind, "__pydantic_serializer__") or hasattr(kind, "__struct_fields__"):
        return _fault_of_model(value, place) if above else None
    elif hasattr(kind, "__dataclass_fields__"):
        inner = ((f"{place}.{name}", one) for name, one in _parts_of(value).items())
    else:
        return TypeError(
            f"{place} is a {kind.__name__}, which JSON lacks: make it a str, a number, a list or a dict, "
            "or put it in a pydantic model or a msgspec struct"
        )
    above = (*above, id(value))
    return next(filter(None, (_fault_of(one, where, above) for where, one in inner)), None)


def _fault_of_model(value: object, place: str) -> Exception | None:
    try:
        text_of(value)
    except (TypeError, ValueError) as error:
        return type(error)(f"{place}{str(error).removeprefix('value')}")
    return None
