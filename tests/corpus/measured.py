"""Objects for measurements: distinct CO-RE tools, and programs that take the verifier a certain time."""
from __future__ import annotations

import hashlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import kernel
import objects

from . import core, shapes
from .text import source


def core_objects(n: int, seed: int = 1) -> list[Path]:
    """n distinct objects as tools are: 5 to 40 reads of various kernel structs in a few programs, two maps, globals."""
    objects.bpfcc.compiler_version()
    sources = [core.tool(Random(f"{seed} tool {i}"), i) for i in range(n)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(objects.build, sources, [f"tool{i:04}" for i in range(n)]))


def heavy(programs: int, milliseconds: float) -> Path:
    """One object with so many programs, walk_000 and on, that each take the verifier about so long."""
    turns = max(1, min(80_000, rounded(milliseconds / milliseconds_per_turn())))
    return objects.build(walks(programs, turns), f"heavy-{programs}x{turns}")


def walks(programs: int, turns: int) -> str:
    return source(shapes.NUMBERS, *(shapes.walk(f"walk_{i:03}", turns) for i in range(programs)))


def rounded(number: float) -> int:
    """To two digits: then a calibration that came out a little different compiles nothing new."""
    return int(float(f"{number:.1e}"))


def milliseconds_per_turn() -> float:
    """What one turn of the loop costs this machine's verifier: measured once, kept with the compiled objects."""
    machine = hashlib.sha256(os.uname().release.encode() + model().encode()).hexdigest()[:16]
    kept = objects.cache_dir() / f"verifier-{machine}.json"
    try:
        return float(json.loads(kept.read_text())["milliseconds per turn"])
    except (OSError, ValueError, KeyError):
        pass
    if kernel.no_bpf():
        return 0.005  # nothing will be loaded either
    few, many = (objects.build(walks(1, turns), f"turns{turns}") for turns in (1000, 5000))
    found = max(1e-4, (load_time(many) - load_time(few)) / 4000)
    kept.write_text(json.dumps({"milliseconds per turn": found}))
    return found


def load_time(path: Path) -> float:
    """Milliseconds of CPU time that the load takes, at best."""
    import pylbpf

    times = []
    for _ in range(5):
        with pylbpf.open(path) as obj:
            start = time.thread_time_ns()
            obj.load()
            times.append((time.thread_time_ns() - start) / 1e6)
    return min(times)


def model() -> str:
    found = re.search(r"^model name\s*:.*", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group() if found else ""
