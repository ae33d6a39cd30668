"""What does opening an object cost, from a file and from memory, and how does it grow with programs and sections?

Time of the open call, per program. Closing is timed apart. libbpf's own open is quadratic in the number of sections,
so one section with all programs shows best what others add to it.
"""
import pytest
from time import thread_time_ns as now

import peer_ctypes
import pylbpf
from race import Row


def open_and_close(source, programs):
    start = now()
    obj = pylbpf.open(source)
    opened = now() - start
    assert len(obj.programs) == programs and obj.state == pylbpf.State.OPEN
    start = now()
    obj.close()
    return {"open": opened, "close": now() - start}


def repeated(measure, times):
    """Small objects are gone before caches are warm: several in a row are one sample."""

    def run():
        samples = [measure() for _ in range(times)]
        return {phase: sum(sample[phase] for sample in samples) for phase in samples[0]}

    return run


@pytest.mark.parametrize("source", ["file", "memory"])
@pytest.mark.parametrize("n, sections", [(1, "one"), (100, "each"), (1000, "each"), (1000, "one")])
def test_open(race, floor, many, n, sections, source):
    path = many(n, "many" if sections == "one" else "many/{i}")
    given = path if source == "file" else path.read_bytes()
    times = max(2, 100 // n)
    race(
        {
            "C": repeated(lambda: floor.open(given, n), times),
            "pylbpf": repeated(lambda: open_and_close(given, n), times),
            "ctypes": floor.quietly(repeated(lambda: peer_ctypes.open_and_close(given, n), times)),
        },
        [
            Row("open", ["open"], n * times, ratios={"pylbpf": 1.03} if n == 1000 else {}),
            Row("close", ["close"], n * times),
        ],
    )
