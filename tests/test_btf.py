"""The types of an object."""
from __future__ import annotations

import gc
import struct

import pytest

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
    for number in (len(btf) + 1, 1 << 31, (1 << 32) - 1):
        for ask in (btf.name, btf.kind, btf.size):
            with pytest.raises(IndexError):
                ask(number)
    for number in (-1, 1 << 32, 1 << 80):
        with pytest.raises(OverflowError):
            btf.name(number)
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


def test_c83_btf_keeps_its_object(bpf_object):
    obj = pylbpf.open(bpf_object("maps"))
    btf = obj.btf
    data = btf.tobytes()
    del obj
    gc.collect()
    assert btf.tobytes() == data and btf.size(btf.find("value")) == 32


def test_c83_btf_of_a_closed_object_is_a_value_error(bpf_object):
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
