"""Bit fields of structs, which numpy does not know: out of the bytes that a dtype of Btf.dtype() has for them."""
from __future__ import annotations

import sys
from typing import Any

import numpy

LITTLE = sys.byteorder == "little"


def bit_field(values: Any, name: str) -> Any:
    """Return what a bit field of a struct holds: `values` is an array, or one element, of a dtype of ``Btf.dtype()``.

    An array of the same shape, of 64-bit integers or bool, or a number; a copy. KeyError if there is no bit field of
    this name, with the names that there are. Source: struct btf_member.
    """
    storage, first, bits, kind = _place(values, name)
    wide = _unsigned(values[storage], first, bits)
    if kind == "b":
        return wide != 0
    if kind == "i":     # the sign is moved to the top, and back
        empty = numpy.uint64(64 - bits)
        return (wide << empty).astype(numpy.int64) >> numpy.int64(64 - bits)
    return wide


def set_bit_field(values: Any, name: str, to: Any) -> None:
    """Set a bit field of a struct, or of all structs of an array, to a number or an array of numbers.

    ValueError for what does not fit, before anything is changed. Other bits of the same bytes stay as they are; this is
    not atomic. Source: struct btf_member.
    """
    storage, first, bits, kind = _place(values, name)
    new = exact(to)
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind == "i" else (0, (1 << bits) - 1)
    if new.dtype.kind not in "biu" and not is_whole(new):
        raise TypeError(f"bit field {name!r} takes integers, not {new.dtype}")
    if new.size and not (least <= int(new.min()) and int(new.max()) <= most):
        raise ValueError(f"bit field {name!r} has {bits} bits, from {least} to {most}")
    new = new.astype(numpy.int64 if kind == "i" else numpy.uint64).astype(numpy.uint64)
    stored = values[storage]
    for byte, shift in _bytes(first, bits):
        # `shift` is where the lowest bit of this byte is in the number
        mask = ((1 << bits) - 1 << -shift if shift < 0 else (1 << bits) - 1 >> shift) & 0xFF
        part = new << numpy.uint64(-shift) if shift < 0 else new >> numpy.uint64(shift)
        stored[..., byte] = stored[..., byte] & (0xFF ^ mask) | (part & numpy.uint64(mask)).astype(numpy.uint8)


def exact(value: Any) -> Any:
    """Numbers as an array. Of integers that have no type of numpy's in common it would make floats, which are not exact."""
    found = numpy.asarray(value)
    if found.dtype.kind == "f" and isinstance(value, (list, tuple)):
        whole = numpy.array(value, object)
        return whole if is_whole(whole) else found
    return found


def is_whole(values: Any) -> bool:
    """Whether an array of objects holds integers only."""
    return values.dtype.kind == "O" and all(isinstance(item, (int, numpy.integer)) for item in values.flat)


def _place(values: Any, name: str) -> tuple[str, int, int, str]:
    dtype = getattr(values, "dtype", None)
    known = ((dtype.metadata if dtype is not None else None) or {}).get("bits", {})
    if name not in known:
        raise KeyError(f"no bit field {name!r}; there are {', '.join(known) or 'none'}")
    if known[name][2] > 64:
        raise ValueError(f"bit field {name!r} has {known[name][2]} bits, more than 64")
    found: tuple[str, int, int, str] = known[name]
    return found


def _bytes(first: int, bits: int) -> list[tuple[int, int]]:
    """The bytes that hold some of `bits` from `first` on; and how far to the left in the number the byte's lowest bit is."""
    last = first + bits - 1
    if LITTLE:
        return [(byte, 8 * byte - first) for byte in range(first // 8, last // 8 + 1)]
    return [(byte, last - (8 * byte + 7)) for byte in range(first // 8, last // 8 + 1)]


def _unsigned(stored: Any, first: int, bits: int) -> Any:
    result: Any = numpy.zeros(stored.shape[:-1], numpy.uint64)
    for byte, shift in _bytes(first, bits):
        part = stored[..., byte].astype(numpy.uint64)
        result = result | (part >> numpy.uint64(-shift) if shift < 0 else part << numpy.uint64(shift))
    return result & numpy.uint64((1 << bits) - 1)
