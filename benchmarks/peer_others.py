"""Other Python bindings, where they are installed: they bring a libbpf of their own, so they are compared with reserve.

bcc compiles at run time and wants the kernel's headers for that; its tables take part without, on a map of ours.
"""
from __future__ import annotations

import ctypes
import importlib
import importlib.util
from pathlib import Path
from time import thread_time_ns as now
from typing import Any, Callable, Sequence

# Said under the table: a peer that takes no part must not pass for one that was beaten.
PEERS = {"pylibbpf": "pip install pylibbpf llvmlite", "bcc": "the distribution's python3-bpfcc"}
UNUSABLE: dict[str, str] = {}  # installed, but


def missing() -> str:
    """Who takes no part, and why."""
    absent = {name: f"not installed: {how}" for name, how in PEERS.items() if importlib.util.find_spec(name) is None}
    return ", ".join(f"{name} ({why})" for name, why in {**absent, **UNUSABLE}.items())


def imported(name: str) -> Any:
    """The module, or None."""
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.import_module(name)
    except ImportError as error:
        UNUSABLE[name] = f"cannot be imported: {error}"
        return None


def map_elements(path: Path, name: str, fd: int, n: int) -> dict[str, Callable[[], dict[str, int]]]:
    """Contestants for the elements of a hash map with numbers of 8 bytes as keys and values, there is one at `fd`."""
    contestants = {}
    if binding := imported("pylibbpf"):
        opened = binding.BpfObject(str(path))
        opened.load()
        numbers = opened[name]

        def by_pylibbpf(opened: Any = opened) -> dict[str, int]:  # the map does not keep its object
            return elements(numbers.update, numbers.lookup, numbers.delete_elem, range(n))

        contestants["pylibbpf"] = by_pylibbpf
    if bcc := imported("bcc"):

        class Table(bcc.table.HashTable):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:  # without a program that was compiled
                self.map_fd, self.Key, self.Leaf = fd, ctypes.c_uint64, ctypes.c_uint64

        table = Table()
        keys = [table.Key(number) for number in range(n)]
        contestants["bcc"] = lambda: elements(
            lambda key, value: table.__setitem__(key, table.Leaf(value)), lambda key: table[key].value,
            table.__delitem__, keys)
    return contestants


def elements(update: Any, lookup: Any, delete: Any, keys: Sequence[Any]) -> dict[str, int]:
    times = {}
    start = now()
    for number, key in enumerate(keys):
        update(key, number + 1)
    times["update"] = now() - start
    start = now()
    found = [lookup(key) for key in keys]
    times["lookup"] = now() - start
    assert found == list(range(1, len(keys) + 1))
    start = now()
    for key in keys:
        delete(key)
    times["delete"] = now() - start
    return times
