"""Finds the BTF in a file, which may be a kernel with gigabytes of debug information: only what is needed is read."""
from __future__ import annotations

import os
import stat
import struct
from typing import BinaryIO, Iterator

from .errors import LibbpfError

NO_BTF = 4001
MAX_NAMES = 1 << 24

# Layout of the header and of an entry of the section table: (64 bits, little endian) -> struct formats
HEADERS = {1: "HHIIIIIHHHHHH", 2: "HHIQQQIHHHHHH"}
SECTIONS = {1: "IIIIIIIIII", 2: "IIQQQQIIQQ"}
COMPRESSED, NOBITS = 0x800, 8


def read_btf(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> tuple[bytes, bytes | None]:
    """Return the raw BTF in a file, all of it or the section .BTF of an ELF file, and its .BTF.base, if it has one."""
    found: dict[bytes, bytes] = {}
    path = os.fspath(path)      # a number would be taken for a descriptor, and closed
    with open(path, "rb", opener=_open_now) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise LibbpfError(NO_BTF, "not a regular file", "read types of", os.fsdecode(path))
        magic = file.read(6)
        if magic[:4] != b"\x7fELF":
            return magic + file.read(), None
        try:
            for name, offset, size in _sections(file, magic[4], "<" if magic[5] == 1 else ">"):
                if name in (b".BTF", b".BTF.base"):
                    found.setdefault(name, _read(file, offset, size))
        except (struct.error, KeyError, IndexError):
            raise LibbpfError(NO_BTF, "a damaged ELF file", "read types of", os.fsdecode(path)) from None
    if b".BTF" not in found:
        raise LibbpfError(NO_BTF, "the ELF file has no section .BTF", "read types of", os.fsdecode(path))
    return found[b".BTF"], found.get(b".BTF.base")


def _open_now(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)     # a pipe would wait for a writer


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset + size > os.fstat(file.fileno()).st_size:
        raise struct.error("behind the end")
    file.seek(offset)
    return file.read(size)


def _sections(file: BinaryIO, bits: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and size of each section whose bytes are in the file as they are."""
    header, section = struct.Struct(order + HEADERS[bits]), struct.Struct(order + SECTIONS[bits])
    *_, at, _, _, _, _, entry, count, names = header.unpack(_read(file, 16, header.size))
    if entry != section.size or not at:
        return
    first = section.unpack(_read(file, at, entry))
    count, names = count or first[5], first[6] if names == 0xFFFF else names
    table = list(section.iter_unpack(_read(file, at, count * entry)))
    if names >= count or table[names][5] > MAX_NAMES:
        raise struct.error("no names")
    texts = _read(file, table[names][4], table[names][5])
    for name, kind, flags, _, offset, size, *_ in table:
        if kind != NOBITS and not flags & COMPRESSED and name < len(texts):
            yield texts[name:].split(b"\0", 1)[0], offset, size
