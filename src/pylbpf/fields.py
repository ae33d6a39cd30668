"""Structs and arrays, as a user writes them, into bytes."""
from __future__ import annotations

import difflib
from typing import Any

import numpy


def pack(dtype: numpy.dtype[Any], value: Any, what: str) -> numpy.ndarray[Any, Any]:
    """Return `value` as one element of a dtype: a dict or tuple for a struct, a sequence for an array.

    What a dict leaves out is 0. ValueError or TypeError that names the field for what does not fit.
    """
    room = numpy.zeros(1, dtype.base)
    if dtype.subdtype is None:
        _fill(room, value, what)
        return room
    try:
        room = numpy.zeros(dtype.shape, dtype.base)
        _check_numbers(dtype.base, value, what)
        given = numpy.asarray(value, dtype.base)
    except (TypeError, ValueError, OverflowError) as error:
        raise type(error)(f"{what}: {error}") from None
    if given.shape != dtype.shape:
        raise ValueError(f"{what} has the shape {dtype.shape}, not {given.shape}")
    room[...] = given
    return room


def _fill(room: Any, value: Any, what: str) -> None:
    """Set the one element of `room`, a struct; what is in it is changed in place."""
    names = room.dtype.names
    if names is None:
        raise TypeError(f"{what} is {room.dtype}, not a struct")
    if isinstance(value, dict):
        for name, each in value.items():
            _set(room, name, each, what)
        return
    # Bytes that hold bit fields have no place in a tuple.
    names = [name for name in names if not name.startswith("bits@")]
    if len(value) != len(names):
        raise ValueError(f"{what} has {len(names)} fields ({', '.join(names)}), not {len(value)}")
    for name, each in zip(names, value):
        _set(room, name, each, what)


def _set(room: Any, name: str, value: Any, what: str) -> None:
    fields = room.dtype.fields
    if name not in fields:
        bits = (room.dtype.metadata or {}).get("bits", {})
        if name in bits:
            from .bitfields import set_bit_field
            set_bit_field(room, name, value)
            return
        close = difflib.get_close_matches(str(name), [*fields, *bits], 3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"{what} has no field {name!r}{hint}")
    field, place = fields[name][0], f"field {name!r} of {what}"
    if field.names is not None and isinstance(value, (dict, tuple)):
        _fill(room[name], value, place)
        return
    try:
        if field.kind == "S" or (field.subdtype and field.base.kind == "S"):
            value = _text(field.base, value, place)
        _check_numbers(field.base, value, place)
        room[name][0] = value
    except (TypeError, ValueError, OverflowError) as error:
        text = str(error)
        raise type(error)(text if text.startswith(("field ", place)) else f"{place}: {error}") from None


def _text(dtype: numpy.dtype[Any], value: Any, what: str) -> Any:
    """Text as bytes; numpy would cut it."""
    if isinstance(value, (list, tuple)):
        return [_text(dtype, each, what) for each in value]
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    if not isinstance(value, (bytes, numpy.ndarray)):
        raise TypeError(f"{what} is text, not {type(value).__name__}")
    if isinstance(value, bytes) and len(value) > dtype.itemsize:
        raise ValueError(f"{what} has {dtype.itemsize} bytes, not {len(value)}")
    return value


def _check_numbers(dtype: numpy.dtype[Any], value: Any, what: str) -> None:
    """Older numpy cuts numbers that are too large, and fractions, without a word."""
    if dtype.kind not in "iu":
        return
    if isinstance(value, (list, tuple)):
        for each in value:
            _check_numbers(dtype, each, what)
        return
    given = numpy.asarray(value)
    if given.dtype.kind not in "biuO":
        raise TypeError(f"{what} is {dtype}, not {type(value).__name__}")
    limits = numpy.iinfo(dtype)
    if given.size and not (limits.min <= int(given.min()) and int(given.max()) <= limits.max):
        raise ValueError(f"{what} is {dtype}: {value} does not fit")
