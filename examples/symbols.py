"""Names for addresses: of the kernel from /proc/kallsyms, of processes from their files."""
from __future__ import annotations

import bisect
import functools
import struct
from pathlib import Path

FUNCTION = 2


class Table:
    """Names by the addresses where they begin."""

    def __init__(self, symbols) -> None:
        self.symbols = sorted(symbols)
        self.starts = [start for start, _ in self.symbols]

    def name(self, address: int) -> str | None:
        at = bisect.bisect_right(self.starts, address) - 1
        return self.symbols[at][1] if at >= 0 else None


@functools.lru_cache(maxsize=None)
def kernel() -> Table:
    """Empty, as far as names go, where kernel.kptr_restrict hides the addresses."""
    with open("/proc/kallsyms") as file:
        found = [(int(address, 16), name) for address, kind, name, *_ in map(str.split, file) if kind in "tTwW"]
    return Table((address, name) for address, name in found if address)


@functools.lru_cache(maxsize=256)
def of_file(path: str) -> tuple[Table, list[tuple[int, int, int]]]:
    """The functions of a 64-bit little-endian ELF file, and its segments as (offset, size, address)."""
    try:
        data = Path(path).read_bytes()
    except OSError:
        data = b""
    if data[:6] != b"\x7fELF\x02\x01":
        return Table([]), []
    programs, sections = struct.unpack_from("<QQ", data, 0x20)
    size, count, _, section_count = struct.unpack_from("<HHHH", data, 0x36)
    segments = []
    for at in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, programs + at * size)
        if kind == 1:
            segments.append((offset, length, address))
    headers = [struct.unpack_from("<IIQQQQII", data, sections + at * 64) for at in range(section_count)]
    symbols = []
    for _, kind, _, _, offset, length, link, _ in headers:
        if kind in (2, 11):  # .symtab and .dynsym
            strings = headers[link][4]
            for name, info, _, section, address, _ in struct.iter_unpack("<IBBHQQ", data[offset:offset + length]):
                if info & 15 == FUNCTION and section:
                    symbols.append((address, data[strings + name:data.index(b"\0", strings + name)].decode(errors="replace")))
    return Table(symbols), segments


class Process:
    """The files that a process has mapped, as far as it is still there."""

    def __init__(self, pid: int) -> None:
        self.root = f"/proc/{pid}/root"
        self.maps = []
        try:
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            span, rights, offset, _, _, *path = line.split(maxsplit=5)
            if "x" in rights and path:
                start, end = (int(number, 16) for number in span.split("-"))
                self.maps.append((start, end, int(offset, 16), path[0]))

    def name(self, address: int) -> str:
        for start, end, offset, path in self.maps:
            if start <= address < end:
                table, segments = of_file(self.root + path)
                at = address - start + offset
                for begin, length, base in segments:
                    if begin <= at < begin + length and (found := table.name(at - begin + base)):
                        return found
                return f"[{path.rpartition('/')[2]}]"
        return "[unknown]"
