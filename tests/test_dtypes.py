"""Types as numpy dtypes: against a C compiler, and what has no place in numpy."""
from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layouts
import pylbpf
from objects import SOURCES
from pylbpf import bit_field, set_bit_field

STRUCTS = ("struct event", "struct bits", "struct packed", "union number", "struct flexible", "struct holder",
           "struct arrays", "struct tree", "struct empty")


@pytest.fixture(scope="module")
def btf(bpf_objects):
    with pylbpf.open(bpf_objects["types"]) as obj:
        return pylbpf.Btf.from_bytes(obj.btf.tobytes())


def plain_fields(dtype, path=()):
    """(members, offset, size) of every field that C can name."""
    for name in dtype.names or ():
        if "@" not in name:
            field, offset = dtype.fields[name][:2]
            yield (*path, name), offset, field.itemsize
            for members, inner, size in plain_fields(field, (*path, name)):
                yield members, offset + inner, size


def bits_of(dtype):
    return (dtype.metadata or {}).get("bits", {})


def test_layout_is_that_of_the_c_compiler(btf, tmp_path):
    header = (SOURCES / "types.h").read_text()
    questions, answers = [], []
    for name in STRUCTS:
        dtype = btf.dtype(name)
        questions.append(f"sizeof({name})")
        answers.append(dtype.itemsize)
        if name != "struct holder":     # its attribute is not in BTF
            questions.append(f"_Alignof({name})")
            answers.append(btf.alignment(name))
        for members, offset, size in plain_fields(dtype):
            questions.append(f"offsetof({name}, {'.'.join(members)})")
            answers.append(offset)
            if size:        # a flexible array has no sizeof
                questions.append(f"sizeof((({name} *)0)->{'.'.join(members)})")
                answers.append(size)
    assert len(questions) > 120
    given = layouts.ask(header, questions, tmp_path)
    assert [(q, a) for q, a in zip(questions, answers)] == list(zip(questions, given))


def test_bit_fields_are_where_the_c_compiler_has_them(btf, tmp_path):
    header = (SOURCES / "types.h").read_text() + "\nstatic unsigned char byte(void *at, int n) { return ((unsigned char *)at)[n]; }"
    questions, answers = [], []
    for name in STRUCTS:
        dtype = btf.dtype(name)
        for member, (_, _, bits, kind) in bits_of(dtype).items():
            value = np.zeros((), dtype)
            value_of = -1 if kind == "i" else 1 if kind == "b" else (1 << bits) - 1
            set_bit_field(value, member, value_of)
            for i, byte in enumerate(value.tobytes()):
                questions.append(f"({{ {name} v; memset(&v, 0, sizeof(v)); v.{member} = {value_of}; byte(&v, {i}); }})")
                answers.append(byte)
    assert len(questions) > 150
    assert answers == layouts.ask(header, questions, tmp_path)


def test_kinds_of_members(btf):
    event = btf.dtype("event")
    assert event.names == ("when", "pid", "delta", "flags", "ok", "comm", "raw", "color", "version", "ratio", "share",
                           "tiny", "next")
    assert {name: event[name].str for name in ("when", "delta", "ok", "comm", "ratio", "share", "tiny", "next")} == {
        "when": "<u8", "delta": "<i2", "ok": "|b1", "comm": "|S16", "ratio": "<f8", "share": "<f4", "tiny": "|i1",
        "next": "<u8"} or sys.byteorder == "big"
    assert event["raw"].subdtype == (np.dtype("u1"), (4,)) and event["version"].names == ("major", "minor")


def test_enums_keep_their_names(btf):
    assert btf.dtype("color").metadata["enum"] == {"RED": 0, "GREEN": 5, "BLUE": 6}
    assert btf.dtype("event")["color"].metadata["enum"] == btf.enumerators("enum color")
    assert btf.dtype("enum negative").kind == "i" and btf.enumerators("negative") == {"MINUS": -3, "PLUS": 3}
    assert btf.dtype("big").itemsize == 8 and btf.enumerators("big")["HUGE"] == 0x123456789ABCDEF


def test_members_of_nameless_structs_are_members_of_the_struct_around(btf):
    holder = btf.dtype("holder")
    assert {name: holder.fields[name][1] for name in ("x", "y", "z")} == {"x": 0, "y": 0, "z": 2}
    assert set(bits_of(holder)) == {"f", "g"} and holder["named"].names == ("inner",)
    assert holder["numbers"].shape == (2,) and holder["huge"].shape == (2,) and holder.itemsize % 32 == 0
    value = np.zeros((), holder)
    value["y"] = 0x1234
    value["z"] = 0x5678
    assert value["x"] == 0x56781234 and bit_field(value, "f") == 0x34


def test_arrays_have_all_their_dimensions(btf):
    arrays = btf.dtype("arrays")
    assert arrays["grid"].shape == (3, 4) and arrays["grid"].base == np.dtype("i4")
    assert arrays["names"].shape == (5,) and arrays["names"].base == np.dtype("S8")
    assert arrays["one"] == np.dtype("S1") and arrays["versions"].shape == (2, 2)
    assert arrays["pointers"].subdtype == (np.dtype("u8"), (3,)) and arrays["none"].shape == (0,)
    assert arrays["flags"].base == np.dtype(bool) and arrays["colors"].base.metadata["enum"]["BLUE"] == 6
    table = np.zeros(2, arrays)
    table["grid"][1, 2, 3] = 7
    table["names"][0, 4] = b"last"
    assert np.frombuffer(table.tobytes(), arrays)["grid"].sum() == 7


def test_flexible_arrays_have_no_elements(btf):
    flexible = btf.dtype("flexible")
    assert flexible.itemsize == 4 and flexible["items"].shape == (0,) and flexible["items"].base.names == ("key", "name")


def test_sections_are_structs_of_their_variables(bpf_objects):
    with pylbpf.open(bpf_objects["globals"]) as obj:
        data = obj.btf.dtype(".rodata.tables")
        assert data.names == ("tables",) and data["tables"].shape == (2,) and data.itemsize == 16
        assert set(obj.btf.dtype(".bss").names) == {"runs", "sum"}


def test_the_same_type_gives_the_same_dtype(btf, bpf_objects):
    assert btf.dtype("event") is btf.dtype("struct event") is btf.dtype(btf.number("event"))
    assert btf.dtype("version_t") is btf.dtype("event")["version"]
    with pylbpf.open(bpf_objects["types"]) as obj:
        assert obj.btf.dtype("event") is obj.btf.dtype("event")


def test_what_has_no_values_says_so(btf):
    for name, words in (("touch", "no type"), ("outside", "only declared"), ("struct outside", "only declared")):
        with pytest.raises((ValueError, KeyError), match=words):
            btf.dtype(name)
    with pytest.raises(ValueError, match="has no values"):
        btf.dtype(0)
    with pytest.raises(ValueError, match="has no values"):
        btf.dtype(btf.find("touch"))
    with pytest.raises(KeyError, match="'evnt'; did you mean 'event'"):
        btf.dtype("evnt")
    for wrong, error in ((None, TypeError), (2.5, TypeError), (True, TypeError), (-1, IndexError), (1 << 20, IndexError),
                         ("", ValueError), ("a\0b", ValueError), ("union event", KeyError)):
        with pytest.raises(error):
            btf.dtype(wrong)


def test_dtype_outlives_its_types(bpf_objects):
    obj = pylbpf.open(bpf_objects["types"])
    btf, dtype = obj.btf, obj.btf.dtype("event")
    obj.close()
    assert np.zeros(3, dtype)["version"]["major"].shape == (3,)
    with pytest.raises(ValueError, match="closed"):
        btf.dtype("event")


def test_resized_data_has_another_dtype(bpf_objects):
    """libbpf adds a type for the longer array: what was made before is not what it is."""
    with pylbpf.open(bpf_objects["globals"]) as obj:
        before = obj.btf.dtype(".rodata.tables")
        if pylbpf.libbpf_version() < (1, 3):
            pytest.skip("libbpf >= 1.3: to resize data")
        obj.maps[".rodata.tables"].value_size = 8 * 5
        after = obj.btf.dtype(".rodata.tables")
        assert before["tables"].shape == (2,) and after["tables"].shape == (5,) and after.itemsize == 40


# ---------------------------------------------------------------- bit fields

def test_bit_field_of_arrays_and_of_elements(btf):
    bits = btf.dtype("bits")
    table = np.zeros((2, 3), bits)
    set_bit_field(table, "negative", [[-16, -1, 0], [1, 15, 3]])
    set_bit_field(table, "yes", True)
    set_bit_field(table[1, 2], "wide", (1 << 40) - 1)
    assert bit_field(table, "negative").tolist() == [[-16, -1, 0], [1, 15, 3]]
    assert bit_field(table, "yes").all() and bit_field(table, "yes").dtype == bool
    assert bit_field(table[1, 2], "wide") == (1 << 40) - 1 and bit_field(table, "wide").sum() == (1 << 40) - 1
    assert not table["after"].any() and not bit_field(table, "rest").any()


def test_bit_field_refuses_what_does_not_fit(btf):
    value = np.zeros(2, btf.dtype("bits"))
    for name, wrong in (("low", 8), ("low", -1), ("negative", 16), ("negative", -17), ("low", [1, 8]), ("yes", 2)):
        with pytest.raises(ValueError, match=f"'{name}' has"):
            set_bit_field(value, name, wrong)
    with pytest.raises(TypeError, match="takes integers"):
        set_bit_field(value, "low", 1.5)
    for call in (lambda: bit_field(value, "after"), lambda: set_bit_field(value, "nothing", 1), lambda: bit_field([], "low")):
        with pytest.raises(KeyError, match="no bit field"):
            call()
    assert not value.tobytes().strip(b"\0")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_bit_fields_do_not_touch_each_other(btf, data):
    dtype = btf.dtype(data.draw(st.sampled_from(["bits", "packed"])))
    value = np.frombuffer(data.draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize)), dtype).copy()
    model = {name: bit_field(value, name)[0] for name in bits_of(dtype)}
    name = data.draw(st.sampled_from(sorted(model)))
    bits, kind = bits_of(dtype)[name][2:]
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind == "i" else (0, (1 << bits) - 1)
    model[name] = data.draw(st.integers(least, most))
    plain = {field: value[field].copy() for field in dtype.names if "@" not in field}
    set_bit_field(value, name, model[name])
    assert {name: bit_field(value, name)[0] for name in model} == model
    assert all((value[field] == plain[field]).all() for field in plain)


# ---------------------------------------------------------------- the kernel's

@pytest.fixture(scope="module")
def kernel():
    try:
        return pylbpf.Btf.kernel()
    except pylbpf.BpfError as error:
        pytest.skip(f"vmlinux BTF: {error}")


def test_every_struct_of_the_kernel_becomes_a_dtype(kernel):
    made = 0
    for number in kernel:
        if kernel.kind(number) in (pylbpf.BtfKind.STRUCT, pylbpf.BtfKind.UNION):
            assert kernel.dtype(number).itemsize == kernel.size(number)
            made += 1
    assert made > 1000


def test_task_struct(kernel):
    task = kernel.dtype("task_struct")
    assert task["comm"] == np.dtype("S16") and task["pid"] == np.dtype("i4") and len(task.names) > 150
    assert task["tasks"].names == ("next", "prev") and task is kernel.dtype("struct task_struct")


def raw_structs(data):
    """Name -> size and (member, first bit, bits) of every struct in raw BTF, read by nobody's code but this."""
    _, _, _, header, types, length, texts, _ = struct.unpack_from("=HBBIIIII", data)
    name = lambda at: data[(at := header + texts + at):data.index(b"\0", at)].decode()  # noqa: E731
    sizes = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0), 19: (0, 12)}
    at, end, found = header + types, header + types + length, {}
    while at < end:
        text, info, size = struct.unpack_from("=III", data, at)
        kind, count, flag = info >> 24 & 31, info & 0xFFFF, info >> 31
        if kind == 4 and text:
            members = [struct.unpack_from("=III", data, at + 12 + 12 * i) for i in range(count)]
            members = [(name(m), place & 0xFFFFFF if flag else place, place >> 24 if flag else 0)
                       for m, _, place in members]
            found.setdefault(name(text), (size, members))     # the first of several with one name
        fixed, each = sizes.get(kind, (0, 0))
        at += 12 + fixed + each * count
    return found


def test_kernel_structs_are_as_another_reader_finds_them(kernel):
    compared = 0
    for name, (size, members) in raw_structs(kernel.tobytes()).items():
        try:
            dtype = kernel.dtype(f"struct {name}")
        except ValueError:
            continue
        if dtype.itemsize != size:
            continue        # another struct of the same name
        plain = {member: first // 8 for member, first, bits in members if member and not bits}
        assert {member: dtype.fields[member][1] for member in plain} == plain, name
        compared += 1
        if compared == 2000:
            break
    assert compared >= 200
