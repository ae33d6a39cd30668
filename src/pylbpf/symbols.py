"""Names for addresses, as stacks have them: of the kernel from /proc/kallsyms, of processes from the files they have mapped."""
from __future__ import annotations

import bisect
import errno
import functools
import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple

__all__ = ["Symbol", "Kernel", "Process", "kernel"]

FUNCTIONS = {2, 10}     # STT_FUNC, STT_GNU_IFUNC
TABLES = {2, 11}        # SHT_SYMTAB, SHT_DYNSYM
LONGEST = 1 << 16       # bytes of a name
MOST_NAMES = 4          # bytes of all names, for each byte of the file: they may overlap, and a megabyte make gigabytes of them
SHORT_OF = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES}


class Symbol(NamedTuple):
    """What an address is in: ``name`` of the function, ``offset`` in it (bytes), ``module`` (of the kernel) or file.

    Without a name, "", where only the file is known; ``offset`` is then one in the file.
    """

    name: str
    offset: int
    module: str

    def __str__(self) -> str:
        return f"{self.name or self.module or '?'}+{self.offset:#x}"


class Table:
    """Names by the addresses where they begin."""

    def __init__(self, symbols: list[tuple[int, str, str]]) -> None:
        self.symbols = sorted(symbols)
        self.starts = [symbol[0] for symbol in self.symbols]

    def resolve(self, address: int) -> Symbol | None:
        at = bisect.bisect_right(self.starts, address) - 1
        if at < 0:
            return None
        start, name, module = self.symbols[at]
        return Symbol(name, address - start, module)


class Kernel:
    """The functions of the kernel, its modules and its BPF programs, as they were when it was made.

    Without a single one where kernel.kptr_restrict hides the addresses. /proc/kallsyms of Linux.
    """

    def __init__(self) -> None:
        found: list[tuple[int, str, str]] = []
        with open("/proc/kallsyms") as file:
            for line in file:
                address, kind, name, *module = line.split()
                if kind in "tTwW" and address.strip("0"):
                    found.append((int(address, 16), name, module[0][1:-1] if module else ""))
        self.table = Table(found)

    def __len__(self) -> int:
        return len(self.table.symbols)

    def resolve(self, address: int) -> Symbol | None:
        """The Symbol of an address, or None."""
        return self.table.resolve(address)

    @functools.cached_property
    def addresses(self) -> dict[str, list[int]]:
        """Where functions of a name are, several of static ones."""
        found: dict[str, list[int]] = {}
        for address, name, _ in self.table.symbols:
            found.setdefault(name, []).append(address)
        return found


@functools.lru_cache(maxsize=1)
def kernel() -> Kernel:
    """A Kernel, read once in the life of the process; Kernel() reads anew. /proc/kallsyms of Linux."""
    return Kernel()


class File:
    """The functions of an ELF file of this machine's byte order, and its segments as (offset, size, address)."""

    def __init__(self, path: str) -> None:
        self.table = Table([])
        self.again = False      # whether it may be read another time
        self.segments: list[tuple[int, int, int]] = []
        try:
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if data[:4] == b"\x7fELF":
                    self.read(data, data[4] == 2)
        except OSError as error:
            self.again = error.errno in SHORT_OF
        except (struct.error, IndexError, ValueError, OverflowError, MemoryError):
            pass    # gone, none of our business, or not what it says it is

    def read(self, data: mmap.mmap, wide: bool) -> None:
        programs, sections = struct.unpack_from("=QQ" if wide else "=II", data, 0x20 if wide else 0x1C)
        size, count, section_size, section_count = struct.unpack_from("=HHHH", data, 0x36 if wide else 0x2A)
        for at in range(programs, programs + size * count, size):
            if wide:
                kind, _, offset, address, _, length = struct.unpack_from("=IIQQQQ", data, at)
            else:
                kind, offset, address, _, length = struct.unpack_from("=IIIII", data, at)
            if kind == 1:
                self.segments.append((offset, length, address))
        headers = [struct.unpack_from("=IIQQQQI" if wide else "=IIIIIII", data, sections + at * section_size)
                   for at in range(section_count)]
        found: list[tuple[int, str, str]] = []
        budget = MOST_NAMES * len(data)
        for wanted in TABLES:
            # There is one of each at most.
            for offset, length, link in [header[4:] for header in headers if header[1] == wanted][:1]:
                strings = headers[link][4]
                for entry in struct.iter_unpack("=IBBHQQ" if wide else "=IIIBBH", data[offset:offset + length]):
                    name, info, section, address = ((entry[0], entry[1], entry[3], entry[4]) if wide
                                                    else (entry[0], entry[3], entry[5], entry[1]))
                    if info & 15 in FUNCTIONS and section:
                        end = data.find(b"\0", strings + name, strings + name + LONGEST)
                        budget -= end - strings - name if end >= 0 else LONGEST
                        if budget < 0:
                            raise ValueError("names without end")
                        if end >= 0:
                            found.append((address, data[strings + name:end].decode(errors="replace"), ""))
        self.table = Table(found)

    def resolve(self, offset: int) -> Symbol | None:
        """The function at an offset in the file."""
        for begin, length, base in self.segments:
            if begin <= offset < begin + length:
                return self.table.resolve(offset - begin + base)
        return None


_files: dict[tuple[int, int, int, int], File] = {}


def file_of(path: str, identity: tuple[int, int, int, int]) -> File:
    """By what it is and not by its name, which differs from process to process."""
    found = _files.get(identity)
    if found is None:
        found = File(path)
        if len(_files) >= 1024:
            _files.pop(next(iter(_files)))
        if not found.again:
            _files[identity] = found
    return found


class Process:
    """What a process has mapped, as it was when this was made; nothing of one that is gone or not to be looked into.

    Files are read in the process's own name spaces, also deleted ones where CAP_SYS_ADMIN allows, and kept for all
    processes that have the same ones. /proc/PID/maps of Linux.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.maps: list[tuple[int, int, int, str]] = []
        try:
            lines = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines()
        except OSError:
            return
        for line in lines:
            span, rights, offset, _, _, *path = line.split(maxsplit=5)
            if "x" in rights:
                start, end = (int(number, 16) for number in span.split("-"))
                self.maps.append((start, end, int(offset, 16), path[0] if path else ""))
        self.starts = [each[0] for each in self.maps]

    def __len__(self) -> int:
        return len(self.maps)

    def resolve(self, address: int) -> Symbol | None:
        """The Symbol of an address; None for what is in no executable mapping, with a name of "" where no symbol is known."""
        at = bisect.bisect_right(self.starts, address) - 1 if self.maps else -1
        if at < 0 or address >= self.maps[at][1]:
            return None
        start, end, offset, path = self.maps[at]
        place = address - start + offset
        found = self.file(start, end, path).resolve(place) if path.startswith("/") else None
        return Symbol("", place, path) if found is None else found._replace(module=path)

    def file(self, start: int, end: int, path: str) -> File:
        for where in f"/proc/{self.pid}/map_files/{start:x}-{end:x}", f"/proc/{self.pid}/root{path}":
            try:
                seen = os.stat(where)
            except OSError:
                continue
            return file_of(where, (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns))
        return File("")
