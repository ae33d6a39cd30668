"""Types of BTF as classes: ctypes, dataclasses, enums."""
from __future__ import annotations

import ctypes
import dataclasses
import keyword
import struct
import sys
from typing import Any, Callable, NamedTuple

from .btf import Btf, Member
from .btfnames import bare, enum_of, words
from .enums import BtfKind as Kind

LITTLE = sys.byteorder == "little"
TAKEN = ("from_bytes", "to_bytes", "__slots__", "__post_init__")


def is_char(btf: Btf, number: int) -> bool:
    return btf.kind(number) == Kind.INT and btf.dtype(number).itemsize == 1 and btf.name(number) == "char"


def identifier(name: str) -> str:
    """A name that a class may have; those that Python or our classes need get a "_"."""
    taken = keyword.iskeyword(name) or name in TAKEN or name[:2] == name[-2:] == "__" and hasattr(type, name)
    return f"{name}_" if taken else name


# ---------------------------------------------------------------- bits

def bytes_around(first: int, bits: int) -> tuple[int, int, int]:
    """Of bits in memory: their first byte, the byte after the last one, and how far from the right they are in these."""
    begin, end = first // 8, (first + bits + 7) // 8
    return begin, end, first % 8 if LITTLE else 8 * end - first - bits


def get_bits(data: Any, first: int, bits: int, kind: str) -> int:
    begin, end, shift = bytes_around(first, bits)
    value = int.from_bytes(data[begin:end], sys.byteorder) >> shift & (1 << bits) - 1
    if kind == "b":
        return bool(value)
    return value - (1 << bits) if kind == "i" and value >> bits - 1 else value


def set_bits(data: Any, first: int, bits: int, kind: str, value: int, name: str) -> None:
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind == "i" else (0, (1 << bits) - 1)
    if not isinstance(value, int):
        raise TypeError(f"bit field {name!r} takes integers, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"bit field {name!r} has {bits} bits, from {least} to {most}, not {value}")
    begin, end, shift = bytes_around(first, bits)
    mask = (1 << bits) - 1 << shift
    whole = int.from_bytes(data[begin:end], sys.byteorder) & ~mask | value << shift & mask
    data[begin:end] = whole.to_bytes(end - begin, sys.byteorder)


def bits_of(btf: Btf, member: Member, number: int) -> tuple[int, int, str] | None:
    """Where the bits of a bit field are, and how they are read; None for other members."""
    if not member.bits and member.offset % 8 == 0:
        return None
    kind = btf.dtype(number).kind
    return member.offset, member.bits or 8 * btf.size(number), kind


# ---------------------------------------------------------------- ctypes

def ctypes_of(btf: Btf, number: int) -> Any:
    made = btf._classes()
    number = bare(btf, number)
    if (number, "ctypes") not in made:
        made[number, "ctypes"] = _make_ctypes(btf, number)
    return made[number, "ctypes"]


def _make_ctypes(btf: Btf, number: int) -> Any:
    kind = btf.kind(number)
    if kind == Kind.ARRAY:
        element, size = btf.target(number), btf.size(number)
        count = size // btf.size(element) if btf.size(element) else 0
        return (ctypes.c_char if is_char(btf, bare(btf, element)) else ctypes_of(btf, element)) * count
    if kind in (Kind.STRUCT, Kind.UNION):
        return _make_structure(btf, number)
    dtype = btf.dtype(number)
    if kind == Kind.PTR and dtype.itemsize == ctypes.sizeof(ctypes.c_void_p):
        return ctypes.c_void_p
    known: dict[str, Any] = {"b1": ctypes.c_bool, "f4": ctypes.c_float, "f8": ctypes.c_double}
    for sign, prefix in (("i", "c_int"), ("u", "c_uint")):
        known.update({f"{sign}{size}": getattr(ctypes, f"{prefix}{8 * size}") for size in (1, 2, 4, 8)})
    return known.get(dtype.str[1:]) or ctypes.c_ubyte * dtype.itemsize


def _make_structure(btf: Btf, number: int) -> Any:
    size, union = btf.size(number), btf.kind(number) == Kind.UNION
    fields: list[tuple[str, Any]] = []
    nameless: list[str] = []
    body: dict[str, Any] = {"_pack_": 1, "_layout_": "ms", "__doc__": f"{words(btf, number)}, {size} bytes."}
    end = 0
    for member in sorted(btf.members(number), key=lambda member: member.offset):
        inner, at = bare(btf, member.type), member.offset // 8
        place = bits_of(btf, member, inner)
        if place:
            if member.name:
                body[member.name] = _bit_property(member.name, *place)
            continue
        if not member.name and btf.kind(inner) not in (Kind.STRUCT, Kind.UNION):
            continue
        if not union and at < end:
            raise ValueError(f"{words(btf, number)} has members that overlap: {member.name!r}")
        if not union and at > end:
            fields.append((f"_pad_{end}", ctypes.c_ubyte * (at - end)))
        name = member.name or f"_nameless_{len(fields)}"
        fields.append((name, ctypes_of(btf, member.type)))
        if not member.name:
            nameless.append(name)
            for promoted, first, bits, kind in _bits_inside(btf, inner, member.offset):
                body[promoted] = _bit_property(promoted, first, bits, kind)
        end = at + btf.size(member.type)
    if union:
        fields.append(("_size_", ctypes.c_ubyte * size))
    elif size > end:
        fields.append((f"_pad_{end}", ctypes.c_ubyte * (size - end)))
    if nameless:
        body["_anonymous_"] = nameless
    body["_fields_"] = fields
    try:
        return type(btf.name(number) or "nameless", (ctypes.Union if union else ctypes.Structure,), body)
    except (TypeError, AttributeError, UnicodeError) as error:      # names that Python keeps for itself
        raise ValueError(f"{words(btf, number)} cannot be a ctypes type: {error}") from None


def _bits_inside(btf: Btf, number: int, start: int) -> list[tuple[str, int, int, str]]:
    """Bit fields of a nameless struct, and of those inside it."""
    found = []
    for member in btf.members(number):
        inner = bare(btf, member.type)
        place = bits_of(btf, member, inner)
        if place and member.name:
            found.append((member.name, start + place[0], *place[1:]))
        elif not member.name and not place and btf.kind(inner) in (Kind.STRUCT, Kind.UNION):
            found += _bits_inside(btf, inner, start + member.offset)
    return found


def _bit_property(name: str, first: int, bits: int, kind: str) -> property:
    def get(self: Any) -> int:
        return get_bits(memoryview(self).cast("B"), first, bits, kind)

    def put(self: Any, value: int) -> None:
        set_bits(memoryview(self).cast("B"), first, bits, kind, value, name)

    return property(get, put, doc=f"Bit field of {bits} bits.")


# ---------------------------------------------------------------- dataclasses

class Codec(NamedTuple):
    """How a value is read from bytes at an offset, and written there."""

    size: int
    get: Callable[[Any, int], Any]
    put: Callable[[Any, int, Any], None]
    default: Callable[[], Any]
    hint: Any


def dataclass_of(btf: Btf, number: int) -> Any:
    number = bare(btf, number)
    if btf.kind(number) not in (Kind.STRUCT, Kind.UNION):
        raise ValueError(f"type {number} ({words(btf, number)}) is no struct")
    return _class_of(btf, number)


def _class_of(btf: Btf, number: int) -> Any:
    made = btf._classes()
    if (number, "dataclass") not in made:
        make = _make_union if btf.kind(number) == Kind.UNION else _make_dataclass
        made[number, "dataclass"] = make(btf, number)
    return made[number, "dataclass"]


def _codec(btf: Btf, number: int) -> Codec:
    number = bare(btf, number)
    kind = btf.kind(number)
    if kind == Kind.ARRAY:
        return _array_codec(btf, number)
    if kind in (Kind.STRUCT, Kind.UNION):
        return _struct_codec(btf, number)
    dtype = btf.dtype(number)
    if kind == Kind.INT and dtype.itemsize == 16 or kind == Kind.FLOAT and dtype.char not in "efd":
        return _wide_codec(dtype.itemsize)
    packer = struct.Struct("=" + {"b": "?", "i": "bhiq", "u": "BHIQ", "f": " efd"}[dtype.kind][
        (0 if dtype.kind == "b" else dtype.itemsize.bit_length() - 1)])
    names = enum_of(btf, number) if kind in (Kind.ENUM, Kind.ENUM64) else None
    known = {member.value: member for member in names} if names else {}

    def get(data: Any, at: int) -> Any:
        value, = packer.unpack_from(data, at)
        return known.get(value, value)

    def put(data: Any, at: int, value: Any) -> None:
        if dtype.kind == "b" and (isinstance(value, (str, bytes)) or value not in (False, True)):
            raise ValueError("it is a bool")
        packer.pack_into(data, at, value)

    return Codec(dtype.itemsize, get, put, lambda: known.get(0, {"b": False, "f": 0.0}.get(dtype.kind, 0)),
                 names or {"b": bool, "f": float}.get(dtype.kind, int))


def _wide_codec(size: int) -> Codec:
    def put(data: Any, at: int, value: int) -> None:
        data[at:at + size] = value.to_bytes(size, sys.byteorder, signed=value < 0)

    return Codec(size, lambda data, at: int.from_bytes(data[at:at + size], sys.byteorder), put, int, int)


def _array_codec(btf: Btf, number: int) -> Codec:
    size, element = btf.size(number), btf.target(number)
    if is_char(btf, bare(btf, element)):
        def put_text(data: Any, at: int, value: bytes | str) -> None:
            raw = value.encode() if isinstance(value, str) else bytes(memoryview(value))     # of a number bytes() makes so many zeros
            if len(raw) > size:
                raise ValueError(f"{len(raw)} bytes in {size}")
            data[at:at + size] = raw.ljust(size, b"\0")

        return Codec(size, lambda data, at: bytes(data[at:at + size]).rstrip(b"\0"), put_text, bytes, bytes)
    one = _codec(btf, element)
    count = size // one.size if one.size else 0

    def put(data: Any, at: int, values: Any) -> None:
        if len(values) != count:
            raise ValueError(f"{len(values)} elements, there are {count}")
        for i, value in enumerate(values):
            one.put(data, at + i * one.size, value)

    return Codec(size, lambda data, at: [one.get(data, at + i * one.size) for i in range(count)], put,
                 lambda: [one.default() for _ in range(count)], list)


def _struct_codec(btf: Btf, number: int) -> Codec:
    made, size = _class_of(btf, number), btf.size(number)

    def put(data: Any, at: int, value: Any) -> None:
        if not isinstance(value, made):
            raise TypeError(f"a {made.__name__} is wanted, not {type(value).__name__}")
        data[at:at + size] = value.to_bytes()

    return Codec(size, lambda data, at: made.from_bytes(data[at:at + size]), put, made, made)


def _bit_codec(first: int, bits: int, kind: str, name: str) -> Codec:
    def put(data: Any, at: int, value: int) -> None:
        set_bits(data, first + 8 * at, bits, kind, value, name)

    return Codec(0, lambda data, at: get_bits(data, first + 8 * at, bits, kind), put, bool if kind == "b" else int,
                 bool if kind == "b" else int)


def _member_codecs(btf: Btf, number: int) -> tuple[dict[str, tuple[int, Codec]], dict[str, str]]:
    """Name -> offset and codec of each member; and of what is in nameless ones, which member it is in."""
    found: dict[str, tuple[int, Codec]] = {}
    promoted: dict[str, str] = {}
    for member in btf.members(number):
        inner = bare(btf, member.type)
        place = bits_of(btf, member, inner)
        name = identifier(member.name)
        if name and not name.isidentifier():
            raise ValueError(f"{words(btf, number)} cannot be a dataclass: {name!r} is no name in Python")
        if place:
            if name:
                found[name] = 0, _bit_codec(*place, name)
        elif name:
            found[name] = member.offset // 8, _codec(btf, member.type)
        elif btf.kind(inner) in (Kind.STRUCT, Kind.UNION):
            name = f"nameless_{len(found)}"
            found[name] = member.offset // 8, _codec(btf, member.type)
            inside, deeper = _member_codecs(btf, inner)
            promoted.update(dict.fromkeys((*inside, *deeper), name))
    return found, promoted


def _promoted_property(inside: str, name: str) -> property:
    return property(lambda self: getattr(getattr(self, inside), name),
                    lambda self, value: setattr(getattr(self, inside), name, value), doc=f"Of {inside}.")


def _check_size(cls: type, data: Any, size: int) -> bytes:
    raw = bytes(memoryview(data))
    if len(raw) != size:
        raise ValueError(f"a {cls.__name__} has {size} bytes, not {len(raw)}")
    return raw


def _put_member(codec: Codec, data: bytearray, at: int, value: Any, owner: str, name: str) -> None:
    try:
        codec.put(data, at, value)
    except (struct.error, OverflowError, ValueError, TypeError, AttributeError) as error:
        wrong = TypeError if isinstance(error, (TypeError, AttributeError)) else ValueError
        raise wrong(f"{owner}.{name} cannot be {value!r}: {error}") from None


def _make_dataclass(btf: Btf, number: int) -> Any:
    size, title = btf.size(number), identifier(btf.name(number) or "nameless")
    codecs, promoted = _member_codecs(btf, number)

    @classmethod  # type: ignore[misc]
    def from_bytes(cls: Any, data: Any) -> Any:
        """Make one of bytes, of exactly its size."""
        raw = _check_size(cls, data, size)
        made = object.__new__(cls)
        for name, (at, codec) in codecs.items():
            setattr(made, name, codec.get(raw, at))
        return made

    def to_bytes(self: Any) -> bytes:
        """Return the struct as it is in memory, with zeros between its members."""
        data = bytearray(size)
        for name, (at, codec) in codecs.items():
            _put_member(codec, data, at, getattr(self, name), title, name)
        return bytes(data)

    body: dict[str, Any] = {name: _promoted_property(inside, name) for name, inside in promoted.items() if name not in codecs}
    body |= {"from_bytes": from_bytes, "to_bytes": to_bytes, "__doc__": f"{words(btf, number)}, {size} bytes."}
    fields = [(name, codec.hint, dataclasses.field(default_factory=codec.default)) for name, (_, codec) in codecs.items()]
    return dataclasses.make_dataclass(title, fields, namespace={k: v for k, v in body.items() if k not in codecs})


def _make_union(btf: Btf, number: int) -> Any:
    """One field, the bytes; and a property for each member, which reads or changes them."""
    size, title = btf.size(number), identifier(btf.name(number) or "nameless")
    codecs, promoted = _member_codecs(btf, number)

    def view(name: str, at: int, codec: Codec) -> property:
        def put(self: Any, value: Any) -> None:
            data = bytearray(self.raw)
            _put_member(codec, data, at, value, title, name)
            self.raw = bytes(data)

        return property(lambda self: codec.get(self.raw, at), put, doc="A member.")

    @classmethod  # type: ignore[misc]
    def from_bytes(cls: Any, data: Any) -> Any:
        """Make one of bytes, of exactly its size."""
        return cls(_check_size(cls, data, size))

    def to_bytes(self: Any) -> bytes:
        """Return the union as it is in memory."""
        return _check_size(type(self), self.raw, size)

    body: dict[str, Any] = {name: view(name, at, codec) for name, (at, codec) in codecs.items()}
    for name, inside in promoted.items():
        at, codec = codecs[inside]
        body.setdefault(name, _copied_property(view(inside, at, codec), name))
    body |= {"from_bytes": from_bytes, "to_bytes": to_bytes, "__doc__": f"{words(btf, number)}, {size} bytes."}
    return dataclasses.make_dataclass(title, [("raw", bytes, dataclasses.field(default=bytes(size)))], namespace=body)


def _copied_property(whole: property, name: str) -> property:
    """A member of a nameless struct in a union: that is read, changed and written back."""
    def put(self: Any, value: Any) -> None:
        inner = whole.fget(self)  # type: ignore[misc]
        setattr(inner, name, value)
        whole.fset(self, inner)  # type: ignore[misc]

    return property(lambda self: getattr(whole.fget(self), name), put, doc="A member of a nameless struct.")  # type: ignore[misc]
