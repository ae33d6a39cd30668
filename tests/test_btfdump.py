"""Types and values as text, as libbpf writes them."""
from __future__ import annotations

import random
import re
import subprocess

import numpy as np
import pytest

import layouts
import pylbpf
from test_btf import Writer
from test_dtypes import STRUCTS, bits_of, plain_fields


@pytest.fixture(scope="module")
def btf(bpf_objects):
    with pylbpf.open(bpf_objects["types"]) as obj:
        return pylbpf.Btf.from_bytes(obj.btf.tobytes())


@pytest.fixture(scope="module")
def kernel():
    try:
        return pylbpf.Btf.kernel()
    except pylbpf.BpfError as error:
        pytest.skip(f"vmlinux BTF: {error}")


def test_declarations_are_in_c(btf):
    text = btf.c_decl("event")
    assert "struct event {\n" in text and "\tchar comm[16];\n" in text and text.endswith("};\n")
    assert "enum color {" in text and "version_t" in text
    assert btf.c_decl("color") == "enum color {\n\tRED = 0,\n\tGREEN = 5,\n\tBLUE = 6,\n};\n"
    assert btf.c_decl("callback_t") == "typedef int (*callback_t)(int, const char *);\n"
    assert btf.c_decl("int") == "int;\n"
    assert btf.c_decl(btf.find("touch")) == "int touch(void *);\n" or "touch(void *ctx)" in btf.c_decl(btf.find("touch"))
    assert btf.c_decl(btf.find("last", pylbpf.BtfKind.VAR)).endswith("struct event last;\n")
    for wrong in (0, ".bss"):
        with pytest.raises(ValueError, match="cannot be declared"):
            btf.c_decl(wrong)
    with pytest.raises(KeyError):
        btf.c_decl("nothing")


def test_declarations_mean_the_same_to_a_compiler(btf, tmp_path):
    """What libbpf writes, compiled, has the layout that the dtype says."""
    for name in STRUCTS:
        if name in ("struct packed", "struct holder", "struct empty"):
            continue        # libbpf itself writes these differently from version to version
        dtype = btf.dtype(name)
        text = btf.c_decl(name)
        text = re.sub(r"typedef (?!struct|union|enum|int \(\*)[^;]*;\n", "", text)      # of linux/types.h
        questions = [f"sizeof({name})"] + [f"offsetof({name}, {'.'.join(members)})" for members, _, _ in plain_fields(dtype)]
        answers = [dtype.itemsize] + [offset for _, offset, _ in plain_fields(dtype)]
        assert layouts.ask(text, questions, tmp_path) == answers, name


def test_values_are_text(btf):
    value = np.zeros((), btf.dtype("event"))
    value["when"], value["pid"], value["comm"], value["color"] = 5, 7, b"init", 5
    value["version"]["minor"] = 3
    text = btf.format(value, "event")
    assert text.startswith("(struct event){\n\t.when = (__u64)5,\n\t.pid = (__u32)7,\n") and "GREEN" in text
    assert btf.format(value.tobytes(), "event") == text
    assert btf.format(value, "event", compact=True).count("\n") == 0
    assert ".pid" not in btf.format(value, "event", names=False) and ".flags" in btf.format(value, "event", zeroes=True)
    assert "\n  .pid" in btf.format(value, "event", indent="  ")
    assert btf.format(np.uint32(5), "color") == "(enum color)GREEN"
    assert btf.format(b"\5\0\0\0", "int") in ("(int)5", "(int)83886080")


def test_wrong_values(btf):
    for wrong, error in ((b"", ValueError), (bytes(7), ValueError), ("text", TypeError), (None, TypeError), (5, TypeError)):
        with pytest.raises(error):
            btf.format(wrong, "event")
    with pytest.raises(ValueError, match="indent"):
        btf.format(bytes(4), "int", indent=" " * 40)
    with pytest.raises(pylbpf.BpfError):
        btf.format(b"", 0)
    with pytest.raises(pylbpf.BpfError):
        btf.format(bytes(8), btf.find("touch"))


def test_any_value_can_be_formatted(btf):
    chance = random.Random(5)
    for name in STRUCTS + ("enum big", "callback_t", "version_t"):
        for _ in range(20):
            assert btf.format(chance.randbytes(btf.size(name)), name, compact=True)


def test_variables_of_a_section(bpf_objects):
    with pylbpf.open(bpf_objects["globals"]) as obj:
        text = obj.btf.format(bytes(range(1, 17)), ".rodata.tables")
        assert "tables" in text
        assert "runs" in obj.btf.c_decl(obj.btf.find("runs"))
        assert obj.btf.format(bytes(4), "__u32") == "(__u32)0"
        btf = obj.btf
    with pytest.raises(ValueError, match="closed"):
        btf.format(bytes(4), "__u32")


def test_a_section_whose_variables_are_elsewhere():
    writer = Writer().integer().add(14, "x", 1, (1,)).add(15, ".data", 8, (2, 1 << 30, 4), 1)
    btf = pylbpf.Btf.from_bytes(writer.data())
    with pytest.raises(ValueError, match="not inside of"):
        btf.format(bytes(8), ".data")
    with pytest.raises(ValueError, match="cannot be a dtype"):
        btf.dtype(".data")


def test_closing_while_a_value_is_asked_for_its_bytes(bpf_objects):
    obj = pylbpf.open(bpf_objects["types"])
    btf = obj.btf

    class Closer(np.ndarray):
        def __buffer__(self, flags):
            obj.close()
            return memoryview(bytes(4))

    try:
        btf.format(Closer((1,), "u4"), "color")
    except ValueError as error:
        assert "closed" in str(error)       # where Python asks for __buffer__
    obj.close()


# ---------------------------------------------------------------- the kernel's, by other means

def compiles_to_its_layout(btf, name, folder):
    """Whether C has the same size and offsets; None if it refuses what libbpf wrote."""
    dtype = btf.dtype(f"struct {name}")
    lines = [f'_Static_assert(sizeof(struct {name}) == {dtype.itemsize}, "size");']
    lines += [f'_Static_assert(__builtin_offsetof(struct {name}, {members[0]}) == {offset}, "{members[0]}");'
              for members, offset, _ in plain_fields(dtype) if len(members) == 1]
    source = folder / "one.c"
    source.write_text("typedef _Bool pylbpf_bool;\n#define _Bool pylbpf_bool\n" + btf.c_decl(f"struct {name}") + "\n"
                      + "\n".join(lines))
    result = subprocess.run([layouts.compiler(), "-std=gnu11", "-w", "-fsyntax-only", source], capture_output=True, text=True)
    if result.returncode and "static assertion" not in result.stderr:
        return None
    return not result.returncode


def test_kernel_structs_compile_to_their_layout(kernel, tmp_path):
    """Structs with all that they need, as libbpf writes them: the compiler has the same offsets."""
    chance = random.Random(6)
    names = [name for name in kernel.names(pylbpf.BtfKind.STRUCT) if re.fullmatch(r"\w+", name)]
    chance.shuffle(names)
    done = 0
    for name in names:
        if done == 30:
            break
        text = kernel.c_decl(f"struct {name}")
        if len(text) > 20000 or not kernel.dtype(f"struct {name}").names or "packed" in text or "__int128" in text \
                or "aligned" in text:
            continue
        same = compiles_to_its_layout(kernel, name, tmp_path)
        assert same is not False, name
        done += same is True        # some have names that C does not allow twice
    assert done == 30


def test_structs_of_all_objects_compile_to_their_layout(bpf_objects, tmp_path):
    done, refused = set(), set()
    for path in bpf_objects.values():
        try:
            btf = pylbpf.Btf.parse(path)
        except (pylbpf.LibbpfError, ValueError):
            continue                # no types, or damaged on purpose
        for name in btf.names(pylbpf.BtfKind.STRUCT):
            try:
                text = btf.c_decl(f"struct {name}")
            except (pylbpf.BpfError, ValueError):
                continue
            if name in ("packed", "holder", "empty") or text in done:
                continue            # libbpf itself writes these differently from version to version
            same = compiles_to_its_layout(btf, name, tmp_path)
            assert same is not False, (path, name)
            (refused if same is None else done).add(text)
    assert len(done) > 30 and not refused


def test_malformed_types_are_not_dumped():
    for writer in (Writer().add(2, 0, 1), Writer().structure("s", 8, (0, 1, 0)), Writer().add(2, 0, 2).add(13, 0, 1)):
        with pytest.raises(ValueError):
            pylbpf.Btf.from_bytes(writer.data())


def test_bits_are_formatted(btf):
    value = np.zeros((), btf.dtype("bits"))
    for name in bits_of(value.dtype):
        pylbpf.set_bit_field(value, name, 1)
    text = btf.format(value, "bits")
    assert ".low = (__u32)0x1" in text or ".low = (__u32)1" in text
