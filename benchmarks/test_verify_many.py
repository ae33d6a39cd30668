"""How much faster is a corpus verified than by a sequential program in C?

Wall time per program, of hundreds of objects of all sorts, also such as the verifier refuses. C opens each object once
to see its programs, and once for each program to load it alone. Both must come to the same verdicts. Files that are
damaged are left out: plain libbpf cannot be trusted with them.
"""
import corpus
import pylbpf
from race import Row
from time import perf_counter_ns as now


def test_verify_corpus(race, batch_floor, bpf, size):
    items = corpus.build(size(320, 102))
    paths = [item.path for item in items if item.expected != "refused"]
    if size(1, 0) == 0:
        paths = paths[::8]
    first = batch_floor.verify(paths)
    programs = first.accepted + first.rejected
    assert first.refused == 0 and first.accepted and first.rejected

    def in_c():
        times = batch_floor.verify(paths)
        assert (times.accepted, times.rejected) == (first.accepted, first.rejected)
        return {"verify": times.took}

    def own(threads):
        start = now()
        report = pylbpf.verify_many(paths, threads=threads)
        took = now() - start
        named = [result for result in report if result.program]
        # One that is accepted and has an errno failed later, which C cannot tell apart.
        accepted = sum(result.verdict == "accepted" and not result.errno for result in named)
        assert (len(named), accepted) == (programs, first.accepted)
        return {"verify": took}

    among = {"C": in_c}
    if hasattr(pylbpf, "verify_many"):
        among["pylbpf"] = lambda: own(2)
        among["pylbpf, 1 thread"] = lambda: own(1)
    race(
        among,
        [Row("verify", ["verify"], programs, "us", clock="wall", ratios={"pylbpf": round(1 / 1.8, 3)})],
        share=0.1, timed="pylbpf" if "pylbpf" in among else "C",
    )
