"""Damaged and forged objects: said to be so in a sentence, and never a crash of libbpf for what passes."""
from __future__ import annotations

import ctypes
import itertools
import json
import mmap
import os
import random
import re
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import pytest

import objects
from expectations import rounds
from pylbpf.elf import check

SOURCE = r"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");
extern char CONFIG_TEXT[16] __kconfig __attribute__((weak));
typedef int number;
number level = 3;
struct task_struct___mine {
	unsigned flag : 3, rest : 5;
	struct { int a; int field; } inner;
} __attribute__((preserve_access_index));
struct operations { int (*call)(int); int value; };
SEC("struct_ops/call") int call(void *ctx) { return 0; }
SEC(".struct_ops") struct operations table = { .call = (void *)call, .value = 1 };
static __attribute__((noinline)) int helper(int i) { asm volatile("" : "+r"(i)); return i; }
SEC("raw_tp") int entry(void *ctx)
{
	struct task_struct___mine *task = (void *)bpf_get_current_task();
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&counts, &zero);
	if (count)
		*count += helper(level) + CONFIG_TEXT[zero] + BPF_CORE_READ(task, inner.field)
			+ BPF_CORE_READ_BITFIELD_PROBED(task, flag);
	return 0;
}
char _license[] SEC("license") = "GPL";
"""
# Nothing here needs BTF.
PLAIN = r"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("socket") int entry(void *ctx) { return 0; }
char _license[] SEC("license") = "GPL";
"""

INT, PTR, ARRAY, STRUCT, TYPEDEF, FUNC, VAR, DATASEC = 1, 2, 3, 4, 8, 12, 14, 15


class Section(NamedTuple):
    header: int  # where its header is
    offset: int
    size: int


class Type(NamedTuple):
    at: int
    id: int
    kind: int
    vlen: int
    name: str


class Elf:
    """A little-endian object to be forged in place."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.table = self.get("<Q", 0x28)
        self.count, names = self.get("<H", 0x3C), self.get("<H", 0x3E)
        names_at = self.get("<Q", self.table + 64 * names + 24)
        self.sections: dict[str, Section] = {}
        for i in range(self.count):
            header = self.table + 64 * i
            offset, size = struct.unpack_from("<QQ", self.data, header + 24)
            self.sections[self.string(names_at + self.get("<I", header))] = Section(header, offset, size)

    def get(self, form: str, at: int) -> int:
        return struct.unpack_from(form, self.data, at)[0]

    def put(self, form: str, at: int, *values: int) -> None:
        struct.pack_into(form, self.data, at, *values)

    def string(self, at: int) -> str:
        return self.data[at : self.data.index(0, at)].decode()

    def symbol(self, name: str) -> int:
        table, strings = self.sections[".symtab"], self.sections[".strtab"]
        return next(at for at in range(table.offset, table.offset + table.size, 24)
                    if self.string(strings.offset + self.get("<I", at)) == name)

    def types(self) -> list[Type]:
        start = self.sections[".BTF"].offset
        header, offset, length, strings = struct.unpack_from("<4I", self.data, start + 4)
        at, end, found = start + header + offset, start + header + offset + length, list[Type]()
        while at < end:
            name, info = struct.unpack_from("<II", self.data, at)
            kind, vlen = info >> 24 & 31, info & 0xFFFF
            found.append(Type(at, len(found) + 1, kind, vlen, self.string(start + header + strings + name)))
            item = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}.get(kind, 0)
            at += 12 + {1: 4, 3: 12, 14: 4, 17: 4}.get(kind, 0) + item * vlen
        return found

    def type(self, kind: int, name: str) -> Type:
        return next(t for t in self.types() if t.kind == kind and t.name == name)

    def type_by_id(self, id: int) -> Type:
        return self.types()[id - 1]


@pytest.fixture(scope="module")
def forge(bpf_objects) -> Callable[[str], Elf]:
    """forge(SOURCE) -> its object, compiled, to be changed."""
    return lambda source: Elf(objects.build(source, "elf_plain" if source is PLAIN else "elf_forged").read_bytes())


# ---------------------------------------------------------------- what is right passes


def test_accepts_the_test_objects(bpf_objects):
    assert {name: check(path.read_bytes()) for name, path in bpf_objects.items()} == dict.fromkeys(bpf_objects)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_accepts_any_buffer_and_does_not_change_it(forge, kind):
    data = bytes(forge(SOURCE).data)
    assert check(kind(data)) is None
    assert check(b"x" + data) is not None
    assert check(memoryview(b"x" + data)[1:]) is None  # an odd address
    with pytest.raises(TypeError):
        check("text")


def test_accepts_a_thousand_programs(bpf_objects):
    for subprogram in (False, True):
        source = objects.many(1000, with_map=True, subprogram=subprogram)
        assert check(objects.build(source, "elf_many").read_bytes()) is None


def test_accepts_section_counts_that_need_more_than_16_bits(forge):
    elf = forge(PLAIN)
    table = elf.data[elf.table : elf.table + 64 * elf.count]
    elf.data += bytes(-len(elf.data) % 8)
    at, count, names = len(elf.data), 70_000, elf.get("<H", 0x3E)
    elf.data += table + table[:64] * (count - elf.count)
    elf.put("<Q", 0x28, at)
    elf.put("<HH", 0x3C, 0, 0xFFFF)
    elf.put("<Q", at + 32, count)
    elf.put("<I", at + 40, names)
    assert check(elf.data) is None
    elf.put("<Q", at + 32, count + 1)
    assert "section table" in check(elf.data)


def test_leaves_to_libbpf_what_is_not_for_bpf(forge):
    elf = forge(SOURCE)
    elf.put("<H", 18, 62)  # x86-64
    elf.put("<Q", elf.sections[".BTF"].header + 32, 1 << 60)
    assert check(elf.data) is None


def test_leaves_to_libbpf_btf_that_nothing_needs(forge):
    elf = forge(PLAIN)
    elf.put("<H", elf.sections[".BTF"].offset, 0)
    assert check(elf.data) is None
    elf = forge(SOURCE)
    elf.put("<H", elf.sections[".BTF"].offset, 0)
    assert check(elf.data) == ".BTF has no valid header, and the object needs it"


def test_leaves_to_libbpf_kinds_of_types_that_are_newer(forge):
    elf = forge(SOURCE)
    at = elf.type(TYPEDEF, "number").at
    elf.put("<I", at + 4, 25 << 24)
    assert check(elf.data) is None


# ---------------------------------------------------------------- what is wrong is named

Forgery = Callable[[Elf], None]
FORGERIES: list[tuple[str, Forgery]] = []


def forgery(sentence: str) -> Callable[[Forgery], Forgery]:
    def add(change: Forgery) -> Forgery:
        FORGERIES.append((sentence, change))
        return change
    return add


def at_header(sentence: str, form: str, at: int, value: int) -> None:
    forgery(sentence)(lambda elf: elf.put(form, at, value))


at_header(r"not an ELF file: it begins with 00 45 4c 46", "<B", 0, 0)
at_header(r"not a 64-bit ELF file: its class is 1", "<B", 4, 1)
at_header(r"unknown byte order 3", "<B", 5, 3)
at_header(r"unknown ELF version 0", "<B", 6, 0)
at_header(r"the section table begins at byte 18446744073709551615, the file ends at \d+", "<Q", 0x28, 2**64 - 1)
at_header(r"it has no section table", "<Q", 0x28, 0)
at_header(r"entries of the section table have 40 bytes, not 64", "<H", 0x3A, 40)
at_header(r"the section table, 60000 entries from byte \d+ on, ends behind the file's \d+ bytes", "<H", 0x3C, 60000)
at_header(r"section names are in section 500, there are \d+ sections", "<H", 0x3E, 500)
at_header(r"section 1 does not hold the section names", "<H", 0x3E, 1)


def at_section(sentence: str, name: str, form: str, field: int, value: int) -> None:
    forgery(sentence)(lambda elf: elf.put(form, elf.sections[name].header + field, value))


at_section(r"section \d+ \(.maps\), 32 bytes from byte 1048576 on, ends behind the file's \d+ bytes",
           ".maps", "<Q", 24, 1 << 20)
at_section(r"section \d+ \(.BTF\), 18446744073709551608 bytes from", ".BTF", "<Q", 32, 2**64 - 8)
at_section(r"section \d+ \(.BTF\) has the type 8, not PROGBITS", ".BTF", "<I", 4, 8)
at_section(r"section \d+ \(.BTF\) is compressed", ".BTF", "<Q", 8, 0x800)
at_section(r"the name of section \d+ is at byte 99999 of \d+ of names", ".maps", "<I", 0, 99999)
at_section(r"it has two symbol tables, sections \d+ and \d+", "license", "<I", 4, 2)
at_section(r"symbol names are in section 77, there are", ".symtab", "<I", 40, 77)
at_section(r"section 1 \(.text\) does not hold symbol names", ".symtab", "<I", 40, 1)
at_section(r"the symbol table, section \d+, has \d+ bytes in entries of 16", ".symtab", "<Q", 56, 16)
at_section(r"the relocations in section \d+ \(.relraw_tp\) have \d+ bytes in entries of 24", ".relraw_tp", "<Q", 56, 24)
at_section(r"section \d+ \(.relraw_tp\) relocates section 999, there are", ".relraw_tp", "<I", 44, 999)
at_section(r"section \d+ \(.relraw_tp\) relocates section \d+ \(raw_tp\), whose type 5 is not PROGBITS",
           "raw_tp", "<I", 4, 5)


def at_symbol(sentence: str, name: str, form: str, field: int, value: int) -> None:
    forgery(sentence)(lambda elf: elf.put(form, elf.symbol(name) + field, value))


at_symbol(r"the name of symbol \d+ is at byte 99999 of \d+ of names", "entry", "<I", 0, 99999)
at_symbol(r"symbol \d+ \('entry'\) is in section 99, there are", "entry", "<H", 6, 99)
at_symbol(r"function 'entry', \d+ bytes from byte 18446744073709551608 on, ends behind the \d+ of section raw_tp",
          "entry", "<Q", 8, 2**64 - 8)
at_symbol(r"function 'entry' in section raw_tp is not made of whole instructions: 12 bytes from byte 0 on",
          "entry", "<Q", 16, 12)
at_symbol(r"symbol \d+ \('table'\) is at byte 4294967295 of section", "table", "<Q", 8, 2**32 - 1)


@forgery(r"function 'entry' in section raw_tp ends in the middle of a 64-bit load")
def _(elf):
    section = elf.sections["raw_tp"]
    elf.put("<B", section.offset + section.size - 8, 0x18)


@forgery(r"section \d+ \(.relraw_tp\) refers to symbol 4294967295, there are \d+")
def _(elf):
    elf.put("<I", elf.sections[".relraw_tp"].offset + 12, 2**32 - 1)


@forgery(r"section \d+ \(.relraw_tp\) relocates byte 18446744073709551608 of the \d+ of section \d+ \(raw_tp\)")
def _(elf):
    elf.put("<Q", elf.sections[".relraw_tp"].offset, 2**64 - 8)


@forgery(r"section \d+ \(.relraw_tp\) relocates section 0 \(\), whose type 18 is not PROGBITS")
def _(elf):
    elf.put("<I", elf.sections[".relraw_tp"].header + 44, 0)
    elf.put("<IQ", elf.table + 4, 18, 4)
    elf.put("<Q", elf.table + 32, 7)


def at_btf(sentence: str, form: str, field: int, value: int) -> None:
    forgery(sentence)(lambda elf: elf.put(form, elf.sections[".BTF"].offset + field, value))


at_btf(r"the header of .BTF has 20 bytes, less than 24", "<I", 4, 20)
at_btf(r".BTF is cut off or its parts overlap, and the object needs it", "<I", 20, 1 << 31)
at_btf(r"the strings of .BTF do not begin and end in NUL, and", "<I", 20, 0)
at_btf(r".BTF has a type that is cut off or of no kind, and", "<I", 24 + 4, 0)


def at_type(sentence: str, kind: int, name: str, form: str, field: int, value: int) -> None:
    forgery(sentence)(lambda elf: elf.put(form, elf.type(kind, name).at + field, value))


at_type(r"BTF type \d+ has a name at byte 4294967295 of \d+ of strings", TYPEDEF, "number", "<I", 0, 2**32 - 1)
at_type(r"BTF type \d+ refers to type 5000, the last one is \d+", TYPEDEF, "number", "<I", 8, 5000)
at_type(r"BTF type \d+ refers to type 5000, the last one is \d+", STRUCT, "operations", "<I", 16, 5000)
at_type(r"BTF type \d+ \(function entry\) refers to type 1, which is no prototype", FUNC, "entry", "<I", 8, 1)
at_type(r"BTF type \d+ \(section .kconfig\) holds type 1, which is no variable", DATASEC, ".kconfig", "<I", 12, 1)
at_type(r"struct_ops variable 'table' \(BTF type \d+\) has 16 bytes from byte 4294967288 on",
        DATASEC, ".struct_ops", "<I", 16, 2**32 - 8)
at_type(r"member 'value' of struct_ops variable 'table' \(BTF type \d+\) ends behind the struct",
        STRUCT, "operations", "<I", 32, 8000)
at_type(r"member 'value' of struct_ops variable 'table' \(BTF type \d+\) ends behind the struct",
        STRUCT, "operations", "<I", 8, 9)


@forgery(r"BTF type \d+ \(number\) is a circle of typedefs, qualifiers or arrays, or a chain of more than 256")
def _(elf):
    number = elf.type(TYPEDEF, "number")
    elf.put("<I", number.at + 8, number.id)


@forgery(r"bit field 'flag' of BTF type \d+ \(task_struct___mine\) is of a type without size")
def _(elf):
    member = elf.type(STRUCT, "task_struct___mine").at + 12
    elf.put("<I", elf.type_by_id(elf.get("<I", member + 4)).at + 8, 0)


@forgery(r"map 'counts' in .maps has the type STRUCT_OPS, which only .struct_ops can have")
def _(elf):
    definition = elf.type_by_id(elf.get("<I", elf.type(VAR, "counts").at + 8))
    pointer = elf.type_by_id(elf.get("<I", definition.at + 12 + 4))
    elf.put("<I", elf.type_by_id(elf.get("<I", pointer.at + 8)).at + 20, 26)


def kconfig_array(elf: Elf) -> Type:
    return elf.type_by_id(elf.get("<I", elf.type(VAR, "CONFIG_TEXT").at + 8))


@forgery(r"__kconfig variable 'CONFIG_TEXT' \(BTF type \d+\) is no number, enum or string")
def _(elf):
    elf.put("<I", kconfig_array(elf).at + 20, 1 << 31)


@forgery(r"__kconfig variable 'CONFIG_TEXT' \(BTF type \d+\) is no number, enum or string")
def _(elf):
    elf.put("<I", kconfig_array(elf).at + 12, elf.type(STRUCT, "operations").id)


@forgery(r"the CO-RE relocations of .BTF.ext have the access '0:-:1'")
def _(elf):
    strings = elf.sections[".BTF"]
    at = elf.data.index(b"\x000:2:1\x00", strings.offset)
    elf.data[at + 1 : at + 6] = b"0:-:1"


@forgery(r"the CO-RE relocations of .BTF.ext are cut off, and the object needs it")
def _(elf):
    ext = elf.sections[".BTF.ext"].offset
    elf.put("<I", ext + elf.get("<I", ext + 4) + elf.get("<I", ext + 24) + 8, 1 << 30)


@forgery(r"the CO-RE relocations of .BTF.ext refer to BTF type 70000, the last one is \d+")
def _(elf):
    ext = elf.sections[".BTF.ext"].offset
    elf.put("<I", ext + elf.get("<I", ext + 4) + elf.get("<I", ext + 24) + 16, 70000)


@pytest.mark.parametrize("sentence, change", FORGERIES, ids=[sentence[:50] for sentence, _ in FORGERIES])
def test_says_what_is_wrong(forge, sentence, change):
    elf = forge(SOURCE)
    assert check(elf.data) is None
    change(elf)
    problem = check(elf.data)
    assert problem and re.search(sentence, problem), problem


@pytest.mark.parametrize("size", [0, 1, 4, 15, 16, 63])
def test_too_short_for_a_header(forge, size):
    assert check(forge(SOURCE).data[:size]) == f"not an ELF file: {size} bytes are too few for its header"


def test_a_chain_of_typedefs_may_be_long_but_not_endless(forge):
    source = "\n".join(["typedef int t0;", *(f"typedef t{i} t{i + 1};" for i in range(255)), "t{} global;"])
    for last in (200, 255):
        elf = objects.build(source.replace("{}", str(last)) + PLAIN, f"elf_chain{last}").read_bytes()
        problem = check(elf)
        assert problem is None if last == 200 else "a chain of more than 256" in problem


def test_text_of_any_kind_in_names(forge):
    elf = forge(SOURCE)
    symbol = elf.symbol("entry")
    name = elf.sections[".strtab"].offset + elf.get("<I", symbol)
    elf.data[name : name + 5] = b"\xff\xfe%s\x01"
    elf.put("<Q", symbol + 16, 3)
    assert "function '\\xff\\xfe%s\x01'" in check(elf.data)


# ---------------------------------------------------------------- what passes does not crash libbpf


def truncated(data: bytes) -> Iterator[tuple[str, bytes]]:
    for size in range(len(data)):
        yield f"truncated to {size} bytes", data[:size]


def flipped(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every bit of every byte that is not an instruction."""
    elf = Elf(data)
    code = [range(s.offset, s.offset + s.size) for s in elf.sections.values()
            if elf.get("<Q", s.header + 8) & 4 and elf.get("<I", s.header + 4) == 1]
    mutant = bytearray(data)
    for at in range(len(data)):
        if any(at in section for section in code):
            continue
        for bit in range(8):
            mutant[at] ^= 1 << bit
            yield f"bit {bit} of byte {at} flipped", bytes(mutant)
            mutant[at] ^= 1 << bit


def shuffled(all_data: list[bytes], random: random.Random) -> Iterator[tuple[str, bytes]]:
    """Flipped bits, likely numbers in likely places, pieces from elsewhere: one to eight at a time, for ever."""
    tables = [Elf(data) for data in all_data]
    numbers = [0, 1, 2, 7, 8, 16, 24, 26, 255, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, 2**64 - 8, 2**64 - 1]
    for number in itertools.count():
        which = random.randrange(len(all_data))
        data, elf = bytearray(all_data[which]), tables[which]
        for _ in range(random.choice((1, 1, 2, 3, 8))):
            section = random.choice([s for s in elf.sections.values() if 8 <= s.size <= len(data) - s.offset])
            in_header, inside = random.randrange(0, 64, 4), random.randrange(0, section.size - 3)
            at = random.choice((section.header + in_header, section.offset + inside)) & ~3
            move = random.randrange(4)
            if move == 0:
                data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            elif move == 1:
                form = random.choice("<B <H <I <Q".split())
                at = min(at, len(data) - 8)
                near = elf.get(form, at) + random.randrange(-9, 10)
                value = random.choice((random.choice(numbers), random.randrange(256), near))
                struct.pack_into(form, data, at, value & (1 << 8 * struct.calcsize(form)) - 1)
            else:
                other = all_data[which] if move == 2 else random.choice(all_data)
                size = random.randrange(1, 64)
                begin = random.randrange(len(other))
                piece = other[begin : begin + size][: len(data) - at]
                data[at : at + len(piece)] = piece
        yield f"shuffled, number {number}", bytes(data)


def crash_worker(arguments: str) -> None:
    """Opens the mutants that pass with libbpf alone; the last one stays in the file `evidence` if it dies of it."""
    asked = json.loads(arguments)
    lib = ctypes.CDLL("libbpf.so.1")
    lib.bpf_object__open_mem.restype = ctypes.c_void_p
    lib.bpf_object__open_mem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
    lib.bpf_object__load.argtypes = lib.bpf_object__close.argtypes = [ctypes.c_void_p]
    lib.libbpf_set_print(None)
    everything = [Path(path).read_bytes() for path in asked["paths"]]
    source = random.Random(asked["seed"])
    ways = {
        "truncated": lambda: itertools.chain.from_iterable(map(truncated, everything)),
        "flipped": lambda: itertools.chain.from_iterable(map(flipped, everything)),
        "shuffled": lambda: shuffled(everything, source),
    }
    count = dict.fromkeys(("tried", "passed", "opened", "loaded"), 0)
    end = time.monotonic() + asked["seconds"]
    with open(asked["evidence"], "r+b") as file, mmap.mmap(file.fileno(), 0) as evidence:
        for what, mutant in ways[asked["way"]]():
            count["tried"] += 1
            if check(mutant) is None:
                evidence[: len(what) + 1 + len(mutant)] = what.encode() + b"\n" + mutant
                count["passed"] += 1
                obj = lib.bpf_object__open_mem(mutant, len(mutant), None)
                if obj:
                    count["opened"] += 1
                    if asked["load"]:
                        count["loaded"] += lib.bpf_object__load(obj) == 0
                    lib.bpf_object__close(obj)
            if time.monotonic() > end and count["opened"] > asked["least"]:
                break
    print(json.dumps(count))


def survive(tmp_path: Path, way: str, paths: list[Path], seconds: float, least: int, load: bool = False) -> dict[str, int]:
    """So many seconds of mutants, and longer if no more than `least` of them were opened; how many there were of what."""
    try:
        ctypes.CDLL("libbpf.so.1")
    except OSError as error:
        pytest.skip(f"shared libbpf: there is none to open mutants with ({error})")
    evidence = tmp_path / "evidence"
    evidence.write_bytes(bytes(1 << 20))
    asked = {"way": way, "paths": list(map(str, paths)), "seconds": seconds, "load": load, "seed": 20240917,
             "evidence": str(evidence), "least": least}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run([sys.executable, __file__, json.dumps(asked)], env=environment, timeout=240 + seconds,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        what, _, mutant = evidence.read_bytes().partition(b"\n")
        crasher = tmp_path / "crasher.o"
        crasher.write_bytes(mutant)
        pytest.fail(f"libbpf died ({result.returncode}) of {what.decode()}, see {crasher}\n{result.stderr[-4000:]}")
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def victims(bpf_objects) -> list[Path]:
    """Small objects that between them hold all that libbpf reads."""
    names = ("maps", "globals", "kconfig", "core", "subprogs", "handlers")
    return [objects.build(SOURCE, "elf_forged"), *(bpf_objects[name] for name in names if name in bpf_objects)]


def test_survives_truncation_at_every_byte(victims, tmp_path):
    count = survive(tmp_path, "truncated", victims, 10, 0)
    assert count["tried"] == sum(path.stat().st_size for path in victims)
    assert count["passed"] == 0  # the section table comes last


def test_survives_every_flipped_bit(victims, tmp_path):
    count = survive(tmp_path, "flipped", victims[:3], 5, rounds(1000))
    assert count["passed"] < count["tried"]


def test_survives_random_damage(victims, tmp_path):
    count = survive(tmp_path, "shuffled", victims, 3, rounds(200))
    assert count["passed"] < count["tried"]


@pytest.mark.bpf
def test_survives_loading_what_is_damaged(victims, tmp_path):
    """Nothing is attached; programs and maps are gone when the object is closed."""
    count = survive(tmp_path, "shuffled", [*victims[1:2], *victims[4:6]], 3, 10, load=True)
    assert count["opened"] > 10


if __name__ == "__main__":
    crash_worker(sys.argv[1])
