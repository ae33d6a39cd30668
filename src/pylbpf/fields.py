"""Structs and arrays, as a user writes them, into bytes."""
from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from typing import Any

import numpy

# What numbers of a kind are made of; numpy itself would take almost anything, and cut it.
TAKEN = {"b": "biu", "i": "biu", "u": "biu", "f": "biuf", "c": "biufc"}


def pack(dtype: numpy.dtype[Any], value: Any, what: str) -> numpy.ndarray[Any, Any]:
    """Return `value` as the bytes of one element of a dtype: a dict or tuple for a struct, a sequence for an array.

    What a dict leaves out is 0. ValueError or TypeError that names the field for what does not fit.
    """
    room = numpy.zeros((1, *dtype.shape), dtype.base)
    put(room, value, what)
    return room.reshape(-1).view(numpy.uint8)


def put(room: numpy.ndarray[Any, Any], value: Any, what: str) -> None:
    """Set the one element of `room`, whose shape is that of an array within the element."""
    dtype, shape = room.dtype, room.shape[1:]
    if isinstance(value, str) and not shape and "enum" in (dtype.metadata or {}):
        value = _enumerator(dtype, value, what)
    if dtype.kind in TAKEN:
        room[0] = _numbers(dtype, value, shape, what)
    elif shape:
        if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
            raise TypeError(f"{what} is an array of the shape {shape}, not {type(value).__name__}")
        items = list(value)
        if len(items) != shape[0]:
            raise ValueError(f"{what} has the shape {shape}, not {len(items)} elements")
        for at, each in enumerate(items):
            put(room[:, at], each, f"{what}[{at}]")
    elif dtype.names is not None:
        _fill(room, value, what)
    elif dtype.kind == "S":
        room[0] = _text(dtype, value, what)
    elif dtype.kind == "V":
        room[0] = _raw(dtype, value, what)
    else:
        try:
            room[0] = value
        except (TypeError, ValueError, OverflowError) as error:
            raise type(error)(f"{what}: {error}") from None


class Key(numpy.void):  # type: ignore[misc]  # final, say the stubs of numpy
    """A struct as it stands in a map as a key, with what is between its members: so it finds its element again."""

    __slots__ = ()

    def __hash__(self) -> int:      # numpy has none where there are arrays among the members
        return hash(self.tobytes())


def key_dtype(dtype: numpy.dtype[Any]) -> numpy.dtype[Any]:
    """The same, whose scalars are of the class Key."""
    return dtype if dtype.names is None else numpy.dtype((Key, dtype))


def as_bytes(dtype: numpy.dtype[Any], value: Any, what: str, is_key: bool) -> Any:
    """A struct of numpy's as bytes. Of keys those between the members are zero, unless they come from a map."""
    if value.dtype.names is None:
        if value.dtype.kind != "V" and value.dtype != numpy.uint8:
            raise TypeError(f"{what} is a struct, not {type(value).__name__} of {value.dtype}")
        return numpy.ascontiguousarray(value)
    if value.dtype != dtype:
        return pack(dtype, value[()], what)
    mask = mask_of(dtype) if is_key and not isinstance(value, Key) else None
    if mask is None:
        return numpy.ascontiguousarray(value)
    data = numpy.frombuffer(value.tobytes(), numpy.uint8)
    return data & mask if len(data) == dtype.itemsize else data


@functools.lru_cache(maxsize=256)
def mask_of(dtype: numpy.dtype[Any]) -> numpy.ndarray[Any, Any] | None:
    """For a struct with gaps: bytes to be kept as 255, and gaps as 0; else None."""
    mask = numpy.zeros(dtype.itemsize, numpy.uint8)
    _cover(mask, dtype)
    return None if mask.all() else mask


def _cover(mask: numpy.ndarray[Any, Any], dtype: numpy.dtype[Any]) -> None:
    if dtype.subdtype is not None and dtype.base.names is not None:
        for part in mask.reshape(-1, dtype.base.itemsize):
            _cover(part, dtype.base)
    elif dtype.names is None:
        mask[:] = 255
    else:
        for field, offset, *_ in (dtype.fields or {}).values():
            _cover(mask[offset:offset + field.itemsize], field)


def _fill(room: Any, value: Any, what: str) -> None:
    """Set a struct; what is in it is changed in place."""
    if isinstance(value, numpy.void) and value.dtype.names is not None:
        value = {name: value[name] for name in value.dtype.names}
    elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        value = _members(value)
    if isinstance(value, dict):
        for name, each in value.items():
            _set(room, name, each, what)
        return
    if not isinstance(value, (tuple, list)):
        room[0] = _raw(room.dtype, value, what)
        return
    # Bytes that hold bit fields have no place in a tuple.
    names = [name for name in room.dtype.names if not name.startswith("bits@")]
    if len(value) != len(names):
        raise ValueError(f"{what} has {len(names)} fields ({', '.join(names)}), not {len(value)}")
    for name, each in zip(names, value):
        _set(room, name, each, what)


def _members(value: Any) -> Any:
    """Those of a dataclass; one that Btf.dataclass() has made knows best where they are."""
    if hasattr(value, "to_bytes"):
        return value.to_bytes()
    import dataclasses
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _set(room: Any, name: str, value: Any, what: str) -> None:
    fields = room.dtype.fields
    if name not in fields:
        bits = (room.dtype.metadata or {}).get("bits", {})
        if name in bits:
            from .bitfields import set_bit_field
            set_bit_field(room, name, value)
            return
        raise ValueError(no_field(room.dtype, name, what))
    put(room[name], value, f"field {name!r} of {what}")


def no_field(dtype: numpy.dtype[Any], name: object, what: str) -> str:
    """What to say of a struct that has no such field."""
    metadata: Any = dtype.metadata or {}
    if name in metadata.get("bits", ()):
        return f"{name!r} of {what} is a bit field: set_bit_field() sets it"
    close = difflib.get_close_matches(str(name), [*(dtype.names or ()), *metadata.get("bits", ())], 3)
    return f"{what} has no field {name!r}{'; did you mean ' + ' or '.join(map(repr, close)) + '?' if close else ''}"


def _enumerator(dtype: numpy.dtype[Any], name: str, what: str) -> int:
    names: dict[str, int] = dtype.metadata["enum"]  # type: ignore[index]
    if name not in names:
        close = difflib.get_close_matches(name, names, 3) or list(names)[:10]
        raise ValueError(f"{what} cannot be {name!r}: did you mean {' or '.join(map(repr, close))}?")
    return names[name]


def _raw(dtype: numpy.dtype[Any], value: Any, what: str) -> Any:
    """One element from a bytes-like object: a ctypes structure is one."""
    try:
        data = bytes(memoryview(value))
    except TypeError:
        kind = "a struct" if dtype.names is not None else f"{dtype.itemsize} bytes"
        raise TypeError(f"{what} is {kind}, not {type(value).__name__}") from None
    if len(data) != dtype.itemsize:
        raise ValueError(f"{what} has {dtype.itemsize} bytes, not {len(data)}")
    return numpy.frombuffer(data, dtype)[0]


def _text(dtype: numpy.dtype[Any], value: Any, what: str) -> bytes:
    """Text as bytes; numpy would cut it."""
    if isinstance(value, numpy.ndarray) and value.shape == ():
        value = value.item()
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"NUL in {what}: {value!r}")
        value = value.encode("utf-8", "surrogateescape")
    if not isinstance(value, (bytes, bytearray)):
        raise TypeError(f"{what} is text, not {type(value).__name__}")
    if len(value) > dtype.itemsize:
        raise ValueError(f"{what} has {dtype.itemsize} bytes, not {len(value)}")
    return bytes(value)


def _numbers(dtype: numpy.dtype[Any], value: Any, shape: tuple[int, ...], what: str) -> Any:
    """Numbers of exactly this shape, of which none is cut."""
    if isinstance(value, (bytes, bytearray)) and shape and dtype.itemsize == 1:
        value = list(value)
    known = isinstance(value, (numpy.ndarray, numpy.generic))
    if not known and not isinstance(value, int) and hasattr(value, "__index__"):
        value = value.__index__()
    elif not known and not isinstance(value, (list, tuple, str, bytes)) and shape and isinstance(value, Iterable):
        value = list(value) if not hasattr(value, "__array__") else value
    given = numpy.asarray(value)
    if given.dtype.kind == "f" and dtype.kind in "iu" and not known:    # what numpy makes of 3 and 1 << 63
        given = numpy.asarray(value, object)
    if given.shape != shape:
        raise ValueError(f"{what} has the shape {shape}, not {given.shape}" if shape else
                         f"{what} is {dtype}, not of the shape {given.shape}")
    if given.size == 0:
        return numpy.zeros(shape, dtype)
    numbers = (int, numpy.integer) if dtype.kind in "biu" else (int, float, numpy.integer, numpy.floating)
    if not (given.dtype.kind == "O" and all(isinstance(each, numbers) for each in given.flat)) and given.dtype.kind not in TAKEN[dtype.kind]:
        kind = type(value).__name__ if not shape else str(given.dtype)
        raise TypeError(f"{what} is {dtype}, not {kind}")
    if dtype.kind in "biu":
        low, high = (0, 1) if dtype.kind == "b" else (numpy.iinfo(dtype).min, numpy.iinfo(dtype).max)
        if not (low <= int(given.min()) and int(given.max()) <= high):
            raise ValueError(f"{what} is {dtype}: {value} does not fit")
        return given.astype(dtype)
    try:
        if given.dtype.kind == "O":
            given = given.astype(float)
        with numpy.errstate(over="ignore"):
            result = given.astype(dtype)
    except OverflowError:
        raise ValueError(f"{what} is {dtype}: {value} does not fit") from None
    if (numpy.isinf(result) & ~numpy.isinf(given)).any():
        raise ValueError(f"{what} is {dtype}: {value} does not fit")
    return result
