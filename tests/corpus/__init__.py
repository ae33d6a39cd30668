"""A corpus: hundreds of different BPF objects, sound and unsound, each with what is to be expected of it.

build() makes the same objects for the same seed, whatever their number; compiled ones are kept as all test objects are.
core_objects() and heavy() are for benchmarks.
"""
from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import kernel
import objects

from . import core, hooks, refused, rejected, shapes
from .measured import core_objects as core_objects
from .measured import heavy as heavy
from .text import Kind

KINDS: dict[str, Kind] = {**hooks.KINDS, **shapes.KINDS, **core.KINDS, **rejected.KINDS, **refused.KINDS}


@dataclasses.dataclass(frozen=True)
class Item:
    """One object. `expected` is what open and load come to one by one, with handlers():

    "loads", "rejected" (opens, and load fails) or "refused" (does not open).
    """

    name: str
    path: Path
    kind: str
    expected: str
    needs: str = ""
    handled: bool = False

    @property
    def missing(self) -> str:
        """Why this may come to something else here: what kernel or libbpf lack; "" if they lack nothing."""
        return without(self.needs)


def handlers() -> list[object]:
    """New handlers for the sections of the kind `handled`; other kinds have no use for them."""
    import pylbpf

    return [
        pylbpf.ProgramHandler(section="corpus+", program_type=pylbpf.ProgramType.RAW_TRACEPOINT),
        pylbpf.ProgramHandler(section="shape/", program_type=pylbpf.ProgramType.XDP),
    ]


def build(count: int = 320, seed: int = 1) -> list[Item]:
    """The first `count` items: one of each kind, then the next variant of each."""
    plan = list(itertools.islice(((name, variant) for variant in itertools.count() for name in KINDS), count))
    objects.bpfcc.compiler_version()  # in this thread, once
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda entry: item(*entry, seed), plan))


def item(name: str, variant: int, seed: int) -> Item:
    kind = KINDS[name]
    full = f"{name}-{variant:02}"
    draw = Random(f"{seed} {full}")
    made = kind.make(draw, variant)
    if isinstance(made, str):
        path = objects.build(made, full)
    if kind.damage:
        made = kind.damage(path.read_bytes(), draw, variant)
    if isinstance(made, bytes):
        path = written(made, full)
    return Item(full, path, name, kind.expected, kind.needs, kind.handled)


def written(data: bytes, name: str) -> Path:
    """A file that no compiler made, kept beside those of the compiler."""
    path = objects.cache_dir() / hashlib.sha256(data).hexdigest()[:16] / f"{name}.bpf.o"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
    return path


@functools.lru_cache(maxsize=None)
def without(needs: str) -> str:
    """The first of these needs that is not met, in words: "btf, libbpf 1.3, program type 32"."""
    for need in filter(None, needs.split(", ")):
        what, _, number = need.rpartition(" ")
        if what == "libbpf":
            import pylbpf

            wanted = tuple(map(int, number.split(".")))
            reason = "" if pylbpf.libbpf_version() >= wanted else f"libbpf >= {number}: this one is older"
        elif what:
            reason = kernel.no_program_type(int(number)) if what == "program type" else kernel.no_map_type(int(number))
        else:
            reason = getattr(kernel, f"no_{need}")()
        if reason:
            return str(reason)
    return ""
