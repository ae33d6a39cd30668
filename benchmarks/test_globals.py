"""What does it cost to read and to set a global variable of a loaded object?

A __u32 in .data. The loop belongs to the times of all but C; "loop" is that alone, of an attribute of a Python object. ctypes
has the address that libbpf would give it: no name, no check.
"""
import ctypes
from time import thread_time_ns as now

import objects
import pylbpf
from race import Row

TIMES = 100_000
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u32 rate = 5;
SEC("socket") int use(void *ctx) { return rate; }
char _license[] SEC("license") = "GPL";
"""


def attribute(variables):
    start = now()
    for _ in range(TIMES):
        variables.rate
    read = now() - start
    start = now()
    for i in range(TIMES):
        variables.rate = i
    return {"read": read, "write": now() - start}


def through_object(obj):
    start = now()
    for _ in range(TIMES):
        obj.globals.rate
    read = now() - start
    start = now()
    for i in range(TIMES):
        obj.globals.rate = i
    return {"read": read, "write": now() - start}


def by_ctypes(cell):
    start = now()
    for _ in range(TIMES):
        cell.value
    read = now() - start
    start = now()
    for i in range(TIMES):
        cell.value = i
    return {"read": read, "write": now() - start}


class Plain:
    rate = 5


def test_globals(race, floor, bpf):
    cell = ctypes.c_uint32()
    with pylbpf.open(objects.build(SOURCE, "variable")) as obj:
        obj.load()
        assert obj.globals.rate == 5
        race(
            {
                "C": lambda: floor.variable(ctypes.addressof(cell), TIMES),
                "globals.rate": lambda: attribute(obj.globals),
                "obj.globals.rate": lambda: through_object(obj),
                "ctypes": lambda: by_ctypes(cell),
                "loop": lambda: attribute(Plain()),
            },
            [Row(name, [name], TIMES, limits={"globals.rate": 80, "obj.globals.rate": 80}) for name in ("read", "write")],
            timed="globals.rate",
        )
        assert obj.globals.rate == TIMES - 1
