"""What does it cost to get at a program's instructions, and does their number matter?

A view of them, a memoryview of that, and numpy arrays; the C floor asks for pointer and count, ctypes makes an array on
the same memory. No bytes are copied by any.
"""
from time import thread_time_ns as now

import numpy
import peer_ctypes
import pylbpf
import pytest
from race import Row

TIMES = 5000
RAW = numpy.dtype([("code", "u1"), ("regs", "u1"), ("off", "i2"), ("imm", "i4")])


def view(program):
    start = now()
    for _ in range(TIMES):
        made = program.insns
    return now() - start, len(made)


def memory(program):
    start = now()
    for _ in range(TIMES):
        made = memoryview(program.insns)
    took = now() - start
    return took, len(made)


def frombuffer(program):
    make = numpy.frombuffer
    start = now()
    for _ in range(TIMES):
        made = make(program.insns, RAW)
    took = now() - start
    return took, len(made)


def asarray(program):
    make = numpy.asarray
    start = now()
    for _ in range(TIMES):
        made = make(program.insns)
    took = now() - start
    assert made.dtype.names == RAW.names
    return took, len(made)


@pytest.mark.parametrize("n", [10, 1000, 100_000, 1_000_000])
def test_insns(race, floor, many, n):
    path = many(1, "many", insns=n - 2)
    with pylbpf.open(path) as obj:
        program = obj.programs["p0000"]
        assert program.insn_count == n
        raw = peer_ctypes.open_object(path)
        pointer = peer_ctypes.libbpf.bpf_object__find_program_by_name(raw, b"p0000")

        def ours(measure):
            def run():
                took, count = measure(program)
                assert count == n
                return {"view": took}

            return run

        race(
            {
                "C pointer": lambda: {"view": floor.insns(pointer, TIMES, n)},
                "program.insns": ours(view),
                "memoryview": ours(memory),
                "numpy.frombuffer": ours(frombuffer),
                "numpy.asarray": ours(asarray),
                "ctypes array": lambda: {"view": peer_ctypes.insns(pointer, TIMES, n)},
            },
            [Row("view", ["view"], TIMES, against="C pointer",
                 limits={name: 300 for name in ("program.insns", "memoryview", "numpy.asarray")})],
            timed="program.insns",
        )
        peer_ctypes.libbpf.bpf_object__close(raw)
