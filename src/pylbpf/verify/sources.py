"""What there is to verify: paths, patterns, folders and bytes, as a list of single objects."""
from __future__ import annotations

import errno
import glob
import os
import stat
from typing import Any, Iterable, NamedTuple, Optional, Union

Buffer = Union[bytes, bytearray, memoryview]
Item = Union[str, "os.PathLike[Any]", Buffer, "tuple[str, Buffer]"]

ELF_MACHINE = 18  # offset of e_machine
EM_BPF = 247


class Source(NamedTuple):
    """One object: the name by which reports know it, where it is, and its bytes if they were given."""

    object: str
    path: str
    data: Optional[bytes] = None

    def size(self) -> int:
        """Bytes; 0 if the file cannot be asked."""
        if self.data is not None:
            return len(self.data)
        try:
            return os.stat(self.path).st_size
        except (OSError, ValueError):
            return 0

    def shipped(self) -> Source:
        """The same, with its bytes; if they cannot be read, the other side will say why."""
        if self.data is None:
            try:
                with open(self.path, "rb") as file:
                    return self._replace(data=file.read())
            except (OSError, ValueError):
                pass
        return self


def find_sources(items: Union[Item, Iterable[Item]]) -> list[Source]:
    """All objects that the items stand for, in their order. What does not exist stays in the list, to be reported."""
    if isinstance(items, (str, bytes, bytearray, memoryview, os.PathLike)):
        items = [items]
    found: list[Source] = []
    for item in items:
        if isinstance(item, (bytes, bytearray, memoryview)):
            found.append(Source(f"<bytes {len(found)}>", "", bytes(item)))
        elif isinstance(item, (str, os.PathLike)):
            found.extend(Source(os.path.basename(path) or path, path) for path in paths_of(os.fsdecode(item)))
        else:
            name, data = named(item)
            found.append(Source(name, "", data))
    return found


def named(item: object) -> tuple[str, bytes]:
    if isinstance(item, tuple) and len(item) == 2:
        name, data = item
        if isinstance(name, str) and isinstance(data, (bytes, bytearray, memoryview)):
            return name, bytes(data)
    raise TypeError(f"an item must be a path, bytes, or a pair of a name and bytes, not {item!r:.80}")


def paths_of(path: str) -> list[str]:
    if not path:
        raise ValueError("a path is empty")
    if os.path.isdir(path):
        return sorted(objects_below(path))
    if glob.has_magic(path) and not os.path.lexists(path):
        return sorted(filter(os.path.isfile, glob.iglob(path, recursive=True))) or [path]
    return [path]


def objects_below(folder: str) -> Iterable[str]:
    """All *.o below a folder but those that are sound objects of another machine."""
    for place, _, names in os.walk(folder, onerror=fail):
        for name in names:
            path = os.path.join(place, name)
            if name.endswith(".o") and not is_foreign(path):
                yield path


def fail(error: OSError) -> None:
    if error.errno != errno.ENOENT:  # gone in the meantime
        raise error


def is_foreign(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):     # to open a FIFO would wait for a writer
            return False
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError:
        return False  # to be reported with the rest
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return False
    return int.from_bytes(head[ELF_MACHINE:20], "big" if head[5] == 2 else "little") not in (0, EM_BPF)
