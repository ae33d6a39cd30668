"""How much faster does one object load when its programs are verified on two threads?

Wall time of the load of 64 programs that each take the verifier some 15 ms.
"""
import corpus
import pylbpf
from race import Row
from time import perf_counter_ns as now


def load(path, programs, **options):
    with pylbpf.open(path) as obj:
        start = now()
        obj.load(**options)
        took = now() - start
        assert sum(program.fd >= 0 for program in obj.programs.values()) == programs
    return {"load": took}


def takes_threads(path):
    with pylbpf.open(path) as obj:
        try:
            obj.load(threads=2)
        except TypeError:
            return False
    return True


def test_load_one_object(race, batch_floor, bpf, size):
    programs = size(64, 4)
    path = corpus.heavy(programs, size(15, 1))
    contestants = {
        "C": lambda: batch_floor.load([path], programs),
        "pylbpf": lambda: load(path, programs),
    }
    if takes_threads(path):
        contestants["pylbpf, 2 threads"] = lambda: load(path, programs, threads=2)
    race(
        contestants,
        [Row("load", ["load"], programs, "ms", clock="wall", ratios={"pylbpf, 2 threads": round(1 / 1.85, 3)})],
        share=0.2,
    )
