"""The types of an object."""
from __future__ import annotations

import gc
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pylbpf

INT, STRUCT, FUNC, DATASEC, VOID = 1, 4, 12, 15, 0


@pytest.fixture
def obj(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        yield obj


@pytest.fixture
def btf(obj):
    return obj.btf


def test_types_are_found_by_name(btf):
    number = btf.find("value")
    assert 1 <= number <= len(btf)
    assert btf.name(number) == "value" and btf.kind(number) == STRUCT and btf.size(number) == 32
    assert btf.kind(btf.find("user")) == FUNC
    assert btf.size(btf.find("lpm_key")) == 8
    assert repr(btf) == f"<Btf of maps.bpf.o: {len(btf)} types>"


def test_every_number_has_a_name_and_a_kind(btf):
    named = 0
    for number in range(1, len(btf) + 1):
        assert isinstance(btf.name(number), str) and 1 <= btf.kind(number) <= 30
        named += bool(btf.name(number))
    assert named > 10
    assert btf.kind(0) == VOID and btf.name(0) in ("", "void")


def test_unknown_names_and_numbers(btf):
    with pytest.raises(KeyError, match="there_is_no_such"):
        btf.find("there_is_no_such")
    for number in (len(btf) + 1, 1 << 31, (1 << 32) - 1, -1, 1 << 32, 1 << 80, -1 << 80, np.int64(-1)):
        for ask in (btf.name, btf.kind, btf.size):
            with pytest.raises(IndexError, match=f"type {number} of"):
                ask(number)
    for number in (np.uint8(1), np.int64(1)):
        assert btf.name(number) == btf.name(1) and btf.kind(number) == btf.kind(1) and btf.number(number) == 1
    for wrong in ("", "a\0b"):
        with pytest.raises(ValueError):
            btf.find(wrong)
    for wrong in (5, None, b"value"):
        with pytest.raises(TypeError):
            btf.find(wrong)
    with pytest.raises(TypeError):
        btf.name("value")


def test_what_has_no_size_says_so(btf):
    with pytest.raises(pylbpf.BpfError):
        btf.size(btf.find("user"))
    with pytest.raises(pylbpf.BpfError):
        btf.size(0)


def test_strings_by_offset(btf):
    assert btf.string(0) == ""
    with pytest.raises(IndexError):
        btf.string(1 << 31)


def test_raw_data_is_a_copy_of_the_section(btf):
    data = btf.tobytes()
    magic, version, _, header, _, types, strings, length = struct.unpack_from("=HBBIIIII", data)
    assert (magic, version) == (0xEB9F, 1) and header + strings + length == len(data) and types > 0
    assert data == btf.tobytes() and b"\0lpm_key\0" in data


def test_btf_keeps_its_object(bpf_object):
    obj = pylbpf.open(bpf_object("maps"))
    btf = obj.btf
    data = btf.tobytes()
    del obj
    gc.collect()
    assert btf.tobytes() == data and btf.size(btf.find("value")) == 32


def test_btf_of_a_closed_object_is_a_value_error(bpf_object):
    obj = pylbpf.open(bpf_object("maps"))
    btf = obj.btf
    obj.close()
    for use in (btf.tobytes, lambda: len(btf), lambda: btf.find("value"), lambda: btf.name(1), lambda: btf.kind(1),
                lambda: btf.size(1), lambda: btf.string(0)):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert "closed" in repr(btf)


@pytest.mark.bpf
def test_btf_stays_after_load_and_after_a_failed_one(bpf_object):
    with pylbpf.open(bpf_object("rejected")) as obj:
        btf = obj.btf
        before = len(btf)
        with pytest.raises(pylbpf.VerifierError):
            obj.load()
        assert len(btf) == before and btf.kind(btf.find("careless")) == FUNC
        assert obj.btf.tobytes() == btf.tobytes()


def test_object_without_btf_has_none(bpf_object, tmp_path):
    """Its section renamed, as a stripping tool would take it away."""
    path = strip_btf(bpf_object("isa"), tmp_path)
    try:
        obj = pylbpf.open(path)
    except pylbpf.BpfError:
        pytest.fail("an object needs BTF only for its maps")
    with obj:
        assert obj.btf is None


def strip_btf(path, folder):
    import objects
    text = 'int __attribute__((section("socket"), used)) alone(void *ctx) { return 0; }\n' \
           'char _license[] __attribute__((section("license"), used)) = "GPL";\n'
    data = bytearray(objects.build(text, "no_btf").read_bytes())
    for name in (b"\0.BTF\0", b"\0.BTF.ext\0", b".rel.BTF\0", b".rel.BTF.ext\0"):
        at = data.find(name)
        if at >= 0:
            data[at:at + len(name)] = name.replace(b"BTF", b"xxx")
    output = folder / "no_btf.bpf.o"
    output.write_bytes(data)
    return output


# ---------------------------------------------------------------- from elsewhere

@pytest.fixture(scope="module")
def kernel():
    try:
        return pylbpf.Btf.kernel()
    except pylbpf.BpfError as error:
        pytest.skip(f"vmlinux BTF: {error}")


def test_kernel_is_read_once(kernel):
    assert pylbpf.Btf.kernel() is kernel and kernel.base is None and len(kernel) > 10000
    assert kernel.size("task_struct") > 1000 and kernel.alignment("list_head") == 8
    assert repr(kernel) == f"<Btf of the kernel: {len(kernel)} types>"


def test_kernel_is_the_file_too(kernel):
    path = "/sys/kernel/btf/vmlinux"
    assert Path(path).read_bytes() == kernel.tobytes()
    assert len(pylbpf.Btf.parse(path)) == len(kernel)


def test_modules_are_on_top_of_the_kernel(kernel):
    names = sorted(set(os.listdir("/sys/kernel/btf")) - {"vmlinux"})
    if not names:
        pytest.skip("module BTF: no module that has some is loaded")
    module = pylbpf.Btf.module(names[0])
    assert module.base is kernel and next(iter(module)) == len(kernel) + 1 and module.size("task_struct") > 1000
    again = pylbpf.Btf.parse(f"/sys/kernel/btf/{names[0]}", base=kernel)
    assert again.tobytes() == module.tobytes()


def test_unknown_modules(kernel):
    with pytest.raises(FileNotFoundError, match="module there_is_none"):
        pylbpf.Btf.module("there_is_none")
    for wrong in ("../vmlinux", "a" * 64, "", "a\0b"):
        with pytest.raises(ValueError):
            pylbpf.Btf.module(wrong)


@pytest.mark.bpf
def test_types_in_the_kernel_by_number(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        number = next(map.info().btf_id for map in obj.maps.values() if map.info().btf_id)
        found = pylbpf.Btf.from_id(number)
        assert found.size("lpm_key") == 8 and found.kind(found.find("value")) == STRUCT
        assert repr(found) == f"<Btf of BTF {number}: {len(found)} types>"
    with pytest.raises(FileNotFoundError):
        pylbpf.Btf.from_id((1 << 32) - 1)
    for wrong, error in ((-1, ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error):
            pylbpf.Btf.from_id(wrong)


def test_file_of_an_object_and_copy_of_its_types(bpf_object):
    parsed = pylbpf.Btf.parse(bpf_object("maps"))
    with pylbpf.open(bpf_object("maps")) as obj:
        copy = pylbpf.Btf.from_bytes(obj.btf.tobytes())
    assert parsed.number("value") == copy.number("value") and copy.size("struct value") == 32
    assert copy.base is None and parsed.find("value") == parsed.number("value")


def test_files_without_types(tmp_path, bpf_object):
    for content in (b"", b"\x7f", b"\x7fELF", b"\x7fELF\2\1" + bytes(58), b"\x7fELF\x09\1" + bytes(58), b"hello" * 20):
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(pylbpf.LibbpfError):
            pylbpf.Btf.parse(path)
    with pytest.raises(FileNotFoundError):
        pylbpf.Btf.parse(tmp_path / "none")
    with pytest.raises((pylbpf.LibbpfError, IsADirectoryError)):
        pylbpf.Btf.parse(tmp_path)
    with pytest.raises(pylbpf.LibbpfError, match="no section .BTF"):
        pylbpf.Btf.parse(strip_btf(bpf_object("isa"), tmp_path))


def test_types_by_name_and_kind(btf):
    kinds = pylbpf.BtfKind
    assert btf.find("value", kinds.STRUCT) == btf.number("struct value")
    with pytest.raises(KeyError):
        btf.find("value", kinds.UNION)
    assert "value" in btf.names() and "user" not in btf.names() and "user" in btf.names(kinds.FUNC)
    assert ".maps" in btf.names(kinds.DATASEC) and list(btf) == list(range(1, len(btf) + 1))


def test_members_and_targets(btf):
    members = btf.members("value")
    assert [member.name for member in members] and members[0].offset == 0 and members[0].bits == 0
    assert "Member(name=" in repr(members[0])
    assert btf.kind(btf.target(btf.find("user"))) == pylbpf.BtfKind.FUNC_PROTO
    assert {member.name for member in btf.members(".maps")} >= {"hash"} or btf.members(".maps")
    for wrong in (btf.find("user"), 0):
        with pytest.raises(ValueError, match="has no members"):
            btf.members(wrong)
    with pytest.raises(ValueError, match="refers to no other type"):
        btf.target("value")
    with pytest.raises(ValueError, match="is no enum"):
        btf.enumerators("value")
    with pytest.raises(ValueError, match="has no alignment"):
        btf.alignment(btf.find("user"))


def test_own_types_work_in_a_forked_child(bpf_object):
    copy = pylbpf.Btf.parse(bpf_object("maps"))
    child = os.fork()
    if child == 0:
        os._exit(0 if copy.size("value") == 32 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---------------------------------------------------------------- split

class Writer:
    """Makes raw BTF, right or wrong."""

    def __init__(self, strings=b"\0", first_string=0, order="="):
        self.types, self.strings, self.first, self.order = b"", strings, first_string, order

    def name(self, text):
        at = self.first + len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def add(self, kind, name=0, size=0, tail=(), vlen=0, flag=0):
        name = self.name(name) if isinstance(name, str) else name
        self.types += struct.pack(f"{self.order}{3 + len(tail)}I", name, flag << 31 | kind << 24 | vlen, size, *tail)
        return self

    def integer(self, name="int", size=4, encoding=1, bits=None):
        return self.add(1, name, size, (encoding << 24 | (8 * size if bits is None else bits),))

    def structure(self, name, size, *members):
        return self.add(4, name, size, [part for member in members for part in member], len(members))

    def array(self, element, count):
        return self.add(3, 0, 0, (element, 1, count))

    def data(self):
        return struct.pack(f"{self.order}HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types),
                           len(self.strings)) + self.types + self.strings


def test_split_types_refer_to_their_base():
    base = pylbpf.Btf.from_bytes(Writer().integer().data())
    more = Writer(b"", first_string=len(b"\0int\0"))
    more.add(4, "pair", 8, (more.name("left"), 1, 0, more.name("right"), 1, 32), 2)
    split = pylbpf.Btf.from_bytes(more.data(), base=base)
    assert split.base is base and list(split) == [2] and len(split) == 2 and split.name(1) == "int"
    assert [(m.name, m.type) for m in split.members("pair")] == [("left", 1), ("right", 1)]
    assert split.dtype("pair").itemsize == 8 and split.dtype("int") == base.dtype("int")
    del base
    gc.collect()
    assert split.name(1) == "int"
    with pytest.raises((ValueError, pylbpf.BpfError)):
        pylbpf.Btf.from_bytes(more.data())


def elf_of(**sections):
    """The smallest ELF file with these sections, whose names begin with a dot and have one for each underscore."""
    names, body, rows = b"\0", b"", []
    for name, content in (*sections.items(), ("_shstrtab", b"")):
        at = len(names)
        names += name.replace("_", ".").encode() + b"\0"
        content = content or names
        rows.append(struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, 64 + len(body), len(content), 0, 0, 1, 0))
        body += content
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 247, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(rows) + 1,
                       len(rows))
    return head + body + bytes(64) + b"".join(rows)


def test_a_module_that_brings_its_base_along(tmp_path):
    more = Writer(b"", first_string=len(b"\0int\0"))
    more.add(4, "pair", 8, (more.name("left"), 1, 0, more.name("right"), 1, 32), 2)
    path = tmp_path / "module.ko"
    path.write_bytes(elf_of(_BTF_base=Writer().integer().data(), _BTF=more.data()))
    types = pylbpf.Btf.parse(path)
    assert len(types.base) == 1 and "BTF.base" in repr(types.base) and types.name(1) == "int"
    assert types.dtype("pair").names == ("left", "right")
    with pytest.raises(ValueError, match="base of its own"):
        pylbpf.Btf.parse(path, base=types.base)
    path.write_bytes(elf_of(_BTF_base=b"nonsense", _BTF=more.data()))
    with pytest.raises((ValueError, pylbpf.LibbpfError), match="BTF.base"):
        pylbpf.Btf.parse(path)
    path.write_bytes(elf_of(_BTF_base=Writer().integer().data()))
    with pytest.raises(pylbpf.LibbpfError, match="no section .BTF"):
        pylbpf.Btf.parse(path)


def test_wrong_bases(bpf_object):
    with pytest.raises(TypeError, match="base must be a Btf"):
        pylbpf.Btf.from_bytes(Writer().integer().data(), base=5)
    with pylbpf.open(bpf_object("maps")) as obj, pytest.raises(ValueError, match="make a copy"):
        pylbpf.Btf.from_bytes(Writer(b"").data(), base=obj.btf)


def test_other_byte_order():
    order = ">" if struct.pack("=H", 1) == b"\1\0" else "<"
    btf = pylbpf.Btf.from_bytes(Writer(order=order).integer("number", 8).data())
    assert btf.size("number") == 8 and btf.dtype("number").itemsize == 8


def test_an_enum_may_be_only_declared():
    btf = pylbpf.Btf.from_bytes(Writer().add(6, "later", 0).add(2, "", 1).data())
    assert btf.size("later") == 0 and btf.c_decl("later") == "enum later;\n" and btf.dtype(2) == "u8"
    for made in (btf.dtype, btf.ctypes, btf.dataclass):
        with pytest.raises(ValueError, match="only declared|is no struct"):
            made("later")


# ---------------------------------------------------------------- damaged

def member(writer, name, type, offset):
    return writer.name(name), type, offset


def circles():
    yield Writer().structure("s", 8, (0, 1, 0)), "inside of itself"
    yield Writer().structure("s", 8, (0, 2, 0)).structure("t", 8, (0, 1, 0)), "inside of itself"
    yield Writer().array(1, 1), "inside of itself"
    yield Writer().add(8, "a", 2).add(8, "b", 1), "inside of itself"
    yield Writer().add(2, 0, 1), "declared by itself"
    yield Writer().add(2, 0, 2).add(13, 0, 1), "declared by itself"
    yield Writer().add(10, 0, 1), "inside of itself"


def wrong():
    yield from circles()
    yield Writer().integer(size=3, bits=24), "integer"
    yield Writer().integer(bits=99), "99 bits"
    yield Writer().add(6, "e", 3), "enum 1 .e. has 3 bytes"
    yield Writer().add(6, "e", 0).structure("s", 4, (0, 1, 0)), "of type 1, which is none of a value"
    yield Writer().add(16, "f", 0), "float"
    yield Writer().integer().structure("s", 4, (0, 1, 8)), "ends at bit 40"
    yield Writer().integer().structure("s", 4, (0, 9, 0)), "refers to type 9|invalid referenced type"
    yield Writer().structure("s", 4, (0, 0, 0)), "has no size"
    yield Writer().add(4, "s", 4, (999, 0, 0), 1), "name at byte 999|invalid (field|type) name"
    yield Writer().add(4, 999, 4), "name at byte 999|invalid (field|type) name"
    yield Writer().add(4, "s", 0).array(1, 1 << 31), "elements without size"
    yield Writer().integer().add(4, "s", 1 << 31, (0, 1, (1 << 32) - 64), 1), "nearly empty"
    yield Writer().integer().structure("s", 1 << 31, (0, 1, 0)), "nearly empty"
    for kind, tail in ((14, (0,)), (15, ()), (17, (0,))):    # what has a size but no alignment
        size = 4 if kind == 15 else 1
        yield Writer().integer().add(kind, "x", size, tail).structure("s", 16, (0, 1, 0), (0, 2, 64)), "none of a value"
        yield Writer().integer().add(kind, "x", size, tail).add(8, "t", 2).array(3, 2), "none of a value"
    for writer in (Writer().integer().add(13, 0, 1), Writer().integer().add(13, 0, 1).add(12, "f", 2, (), 1)):
        yield writer.structure("s", 16, (0, 1, 0), (0, 2, 64)), "has no size"
    chain = Writer()
    for i in range(2, 1000):
        chain.add(8, "t", i)
    yield chain.integer(), "one inside the other"
    chain = Writer().integer()
    for i in range(1, 1000):
        chain.add(2, 0, i)
    yield chain, "one inside the other"
    many = Writer().integer()
    for i in range(1, 12):
        many.structure(f"s{i}", 4, *[(0, i, 0)] * 20)
    yield many, "parts"


@pytest.mark.parametrize("number", range(len(list(wrong()))))
def test_damaged_types_are_refused_in_words(number):
    writer, words = list(wrong())[number]
    with pytest.raises((ValueError, pylbpf.BpfError)) as caught:
        pylbpf.Btf.from_bytes(writer.data())
    assert re.search(words, str(caught.value)), caught.value


def test_a_section_larger_than_any_number_of_its_size():
    btf = pylbpf.Btf.from_bytes(Writer().integer().add(14, "x", 1, (1,)).add(15, ".data", 0, (2, (1 << 32) - 1, 4), 1).data())
    with pytest.raises(ValueError, match="cannot be a dtype"):
        btf.dtype(".data")


def test_legal_circles_pass():
    """A struct with pointers to itself, straight, in a prototype and through a typedef."""
    writer = Writer().integer()
    writer.structure("node", 24, (0, 3, 0), (0, 4, 64), (0, 6, 128)).add(2, 0, 2)
    writer.add(2, 0, 5).add(13, 0, 1, (0, 3), 1).add(2, 0, 7).add(8, "node_t", 2)
    btf = pylbpf.Btf.from_bytes(writer.data())
    assert btf.dtype("node_t").itemsize == 24


@pytest.mark.parametrize("change", [
    lambda d: d[:20], lambda d: d[:30], lambda d: d[:-1], lambda d: b"", lambda d: d[:4] + bytes(4) + d[8:],
    lambda d: d[:4] + struct.pack("=I", 26) + d[8:], lambda d: d[:12] + b"\xff\xff\xff\xff" + d[16:],
    lambda d: d[:8] + b"\1\0\0\0" + d[12:], lambda d: d[:20] + bytes(4) + d[24:], lambda d: d[:-1] + b"x",
    lambda d: d[:28] + b"\0\0\0\x1f" + d[32:], lambda d: d[:28] + b"\xff\xff\0\x04" + d[32:],
])
def test_damaged_headers_are_refused(change):
    with pytest.raises((ValueError, pylbpf.BpfError)):
        pylbpf.Btf.from_bytes(change(Writer().integer().structure("s", 4, (0, 1, 0)).data()))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_crash(bpf_objects, data):
    raw = bytearray(raw_types(bpf_objects))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[:data.draw(st.integers(len(raw) - 40, len(raw)))] if data.draw(st.booleans()) else raw
    try:
        btf = pylbpf.Btf.from_bytes(raw)
    except (ValueError, pylbpf.BpfError):
        return
    use_everything(btf)


def use_everything(btf):
    for number in btf:
        btf.name(number), btf.kind(number)
        for ask in (btf.size, btf.alignment, btf.members, btf.enumerators, btf.target, btf.dtype):
            try:
                ask(number)
            except (ValueError, pylbpf.BpfError):
                pass


def raw_types(bpf_objects, kept={}):
    if not kept:
        with pylbpf.open(bpf_objects["types"]) as obj:
            kept["raw"] = obj.btf.tobytes()
    return kept["raw"]
