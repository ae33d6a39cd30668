"""Disassembly: by table, on any bytes, against llvm-objdump, and against the log of the running kernel's verifier."""
from __future__ import annotations

import ctypes
import glob
import os
import random
import re
import shutil
import struct
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kernel
from pylbpf import disasm
from pylbpf.disasm import disassemble, format_insn, lines

pytestmark = pytest.mark.no_c


def insn(code, dst=0, src=0, off=0, imm=0):
    """One struct bpf_insn of this machine; imm may be given signed or unsigned."""
    regs = dst | src << 4 if sys.byteorder == "little" else dst << 4 | src
    return struct.pack("=BBhI", code, regs, off, imm & 0xFFFFFFFF)


def ld_imm64(dst, src, imm, next_imm=0):
    return insn(0x18, dst, src, 0, imm) + insn(0, imm=next_imm)


# By table

FORMS = [
    # moves, with sign extension and between address spaces
    (insn(0xBF, 1, 2), "r1 = r2"),
    (insn(0xBC, 1, 2), "w1 = w2"),
    (insn(0xB7, 10, 0, 0, -1), "r10 = -1"),
    (insn(0xB4, 0, 0, 0, 2**31 - 1), "w0 = 2147483647"),
    (insn(0xBF, 1, 2, 8), "r1 = (s8)r2"),
    (insn(0xBF, 1, 2, 16), "r1 = (s16)r2"),
    (insn(0xBF, 1, 2, 32), "r1 = (s32)r2"),
    (insn(0xBC, 1, 2, 8), "w1 = (s8)w2"),
    (insn(0xBC, 1, 2, 16), "w1 = (s16)w2"),
    (insn(0xBF, 1, 1, 1, 1), "r1 = addr_space_cast(r1, 0, 1)"),
    (insn(0xBF, 1, 2, 1, 1 << 16), "r1 = addr_space_cast(r2, 1, 0)"),
    (insn(0xBF, 1, 2, 1, -1), "r1 = addr_space_cast(r2, 65535, 65535)"),
    (insn(0xBF, 1, 2, -1), "r1 = &(void __percpu *)(r2)"),
    # arithmetic
    (insn(0x04, 1, imm=5), "w1 += 5"),
    (insn(0x07, 1, imm=-5), "r1 += -5"),
    (insn(0x0F, 1, 2), "r1 += r2"),
    (insn(0x1F, 1, 2), "r1 -= r2"),
    (insn(0x2C, 1, 2), "w1 *= w2"),
    (insn(0x3F, 1, 2), "r1 /= r2"),
    (insn(0x4F, 1, 2), "r1 |= r2"),
    (insn(0x5F, 1, 2), "r1 &= r2"),
    (insn(0x6F, 1, 2), "r1 <<= r2"),
    (insn(0x7F, 1, 2), "r1 >>= r2"),
    (insn(0x94, 1, imm=7), "w1 %= 7"),
    (insn(0xAF, 1, 2), "r1 ^= r2"),
    (insn(0xC7, 1, imm=63), "r1 s>>= 63"),
    (insn(0xCC, 1, 2), "w1 s>>= w2"),
    (insn(0x3F, 1, 2, 1), "r1 s/= r2"),
    (insn(0x34, 1, 0, 1, -7), "w1 s/= -7"),
    (insn(0x9C, 1, 2, 1), "w1 s%= w2"),
    (insn(0x97, 1, 0, 1, 7), "r1 s%= 7"),
    (insn(0x87, 3), "r3 = -r3"),
    (insn(0x84, 3), "w3 = -w3"),
    # byte order
    (insn(0xDC, 1, imm=16), "r1 = be16 r1"),
    (insn(0xDC, 1, imm=64), "r1 = be64 r1"),
    (insn(0xD4, 1, imm=32), "r1 = le32 r1"),
    (insn(0xD7, 1, imm=32), "r1 = bswap32 r1"),
    # memory
    (insn(0x79, 0, 1, 8), "r0 = *(u64 *)(r1 +8)"),
    (insn(0x61, 0, 1), "r0 = *(u32 *)(r1 +0)"),
    (insn(0x69, 0, 10, -2), "r0 = *(u16 *)(r10 -2)"),
    (insn(0x71, 0, 1, -32768), "r0 = *(u8 *)(r1 -32768)"),
    (insn(0x81, 0, 1, 4), "r0 = *(s32 *)(r1 +4)"),
    (insn(0x89, 0, 1, 4), "r0 = *(s16 *)(r1 +4)"),
    (insn(0x91, 0, 1, 4), "r0 = *(s8 *)(r1 +4)"),
    (insn(0x63, 10, 1, -4), "*(u32 *)(r10 -4) = r1"),
    (insn(0x7B, 10, 1, -8), "*(u64 *)(r10 -8) = r1"),
    (insn(0x6A, 10, 0, -2, -1), "*(u16 *)(r10 -2) = -1"),
    (insn(0x72, 10, 0, -1, 255), "*(u8 *)(r10 -1) = 255"),
    (insn(0xC2), "nospec"),
    # packets
    (insn(0x30, imm=14), "r0 = *(u8 *)skb[14]"),
    (insn(0x28, imm=-4096), "r0 = *(u16 *)skb[-4096]"),
    (insn(0x40, 0, 1, 0, 3), "r0 = *(u32 *)skb[r1 + 3]"),
    (insn(0x50, 0, 7, 0, -3), "r0 = *(u8 *)skb[r7 + -3]"),
    # atomics
    (insn(0xDB, 1, 2, 0, 0x00), "lock *(u64 *)(r1 +0) += r2"),
    (insn(0xDB, 1, 2, 0, 0x40), "lock *(u64 *)(r1 +0) |= r2"),
    (insn(0xC3, 1, 2, 4, 0x50), "lock *(u32 *)(r1 +4) &= r2"),
    (insn(0xC3, 1, 2, -4, 0xA0), "lock *(u32 *)(r1 -4) ^= r2"),
    (insn(0xDB, 1, 3, 0, 0x01), "r3 = atomic64_fetch_add((u64 *)(r1 +0), r3)"),
    (insn(0xDB, 1, 3, 0, 0x41), "r3 = atomic64_fetch_or((u64 *)(r1 +0), r3)"),
    (insn(0xC3, 1, 3, 0, 0x51), "r3 = atomic_fetch_and((u32 *)(r1 +0), r3)"),
    (insn(0xC3, 1, 3, 0, 0xA1), "r3 = atomic_fetch_xor((u32 *)(r1 +0), r3)"),
    (insn(0xDB, 1, 3, 8, 0xE1), "r3 = atomic64_xchg((u64 *)(r1 +8), r3)"),
    (insn(0xC3, 1, 3, 8, 0xE1), "r3 = atomic_xchg((u32 *)(r1 +8), r3)"),
    (insn(0xDB, 1, 2, 0, 0xF1), "r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)"),
    (insn(0xC3, 1, 2, 0, 0xF1), "r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)"),
    (insn(0xC3, 1, 2, 0, 0x100), "r1 = load_acquire((u32 *)(r2 +0))"),
    (insn(0xD3, 1, 2, 0, 0x100), "r1 = load_acquire((u8 *)(r2 +0))"),
    (insn(0xC3, 1, 2, 0, 0x110), "store_release((u32 *)(r1 +0), r2)"),
    (insn(0xDB, 1, 2, -8, 0x110), "store_release((u64 *)(r1 -8), r2)"),
    (insn(0xCB, 1, 2, 2, 0x110), "store_release((u16 *)(r1 +2), r2)"),
    # jumps
    (insn(0x25, 1, 0, 3, 5), "if r1 > 0x5 goto pc+3"),
    (insn(0x26, 1, 0, 3, -1), "if w1 > 0xffffffff goto pc+3"),
    (insn(0x15, 1, 0, -1), "if r1 == 0x0 goto pc-1"),
    (insn(0xCE, 1, 2, -2), "if w1 s< w2 goto pc-2"),
    (insn(0x1D, 1, 2), "if r1 == r2 goto pc+0"),
    (insn(0x5D, 1, 2), "if r1 != r2 goto pc+0"),
    (insn(0x3D, 1, 2), "if r1 >= r2 goto pc+0"),
    (insn(0xAD, 1, 2), "if r1 < r2 goto pc+0"),
    (insn(0xBD, 1, 2), "if r1 <= r2 goto pc+0"),
    (insn(0x6D, 1, 2), "if r1 s> r2 goto pc+0"),
    (insn(0x7D, 1, 2), "if r1 s>= r2 goto pc+0"),
    (insn(0xDD, 1, 2), "if r1 s<= r2 goto pc+0"),
    (insn(0x4D, 1, 2), "if r1 & r2 goto pc+0"),
    (insn(0x05, off=3), "goto pc+3"),
    (insn(0x05, off=-32768), "goto pc-32768"),
    (insn(0x06, imm=70000), "gotol pc+70000"),
    (insn(0x06, imm=-70000), "gotol pc-70000"),
    (insn(0x0D, 1), "gotox r1"),
    (insn(0xE5, off=3), "may_goto pc+3"),
    (insn(0x95), "exit"),
    # calls
    (insn(0x85, imm=1), "call bpf_map_lookup_elem#1"),
    (insn(0x85, imm=130), "call bpf_ringbuf_output#130"),
    (insn(0x85, imm=211), "call bpf_cgrp_storage_delete#211"),
    (insn(0x85, imm=0), "call bpf_unspec#0"),
    (insn(0x85, imm=100000), "call unknown#100000"),
    (insn(0x85, imm=-1), "call unknown#-1"),
    (insn(0x85, src=1, imm=12), "call pc+12"),
    (insn(0x85, src=1, imm=-1), "call pc-1"),
    (insn(0x85, src=2, imm=71234), "call kernel-function#71234"),
    (insn(0x85, src=2, off=3, imm=5), "call kernel-function#5"),
    (insn(0x8D, 2), "callx r2"),
    # 64-bit constants and references
    (ld_imm64(1, 0, 5), "r1 = 0x5"),
    (ld_imm64(1, 0, 0x9ABCDEF0, 0x12345678), "r1 = 0x123456789abcdef0"),
    (ld_imm64(1, 0, -1, -1), "r1 = 0xffffffffffffffff"),
    (ld_imm64(1, 0, -1), "r1 = 0xffffffff"),
    (ld_imm64(1, 1, 7), "r1 = map[fd:7]"),
    (ld_imm64(1, 2, 7, 16), "r1 = map[fd:7][0]+16"),
    (ld_imm64(1, 3, 99), "r1 = btf[fd:0][id:99]"),
    (ld_imm64(1, 3, 99, 4), "r1 = btf[fd:4][id:99]"),
    (ld_imm64(1, 4, 8), "r1 = subprog[+8]"),
    (ld_imm64(1, 5, 2), "r1 = map[idx:2]"),
    (ld_imm64(1, 6, 2, 8), "r1 = map[idx:2][0]+8"),
    (ld_imm64(1, 7, 2, 8), "r1 = 0x800000002"),
    # not instructions
    (insn(0x00), "BUG_ld_00"),
    (insn(0x38), "BUG_ld_38"),
    (insn(0x99), "BUG_ldx_99"),
    (insn(0xE2), "BUG_st_e2"),
    (insn(0x83), "BUG_83"),
    (insn(0xC3, imm=0x77), "BUG_c3"),
    (insn(0xDB, imm=0x10), "BUG_db"),
    (insn(0xE4), "BUG_alu_e4"),
    (insn(0xDF), "BUG_alu64_df"),
    (insn(0xE5, src=1), "BUG_jmp_e5"),
    (insn(0x96), "BUG_jmp32_96"),
    # registers that do not exist
    (insn(0xBF, 15, 11), "r15 = r11"),
]


@pytest.mark.parametrize(("code", "text"), FORMS, ids=[text for _, text in FORMS])
def test_form(code, text):
    assert list(lines(code)) == [(0, text)]
    assert disassemble(code) == f"0: ({code[0]:02x}) {text}"


def test_format_insn_takes_the_fields():
    assert format_insn(0xBF, 1, 10, 0, 0) == "r1 = r10"
    assert format_insn(0x18, 1, 0, 0, -1, 0) == "r1 = 0xffffffff"
    assert format_insn(0x18, 1, 0, 0, -1) == "r1 = (incomplete: second half of ld_imm64 is missing)"
    assert format_insn(0x07, 1, 0, 0, -1, 99) == "r1 += -1"


def test_the_index_counts_slots_of_eight_bytes():
    program = insn(0xB7, 0) + ld_imm64(1, 0, 1) + ld_imm64(2, 0, 2) + insn(0x95)
    assert [index for index, _ in lines(program)] == [0, 1, 3, 5]
    assert disassemble(program, start=10) == "10: (b7) r0 = 0\n11: (18) r1 = 0x1\n13: (18) r2 = 0x2\n15: (95) exit"
    assert disassemble(b"") == ""


@pytest.mark.parametrize("view", [bytes, bytearray, memoryview, lambda b: memoryview(b).cast("Q")])
def test_any_buffer(view):
    assert disassemble(view(insn(0xBF, 1, 10) + insn(0x95))) == "0: (bf) r1 = r10\n1: (95) exit"


def test_structured_and_strided_arrays():
    numpy = pytest.importorskip("numpy")
    kind = numpy.dtype([("code", "u1"), ("regs", "u1"), ("off", "i2"), ("imm", "i4")])
    program = numpy.frombuffer(insn(0xBF, 1, 10) + insn(0xB7) + insn(0x95), dtype=kind)
    assert disassemble(program[::2]) == "0: (bf) r1 = r10\n1: (95) exit"


def test_the_buffer_is_free_while_lines_live():
    program = bytearray(insn(0x95) * 2)
    iterator = lines(program)
    next(iterator)
    program.clear()  # BufferError if it were still exported
    assert list(iterator) == [(1, "exit")]


@pytest.mark.parametrize("size", [1, 7, 9, 15])
@pytest.mark.parametrize("function", [lines, disassemble])
def test_a_size_that_is_no_multiple_of_eight_is_refused_at_once(function, size):
    with pytest.raises(ValueError, match=f"8 bytes each, but the buffer has {size} bytes"):
        function(bytes(size))


def test_half_a_ld_imm64():
    half = insn(0x18, 1, 0, 0, 5)
    missing = "r1 = (incomplete: second half of ld_imm64 is missing)"
    assert list(lines(half)) == [(0, missing)]
    # What follows is shown, not swallowed, if it cannot be a second half.
    assert list(lines(half + insn(0x95))) == [(0, missing), (1, "exit")]
    assert list(lines(half + half + insn(0))) == [(0, missing), (1, "r1 = 0x5")]


def test_registers_on_a_big_endian_machine(monkeypatch):
    monkeypatch.setattr(disasm, "_DST_FIRST", False)
    monkeypatch.setattr(disasm, "_INSN", struct.Struct(">BBhi"))
    assert disassemble(bytes.fromhex("791a fff8 00000000 0701 0000 00000005")) == (
        "0: (79) r1 = *(u64 *)(r10 -8)\n1: (07) r0 += 5"
    )


# On any bytes

TEXT = re.compile(r"[\x20-\x7e]+")


def check_any(program):
    items = list(lines(program))
    assert all(TEXT.fullmatch(text) and "None" not in text and "{" not in text for _, text in items)
    slots = len(program) // 8
    following = [index for index, _ in items[1:]] + [slots]
    for (index, text), after in zip(items, following):
        assert after - index in (1, 2)
        assert after - index == 1 or program[8 * index] == 0x18, text


@settings(deadline=None)
@given(st.binary(max_size=256))
@example(insn(0x18))
def test_any_bytes_give_text(program):
    check_any(program[: len(program) // 8 * 8])


def test_every_opcode_with_every_kind_of_field():
    numbers = random.Random(1)
    for code in range(256):
        for _ in range(200):
            check_any(bytes([code]) + numbers.randbytes(7 + 8 * numbers.randrange(2)))


# Against llvm-objdump. The oldest that reads callx as it is encoded today, and one that knows everything; those before
# take a load_acquire for another atomic instruction.

OBJDUMP_OLDEST = 19
OBJDUMP_COMPLETE = 22
NEWER_THAN_OBJDUMP = r"r\d+ = load_acquire|store_release"


@pytest.fixture(scope="session")
def objdump():
    """(version, command) of the newest llvm-objdump."""
    names = ["llvm-objdump", *(f"llvm-objdump-{n}" for n in range(OBJDUMP_OLDEST, 40))]
    found = [shutil.which(name) for name in names] + glob.glob("/usr/lib/llvm-*/bin/llvm-objdump")
    versions = []
    for command in filter(None, found):
        banner = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"LLVM version (\d+)", banner)
        if version and re.search(r"^\s*bpfel\b", banner, re.M):
            versions.append((int(version[1]), command))
    if not versions or max(versions)[0] < OBJDUMP_OLDEST:
        pytest.skip(f"llvm-objdump: none of {OBJDUMP_OLDEST} or later that knows BPF is installed")
    return max(versions)


def sections(dump):
    """Split the output of objdump -d into (section, bytes, [(index, text), ...])."""
    for part in dump.split("Disassembly of section ")[1:]:
        name, _, body = part.partition(":\n")
        found = re.findall(r"^ *(\d+):\t((?:[0-9a-f]{2} )*[0-9a-f]{2})\s*\t(.*)$", body, re.M)
        yield name, bytes.fromhex("".join(raw for _, raw, _ in found)), [(int(i), text) for i, _, text in found]


def canonical(text):
    """What the two notations have in common: decimal numbers, no names, labels, register widths of memory operands."""
    text = re.sub(r" <\w+(\+0x[0-9a-f]+)?>$", "", text)
    text = re.sub(r"0x[0-9a-f]+", lambda number: str(int(number[0], 16)), text)
    if text.startswith("if"):  # an immediate: signed there, unsigned here
        text = re.sub(r"-(\d+)(?= goto)", lambda number: str(2**32 - int(number[1])), text)
    if text.endswith(" ll"):
        text = re.sub(r"-(\d+) ll", lambda number: str(2**64 - int(number[1])), text).replace(" ll", "")
    text = re.sub(r"(?:cmp)?xchg(?:32)?_(32|64)\((?=[rw])", r"\g<0>(u\1 *)(", text)
    text = re.sub(r"(xchg)(?:32)?_(?:32|64)(\(\(u\d+ \*\)\([^,]*)", r"\1\2)", text)
    text = text.replace("atomic64_", "atomic_").replace("atomic_", "")
    if "*)" in text:
        text = re.sub(r"\bw(\d)", r"r\1", text)
    text = re.sub(r"call \w[\w-]*#", "call ", text).replace(" + 0]", "]")
    return re.sub(r"((?:goto|gotol|call) )(?:pc)?\+?", r"\1", text).replace(" ", "")


@pytest.mark.parametrize(("there", "here"), [
    ("if r1 > 0x5 goto +0x3 <main+0x28>", "if r1 > 0x5 goto pc+3"),
    ("if w1 s> -0x1 goto -0x3 <main>", "if w1 s> 0xffffffff goto pc-3"),
    ("r1 = -0x1 ll", "r1 = 0xffffffffffffffff"),
    ("call 0x1", "call bpf_map_lookup_elem#1"),
    ("call -0x1", "call pc-1"),
    ("w3 = xchg32_32(r1 + 0x4, w3)", "r3 = atomic_xchg((u32 *)(r1 +4), r3)"),
    ("r0 = cmpxchg_64(r1 - 0x8, r0, r2)", "r0 = atomic64_cmpxchg((u64 *)(r1 -8), r0, r2)"),
    ("w1 = *(u8 *)(r2 + 0x0)", "r1 = *(u8 *)(r2 +0)"),
    ("r0 = *(u8 *)skb[r7]", "r0 = *(u8 *)skb[r7 + 0]"),
])
def test_the_two_notations_have_one_form(there, here):
    assert canonical(there) == canonical(here)


@pytest.mark.parametrize(("there", "here"), [
    ("w1 = 0x5", "r1 = 5"),
    ("r1 += -0x5", "r1 += 5"),
    ("r1 += 0x5", "r1 = 5"),
    ("r1 = *(u8 *)(r2 + 0x8)", "r1 = *(u8 *)(r2 -8)"),
    ("goto +0x3", "goto pc-3"),
    ("r1 = *(s8 *)(r2 + 0x0)", "r1 = *(u8 *)(r2 +0)"),
    ("r3 = xchg_64(r1 + 0x4, r3)", "r3 = atomic_xchg((u32 *)(r1 +4), r3)"),
])
def test_different_instructions_keep_different_forms(there, here):
    assert canonical(there) != canonical(here)


def test_every_object_reads_as_in_llvm_objdump(bpf_objects, objdump):
    version, command = objdump
    compared = 0
    for name, path in sorted(bpf_objects.items()):
        if path.read_bytes()[5] != (1 if sys.byteorder == "little" else 2):  # e_ident[EI_DATA]
            continue
        dump = subprocess.run([command, "-dz", "--mcpu=v4", path], capture_output=True, text=True, check=True).stdout
        for section, code, theirs in sections(dump):
            ours = list(lines(code))
            where = f"{name}, section {section}"
            assert [index for index, _ in ours] == [index for index, _ in theirs], where
            for (index, mine), (_, other) in zip(ours, theirs):
                if version < OBJDUMP_COMPLETE and (other == "<unknown>" or re.match(NEWER_THAN_OBJDUMP, mine)):
                    continue
                assert canonical(mine) == canonical(other), f"{where}, {index}: {mine!r}, objdump: {other!r}"
                compared += 1
    assert compared >= 300, "the test objects hold too few instructions"


# Against the verifier. At log level 2 it prints each instruction before it checks it, so programs need not be valid.

SOCKET_FILTER, ARRAY = 1, 2


@pytest.fixture(scope="module")
def verify():
    """Function from a program to the log of the verifier."""
    log = ctypes.create_string_buffer(1 << 20)
    licence = ctypes.create_string_buffer(b"GPL")

    def verify(program):
        code = ctypes.create_string_buffer(program, len(program))
        log[0] = b"\0"
        *inputs, output = (ctypes.addressof(buffer) for buffer in (code, licence, log))
        attr = struct.pack("=IIQQIIQII", SOCKET_FILTER, len(program) // 8, *inputs, 2, len(log), output, 0, 0)
        try:
            os.close(kernel.bpf(kernel.PROG_LOAD, attr))
        except OSError:
            assert log.value, "refused without a log"
        return log.value.decode()

    return verify


@pytest.fixture
def array_map():
    fd = kernel.bpf(kernel.MAP_CREATE, struct.pack("=IIIII", ARRAY, 4, 64, 1, 0))
    yield fd
    os.close(fd)


def printed(log):
    """{index: line as disassemble() would write it} for the instructions in the log.

    Newer kernels print the whole program first, with the registers alive; all print what they reach.
    """
    found = {}
    for index, text in re.findall(r"^ *(\d+): (?:[.\d]+ )?((?:\([0-9a-f]{2}\) |BUG_)[^;\n]*)", log, re.M):
        line = f"{index}: {text.rstrip()}"
        assert found.setdefault(int(index), line) == line, log
    return found


def agree(log, program):
    """Whether the log shows the instruction under test; if so, it must be as disassemble() writes it."""
    theirs, mine = printed(log).get(AT), expected(program)[AT]
    if theirs is None:
        return False
    if "kernel-function" in mine:  # the kernel knows their names, from its BTF
        theirs = re.sub(r"call \w*#", "call kernel-function#", theirs)
    if theirs != mine:
        # An older kernel refuses what it does not know; what no kernel knows, it prints as (null).
        assert "BUG_" in mine if "(null)" in theirs else "BUG_" in theirs or "reserved fields" in log, log
        return False
    return True


def expected(program):
    """The same from disassemble()."""
    return {int(line.split(":")[0]): line.replace(f"({line.split('(')[1][:2]}) BUG_", "BUG_")
            for line in disassemble(program).splitlines()}


# Registers and stack that make as many instructions as possible pass: r6 is the context, r2 points to the stack.
PROLOGUE = b"".join([
    insn(0xBF, 6, 1), insn(0x7A, 10, 0, -8, 0), insn(0x7A, 10, 0, -16, 0), insn(0xBF, 2, 10), insn(0x07, 2, imm=-8),
    *(insn(0xB7, r, imm=r + 1) for r in (0, 1, 3, 4, 5, 7, 8, 9)),
])
EPILOGUE = insn(0xB7) * 3 + insn(0x95)
AT = len(PROLOGUE) // 8

OFFSETS = [1, -1, 2, 8, 16, 32, -8, -4, 7, -16]
IMMEDIATES = [1, -1, 2, 5, 8, 16, 31, 32, 64, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1, 0x100, 0x110, 14,
              0x10000, 2**31 - 1, -(2**31)]

# Opcodes that kernels may refuse as unknown although they are listed here: newer than the kernel, or its own.
NOT_EVERYWHERE = {0x06, 0x0D, 0x81, 0x89, 0x8D, 0x91, 0xC2, 0xD3, 0xCB, 0xD7, 0xE5}


@pytest.mark.bpf
def test_every_opcode_reads_as_in_the_verifier_log(verify):
    numbers = random.Random(2)
    opcodes = set()
    for code in range(256):
        for _ in range(60):
            # Fields that an instruction does not use must be zero, so each is zero half of the time.
            dst, src, off, imm = (
                numbers.choice(values) if numbers.random() < 0.5 else 0
                for values in (range(1, 12), range(1, 12), OFFSETS, IMMEDIATES)
            )
            if code == 0x18:
                src = 0
            one = insn(code, dst, src, off, imm) + (insn(0, imm=numbers.choice(IMMEDIATES)) if code == 0x18 else b"")
            program = PROLOGUE + one + EPILOGUE
            log = verify(program)
            if f"unknown opcode {code:02x}" in log:
                assert "BUG_" in expected(program)[AT] or code in NOT_EVERYWHERE, log
            if agree(log, program):
                opcodes.add(code)
    assert len(opcodes) >= 110, f"the verifier showed only {len(opcodes)} different opcodes"


@pytest.mark.bpf
def test_every_form_reads_as_in_the_verifier_log(verify):
    # References to maps and the like are resolved in the log, so they have their own test.
    programs = [PROLOGUE + one + EPILOGUE for one, text in FORMS if one[0] != 0x18 or "[" not in text]
    assert sum(agree(verify(program), program) for program in programs) >= 80


@pytest.mark.bpf
def test_helpers_have_the_names_that_the_kernel_gives_them(verify):
    known = len(disasm._HELPERS)
    assert known >= 212
    for number in [*range(1, known), 100000]:
        program = PROLOGUE + insn(0x85, imm=number) + EPILOGUE
        line = printed(verify(program))[AT]
        if "unknown" in line:  # an older kernel
            assert line == f"{AT}: (85) call unknown#{number}"
        else:
            assert line == expected(program)[AT]


@pytest.mark.bpf
def test_subprograms_and_loops_read_as_in_the_verifier_log(verify):
    program = b"".join([
        insn(0xB7, 6, imm=3),
        insn(0xBF, 1, 6),
        insn(0x85, src=1, imm=5),
        insn(0x07, 6, imm=-1),
        insn(0x55, 6, off=-4),
        insn(0x05, off=0),
        insn(0xB7),
        insn(0x95),
        insn(0xBC, 0, 1),
        insn(0x64, imm=2),
        insn(0x46, off=1, imm=0x40),
        insn(0x84),
        insn(0x95),
    ])
    log = verify(program)
    assert "processed" in log
    assert printed(log) == expected(program)


@pytest.mark.bpf
def test_references_read_as_in_the_verifier_log_but_for_the_address(verify, array_map):
    program = ld_imm64(1, 1, array_map) + ld_imm64(2, 2, array_map, 16) + ld_imm64(3, 0, 7, 7) + insn(0xB7) + insn(0x95)
    theirs = printed(verify(program))
    ours = expected(program)
    assert theirs.keys() == ours.keys()
    assert theirs[4] == ours[4] == "4: (18) r3 = 0x700000007"
    assert (ours[0], ours[2]) == (f"0: (18) r1 = map[fd:{array_map}]", f"2: (18) r2 = map[fd:{array_map}][0]+16")
    assert all(re.fullmatch(rf"{i}: \(18\) r\d = 0x[0-9a-f]+", theirs[i]) for i in (0, 2))
