"""Files that do not open: damaged ones, others that are no objects at all, definitions that libbpf does not take."""
from __future__ import annotations

import struct
from random import Random
from typing import Callable

from .text import Kind, count, map, plain, program, source

RAW = "raw_tp/task_rename"


def good(draw: Random, variant: int) -> str:
    """What is then damaged: two maps, globals, a static function, relocations."""
    return source(
        map("first", "ARRAY", 4), map("second", "HASH", draw.randrange(1, 100)), f"__u64 seen = {variant + 1};",
        "static __noinline int zero(int i) { asm volatile(\"\" : \"+r\"(i)); return i - i; }",
        *(plain(RAW, f"p{i}", draw, count("first", i), "seen += zero(3);") for i in range(draw.randrange(1, 6))),
    )


# ---------------------------------------------------------------- damage

TABLE_AT, COUNT_AT, NAMES_AT = 0x28, 0x3C, 0x3E  # in the ELF header: section headers, their number, their names
SECTION = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, addr, offset, size, link, info, addralign, entsize
SYMTAB = 2


def truncated(elf: bytes, draw: Random, variant: int) -> bytes:
    cuts = [1, 16, 63, 64, len(elf) // 4, len(elf) // 2, len(elf) - 200, len(elf) - 64, len(elf) - 1]
    return elf[: cuts[variant % len(cuts)]]


def patched(elf: bytes, at: int, value: bytes) -> bytes:
    return elf[:at] + value + elf[at + len(value) :]


def wrong_magic(elf: bytes, draw: Random, variant: int) -> bytes:
    return patched(elf, variant % 4, b"\xff")


def big_endian(elf: bytes, draw: Random, variant: int) -> bytes:
    """As a big-endian machine writes it, header and section headers."""
    (table,), (number,) = struct.unpack_from("<Q", elf, TABLE_AT), struct.unpack_from("<H", elf, COUNT_AT)
    header = struct.Struct("HHIQQQIHHHHHH")
    fields = struct.unpack("<" + header.format, elf[16:64])
    swapped = patched(elf, 5, b"\2")
    swapped = patched(swapped, 16, struct.pack(">" + header.format, *fields))
    for i in range(number):
        at = table + i * SECTION.size
        swapped = patched(swapped, at, struct.pack(SECTION.format.replace("<", ">"), *SECTION.unpack_from(elf, at)))
    return swapped


def other_kind(elf: bytes, draw: Random, variant: int) -> bytes:
    """Of 32 bits, for another machine, a program instead of an object file, of unknown type."""
    at, value = [(4, b"\1"), (18, b"\x3e\0"), (16, b"\2\0"), (16, b"\1\xff")][variant % 4]
    return patched(elf, at, value)


def section_table(elf: bytes, draw: Random, variant: int) -> bytes:
    """Section headers that are elsewhere, too many, or whose names are nowhere."""
    at, value = [(TABLE_AT, struct.pack("<Q", len(elf) + 8)), (COUNT_AT, b"\xff\x7f"), (NAMES_AT, b"\xff\x7f"),
                 (TABLE_AT, struct.pack("<Q", 1 << 63)), (TABLE_AT, struct.pack("<Q", len(elf) - 64))][variant % 5]
    return patched(elf, at, value)


def headers(elf: bytes) -> list[tuple[int, tuple[int, ...]]]:
    """Where each section header is, and what it says."""
    (table,), (number,) = struct.unpack_from("<Q", elf, TABLE_AT), struct.unpack_from("<H", elf, COUNT_AT)
    return [(at, SECTION.unpack_from(elf, at)) for at in range(table, table + number * SECTION.size, SECTION.size)]


def named(elf: bytes, name: bytes) -> tuple[int, tuple[int, ...]]:
    found = headers(elf)
    names = found[struct.unpack_from("<H", elf, NAMES_AT)[0]][1]
    for at, header in found:
        start = names[4] + header[0]
        if elf[start : elf.index(b"\0", start)] == name:
            return at, header
    raise KeyError(name)


def section_bounds(elf: bytes, draw: Random, variant: int) -> bytes:
    """A section that lies beyond the file, in its offset (24) or in its size (32)."""
    at, _ = named(elf, [RAW.encode(), b".BTF", b".maps", b".strtab", b".data"][variant % 5])
    return patched(elf, at + (24 if variant % 2 else 32), struct.pack("<Q", 1 << draw.randrange(24, 63)))


def btf(elf: bytes, draw: Random, variant: int) -> bytes:
    """BTF of a wrong magic, or whose header says that types or strings are elsewhere; maps cannot do without it."""
    _, header = named(elf, b".BTF")
    at, value = [(0, b"\0\0"), (8, b"\xff\xff\xff\x7f"), (12, b"\xff\xff\xff\x7f"), (16, b"\xff\xff\xff\x7f"),
                 (20, b"\xff\xff\xff\x7f")][variant % 5]
    return patched(elf, header[4] + at, value)


def relocation(elf: bytes, draw: Random, variant: int) -> bytes:
    """A relocation of an instruction that is not there, or by a symbol that is not."""
    _, header = named(elf, b".rel" + RAW.encode())
    at, value = [(0, b"\xff\xff\xff\x7f"), (12, b"\xff\xff\xff\x7f"), (0, b"\4")][variant % 3]
    return patched(elf, header[4] + at, value)


def symbols(elf: bytes, draw: Random, variant: int) -> bytes:
    """A symbol table that is not there, has symbols of no size, or names that are nowhere."""
    at, header = next((at, header) for at, header in headers(elf) if header[1] == SYMTAB)
    if variant % 3 == 0:
        return patched(elf, at + 4, b"\1")
    if variant % 3 == 1:
        return patched(elf, at + 56, struct.pack("<Q", 0))
    return patched(elf, at + 40, b"\xff\xff")


def no_object(draw: Random, variant: int) -> bytes:
    """Nothing, text, an archive, zeros, noise, an ELF header with nothing behind it."""
    return [b"", b"int main(void) { return 0; }\n", b"!<arch>\n" + bytes(60), bytes(4096), draw.randbytes(5000),
            b"\x7fELF\2\1\1" + bytes(57)][variant % 6]


# ---------------------------------------------------------------- definitions


def map_definition(draw: Random, variant: int) -> str:
    """Maps as libbpf no longer has them, of no type, with a member that it does not know, and in a section too long."""
    definition = [
        'struct { int type, key_size, value_size, max_entries; } old SEC("maps") = { 2, 4, 8, 1 };',
        'struct { __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } typeless SEC(".maps");',
        'struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(colour, 4); } strange SEC(".maps");',
        'struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __uint(key_size, 7); } both SEC(".maps");',
        'int number SEC(".maps") = 7;',
    ][variant % 5]
    return source(definition, plain(RAW, "p", draw))


def unresolved(draw: Random, variant: int) -> str:
    """A function or a variable that nobody defines and that is said to be nowhere."""
    return source(f"extern int nowhere_{variant}(int); extern int nothing_{variant};", program(
        RAW, "p", f"if (nowhere_{variant}(1)) return 1;" if variant % 2 else f"if (nothing_{variant}) return 1;"))


def kconfig_type(draw: Random, variant: int) -> str:
    """A setting of the kernel's as a type that it cannot have."""
    return source("struct pair { int a, b; };", "extern struct pair CONFIG_BPF_SYSCALL __kconfig;",
                  program(RAW, "p", f"if (CONFIG_BPF_SYSCALL.b == {variant}) return 1;"))


def damaged(damage: Callable[[bytes, Random, int], bytes]) -> Kind:
    return Kind(good, "refused", damage=damage)


DAMAGE = (truncated, wrong_magic, big_endian, other_kind, section_table, section_bounds, btf, relocation, symbols)
KINDS = {
    **{f"damaged_{damage.__name__}": damaged(damage) for damage in DAMAGE},
    "no_object": Kind(no_object, "refused"),
    "map_definition": Kind(map_definition, "refused"),
    "unresolved": Kind(unresolved, "refused"),
    "kconfig_type": Kind(kconfig_type, "refused"),
}
