"""What does it cost to run a program by hand, and to look at all programs of the system?

The program returns at once, on a packet of 64 bytes, in a call of its own each time: repeat=1. pylbpf makes a result with the
packet as it came back; ctypes and C leave it where it is. Of all programs the kernel's numbers are summed up, from 1000
more that the benchmark has loaded.
"""
import ctypes
import os
from ctypes import POINTER, byref, c_int64, c_long, c_uint64
from time import thread_time_ns as now

import objects
import pytest

import pylbpf
from floor import build, check
from pathlib import Path
from race import Row

RUNS = 5000
PACKET = bytes(64)
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }
"""


@pytest.fixture(scope="module")
def library():
    found = ctypes.CDLL(str(build(Path(__file__).with_name("floor_system.c"))))
    found.floor_test_run.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32, c_long, POINTER(c_int64)]
    found.floor_programs.argtypes = [POINTER(c_uint64), POINTER(c_int64)]
    for function in (found.floor_test_run, found.floor_programs):
        function.restype = c_long
        function.errcheck = check
    return found


def test_test_run(race, bpf, library):
    def in_c():
        took = c_int64()
        assert library.floor_test_run(program.fd, PACKET, len(PACKET), RUNS, byref(took)) == 2
        return {"test_run": took.value}

    def in_python():
        run, start = program.test_run, now()
        for _ in range(RUNS):
            result = run(PACKET)
        took = now() - start
        assert (result.retval, result.data) == (2, PACKET)
        return {"test_run": took}

    with pylbpf.open(objects.build(SOURCE, "pass")) as obj:
        obj.load()
        program = obj.programs["pass"]
        race({"C": in_c, "pylbpf": in_python}, [Row("test_run", ["test_run"], RUNS, ratios={"pylbpf": 1.2})])


def test_all_programs(race, bpf, library, many, size):
    programs = size(1000, 20)

    def in_c():
        took, total = c_int64(), c_uint64()
        found = library.floor_programs(byref(total), byref(took))
        assert found >= programs
        return {"programs": took.value}

    def in_python():
        start = now()
        total = sum([info.id for info in pylbpf.query.programs()])
        took = now() - start
        assert total > 0
        return {"programs": took}

    with pylbpf.open(many(programs, "raw_tp/task_rename")) as obj:
        obj.load()
        race({"C": in_c, "pylbpf": in_python}, [Row("all programs", ["programs"], programs, ratios={"pylbpf": 1.5})])
    assert os.getpid()
