"""What does it take to open and load many objects, against a loop in C that takes one after the other?

Wall time per object. CO-RE objects as tools are, each with fields of several kernel structs, two maps and globals; and
small ones of two programs without CO-RE, where next to nothing can be shared. All stay loaded until the
end, when they are closed.
"""
import corpus
import kernel
import objects
import pylbpf
import pytest
from race import Row
from time import perf_counter_ns as now

SMALL = ["raw_tp/task_rename", "tp/task/task_rename"]


def loaded(paths, threads, **options):
    start = now()
    report = pylbpf.load_many(paths, threads=threads, **options)
    took = now() - start
    assert [result.error for result in report if not result.ok] == []
    start = now()
    report.close()
    return {"load": took, "close": now() - start}


def run(race, batch_floor, paths, wanted):
    contestants = {"C": lambda: batch_floor.load(paths)}
    if hasattr(pylbpf, "load_many"):
        contestants["pylbpf"] = lambda: loaded(paths, 1)
        contestants["pylbpf, 2 threads"] = lambda: loaded(paths, 2)
        contestants["pylbpf, 1 thread, nothing shared"] = lambda: loaded(paths, 1, share_kernel_btf=False)
    race(
        contestants,
        [Row("load", ["load"], len(paths), "us", clock="wall", ratios=wanted),
         Row("close", ["close"], len(paths), "us", clock="wall")],
        share=0.2, timed="pylbpf" if "pylbpf" in contestants else "C",
    )


def test_load_core_objects(race, batch_floor, bpf, size):
    if kernel.no_btf():
        pytest.skip(kernel.no_btf())
    run(race, batch_floor, corpus.core_objects(size(200, 8)), {"pylbpf": 0.45, "pylbpf, 2 threads": 0.25})


def test_load_small_objects(race, batch_floor, bpf, size):
    paths = [objects.build(objects.many(2, SMALL, insns=i), "small") for i in range(1, size(200, 8) + 1)]
    run(race, batch_floor, paths, {})
