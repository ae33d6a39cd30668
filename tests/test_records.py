"""Types as ctypes and dataclasses."""
from __future__ import annotations

import ctypes
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pylbpf
from test_btf import Writer
from test_dtypes import STRUCTS, bits_of, plain_fields
from pylbpf import bit_field

INSIDE = ("event", "bits", "packed", "number", "holder", "arrays", "tree")


@pytest.fixture(scope="module")
def btf(bpf_objects):
    with pylbpf.open(bpf_objects["types"]) as obj:
        return pylbpf.Btf.from_bytes(obj.btf.tobytes())


def place_of(structure, members):
    """Offset and size of a member of a member of a ctypes structure."""
    at = 0
    for name in members:
        field = getattr(structure, name)
        at += field.offset
        size = field.size
        structure = dict((f[0], f[1]) for f in all_fields(structure))[name]
    return at, size


def all_fields(structure):
    for field in structure._fields_:
        yield field
        if field[0] in getattr(structure, "_anonymous_", ()):
            yield from all_fields(field[1])


@pytest.mark.parametrize("name", STRUCTS)
def test_ctypes_have_the_layout_of_the_dtype(btf, name):
    structure, dtype = btf.ctypes(name), btf.dtype(name)
    assert ctypes.sizeof(structure) == dtype.itemsize
    for members, offset, size in plain_fields(dtype):
        assert place_of(structure, members) == (offset, size), members


def test_ctypes_of_numbers(btf):
    for name, expected in (("int", ctypes.c_int32), ("enum big", ctypes.c_uint64), ("callback_t", ctypes.c_void_p),
                           ("_Bool", ctypes.c_bool), ("double", ctypes.c_double), ("__u16", ctypes.c_uint16)):
        assert btf.ctypes(name) is expected
    assert btf.ctypes("event") is btf.ctypes("struct event")
    event = btf.ctypes("event")(when=5, comm=b"init")
    assert event.when == 5 and event.comm == b"init" and bytes(event)[:8] == np.uint64(5).tobytes()
    assert btf.ctypes("version_t")(1, 2).minor == 2


@pytest.mark.parametrize("name", INSIDE)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_bit_fields_of_ctypes_are_those_of_numpy(btf, name, data):
    dtype = btf.dtype(name)
    raw = bytearray(data.draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize)))
    value, array = btf.ctypes(name).from_buffer(raw), np.frombuffer(raw, dtype)
    for member, (_, _, bits, kind) in bits_of(dtype).items():
        assert getattr(value, member) == bit_field(array, member)[0]
        new = data.draw(st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if kind == "i" else st.integers(0, (1 << bits) - 1))
        setattr(value, member, new)
        assert bit_field(array, member)[0] == new == getattr(value, member)
        with pytest.raises(ValueError, match=member):
            setattr(value, member, 1 << bits)
        with pytest.raises(TypeError):
            setattr(value, member, "1")


@pytest.mark.parametrize("name", INSIDE)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_dataclasses_go_round(btf, name, data):
    made = btf.dataclass(name)
    raw = data.draw(st.binary(min_size=btf.size(name), max_size=btf.size(name)))
    value = made.from_bytes(raw)
    again = made.from_bytes(value.to_bytes())
    assert repr(again) == repr(value)       # a float may be nan
    assert again.to_bytes() == value.to_bytes() and len(value.to_bytes()) == len(raw)
    # What has a name is as it was; what is between members is zero.
    for members, offset, size in plain_fields(btf.dtype(name)):
        part = btf.dtype(name)
        for member in members:
            part = part[member]
        if part.names is None and part.base.kind not in "bS":
            kept, given = (np.frombuffer(data[offset:offset + size], part.base) for data in (value.to_bytes(), raw))
            # Python's float makes a signalling NaN of 4 bytes a quiet one.
            same = (kept == given) | np.isnan(given) & np.isnan(kept) if part.base.kind == "f" else kept == given
            assert same.all(), members


def test_dataclass_has_python_values(btf):
    event = btf.dataclass("event")
    assert dataclasses.is_dataclass(event) and event.__name__ == "event" and "120 bytes" not in event.__doc__
    value = event(when=5, comm="init", ok=True, color=5, raw=[1, 2, 3, 4], ratio=0.5)
    again = event.from_bytes(value.to_bytes())
    assert (again.when, again.comm, again.ok, again.raw, again.ratio) == (5, b"init", True, [1, 2, 3, 4], 0.5)
    assert again.color.name == "GREEN" and again.version == btf.dataclass("version_t")() and again == event.from_bytes(value.to_bytes())
    assert event().to_bytes() == bytes(btf.size("event"))
    assert btf.dataclass("event") is event and {f.name for f in dataclasses.fields(event)} >= {"when", "pid", "version"}
    table = np.frombuffer(value.to_bytes(), btf.dtype("event"))
    assert table["when"][0] == 5 and table["comm"][0] == b"init"


def test_unions_and_nameless_members_of_dataclasses(btf):
    holder = btf.dataclass("holder")()
    holder.x = 0x11223344
    assert holder.x == 0x11223344 and holder.y in (0x3344, 0x1122) and holder.f == 0x44
    holder.g = 0
    holder.z = 0x0102
    assert holder.from_bytes(holder.to_bytes()).z == 0x0102
    holder.numbers[1].word = 7
    assert btf.dataclass("holder").from_bytes(holder.to_bytes()).numbers[1].word == 7
    number = btf.dataclass("number")()
    number.longer = 1 << 40
    assert number.to_bytes() == number.raw and number.second in (256, 0) and number.halves.lo == 0
    number.first = 3
    assert number.word == 3 or number.second == 3


def test_wrong_values_of_dataclasses(btf):
    event = btf.dataclass("event")
    for values, error in (({"pid": -1}, ValueError), ({"pid": 1 << 32}, ValueError), ({"pid": "x"}, ValueError),
                          ({"comm": "x" * 17}, ValueError), ({"raw": [1]}, ValueError), ({"raw": 5}, TypeError),
                          ({"version": 5}, TypeError), ({"comm": 1.5}, TypeError), ({"comm": 3}, TypeError)):
        with pytest.raises(error, match=f"event.{next(iter(values))} cannot be"):
            event(**values).to_bytes()
    for wrong in (b"", bytes(btf.size("event") + 1)):
        with pytest.raises(ValueError, match="event has .* bytes"):
            event.from_bytes(wrong)
    for name in ("int", "color", "callback_t"):
        with pytest.raises(ValueError, match="is no struct"):
            btf.dataclass(name)


def test_kernel_structs_go_round():
    try:
        kernel = pylbpf.Btf.kernel()
    except pylbpf.BpfError as error:
        pytest.skip(f"vmlinux BTF: {error}")
    made = 0
    for number in kernel:
        if kernel.kind(number) == pylbpf.BtfKind.STRUCT and kernel.name(number) and number % 100 == 0:
            assert ctypes.sizeof(kernel.ctypes(number)) == kernel.size(number)
            one = kernel.dataclass(number)
            assert one().to_bytes() == bytes(kernel.size(number))
            made += 1
    assert made > 50
    assert kernel.dataclass("task_struct")(pid=5).pid == 5


@pytest.mark.parametrize("kind", [4, 5])
def test_names_that_python_cannot_have(kind):
    for name in ("class", "to_bytes", "from_bytes", "__class__", "__init__", "__slots__", "__post_init__", "__doc__"):
        btf = pylbpf.Btf.from_bytes(one_member(kind, name))
        one = btf.dataclass("s").from_bytes(np.int32(5).tobytes())
        assert getattr(one, f"{name}_") == 5 and one.to_bytes() == np.int32(5).tobytes()
    for name in ("a-b", "1x", "a b"):
        btf = pylbpf.Btf.from_bytes(one_member(kind, name))
        with pytest.raises(ValueError, match=f"'{name}' is no name in Python"):
            btf.dataclass("s")
        assert btf.dtype("s").names[0] == name
    with pytest.raises(ValueError, match="cannot be a ctypes type"):
        pylbpf.Btf.from_bytes(one_member(kind, "_fields_")).ctypes("s")


def one_member(kind, name):
    writer = Writer().integer()
    return writer.add(kind, "s", 4, (writer.name(name), 1, 0), 1).data()
