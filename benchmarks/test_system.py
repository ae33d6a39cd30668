"""What does it cost to run a program by hand, to look at all programs of the system, and to attach to thousands of places?

The program returns at once, on a packet of 64 bytes, in a call of its own each time: repeat=1. pylbpf makes a result with the
packet as it came back; ctypes and C leave it where it is. Of all programs the kernel's numbers are summed up, from 1000
more that the benchmark has loaded. A pattern means 5000 functions of a library, a USDT probe stands at 5000 places of it; each is one
link where the kernel and libbpf (1.3) have such. Of the kernel's functions it is as near to 5000 as a beginning of their names
comes; they are given by a pattern, and as lists of Python of the same names and addresses. A cgroup is one place, attached to and
left again and again.
"""
import collections
import ctypes
import os
from ctypes import POINTER, byref, c_int64, c_long, c_uint64
from itertools import repeat
from time import perf_counter_ns as wall, thread_time_ns as now

import kernel
import objects
import peer_ctypes
import pytest

import pylbpf
import usdt
from floor import build, check
from handling import compile_c
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
    found.floor_wildcard.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, POINTER(c_int64), POINTER(c_int64)]
    found.floor_functions.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t,
                                      POINTER(c_int64), POINTER(c_int64)]
    found.floor_cgroup.argtypes = [ctypes.c_void_p, ctypes.c_int, c_long, POINTER(c_int64)]
    for function in (found.floor_test_run, found.floor_programs, found.floor_wildcard, found.floor_functions, found.floor_cgroup):
        function.restype = c_long if function in (found.floor_test_run, found.floor_programs) else ctypes.c_int
        function.errcheck = check
    return found


def test_test_run(race, bpf, library):
    def in_c():
        took = c_int64()
        assert library.floor_test_run(program.fd, PACKET, len(PACKET), RUNS, byref(took)) == 2
        return {"test_run": took.value}

    def in_python():
        run, start = program.test_run, now()
        for _ in repeat(None, RUNS):        # which makes no number for each
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


# ---------------------------------------------------------------- thousands of places

SITES = 5000
PROBES = """
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/usdt.bpf.h>
SEC("uprobe.multi") int on_function(struct pt_regs *ctx) { return 0; }
SEC("usdt") int on_probe(struct pt_regs *ctx) { return bpf_usdt_arg_cnt(ctx); }
char _license[] SEC("license") = "GPL";
"""


def crowded(sites):
    """A library of so many functions f..., each with the probe."""
    path = objects.cache_dir() / f"crowded_{sites}.so"
    if not path.exists():
        compile_c("\n".join(usdt.LIBRARY.replace("void probe", f"void f{site:04}") for site in range(sites)), path)
    return path


def attach_and_close(attach):
    start = wall()
    link = attach()
    attached = wall() - start
    start = wall()
    link.close()
    return {"attach": attached, "destroy": wall() - start}


@pytest.mark.parametrize("name", ["on_function", "on_probe"])
def test_wildcard(race, bpf, library, size, floor, name):
    if pylbpf.libbpf_version() < (1, 3) or kernel.no_uprobe_multi():
        pytest.skip(kernel.no_uprobe_multi() or "libbpf >= 1.3: one link for many uprobes")
    sites = size(SITES, 50)
    path, where = objects.build(PROBES, "crowd"), crowded(sites)
    probe = name == "on_probe"
    raw = peer_ctypes.open_object(path)
    assert peer_ctypes.libbpf.bpf_object__load(raw) == 0
    pointer = peer_ctypes.libbpf.bpf_object__find_program_by_name(raw, name.encode())

    def in_c():
        attached, destroyed = c_int64(), c_int64()
        library.floor_wildcard(pointer, os.fsencode(where), b"probe" if probe else None, byref(attached), byref(destroyed))
        return {"attach": attached.value, "destroy": destroyed.value}

    def attach():
        return (program.attach_usdt(where, "pylbpf", "probe", pid=0) if probe
                else program.attach_uprobe_multi(where, "f*", pid=0))

    with pylbpf.open(path) as obj:
        obj.load()
        program = obj.programs[name]
        words = "USDT places" if probe else "functions"
        race({"C": floor.quietly(in_c), "pylbpf": lambda: attach_and_close(attach)},
             [Row(f"{sites} {words}, attach", ["attach"], sites, clock="wall", ratios={"pylbpf": 1.1}),
              Row(f"{sites} {words}, destroy", ["destroy"], sites, clock="wall")], share=0.2)
    peer_ctypes.libbpf.bpf_object__close(raw)


KERNEL_FUNCTIONS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("kprobe.multi") int on_function(void *ctx) { return 0; }
char _license[] SEC("license") = "GPL";
"""


def traceable(wanted):
    """A beginning of names, and the functions so named that can be traced, some `wanted`: {name: address} of those that are
    the only ones of their name. Without addresses before Linux 6.5."""
    folder = kernel.tracefs()
    with_addresses = (folder / "available_filter_functions_addrs").exists()
    text = (folder / f"available_filter_functions{'_addrs' if with_addresses else ''}").read_text()
    lines = [line.split() for line in text.splitlines() if "[" not in line and "__ftrace_invalid" not in line]
    found = [(line[-1], int(line[0], 16) if with_addresses else None) for line in lines]
    beginnings = collections.Counter(name[:length] for name, _ in found for length in (1, 2, 3) if len(name) >= length)
    beginning = min(beginnings, key=lambda each: abs(beginnings[each] - wanted))
    times = collections.Counter(name for name, _ in found)
    return beginning, {name: at for name, at in found if name.startswith(beginning) and times[name] == 1}


@pytest.mark.parametrize("by", ["pattern", "names", "addresses"])
def test_functions(race, bpf, library, size, floor, by):
    if kernel.no_kprobe_multi() or not kernel.tracefs():
        pytest.skip(kernel.no_kprobe_multi() or "tracefs: not mounted")
    beginning, functions = traceable(size(SITES, 50))
    names, addresses = list(functions), list(functions.values())
    if by == "addresses" and None in addresses:
        pytest.skip("Linux >= 6.5: addresses of the functions that can be traced")
    path = objects.build(KERNEL_FUNCTIONS, "functions")
    raw = peer_ctypes.open_object(path)
    assert peer_ctypes.libbpf.bpf_object__load(raw) == 0
    pointer = peer_ctypes.libbpf.bpf_object__find_program_by_name(raw, b"on_function")
    pattern = f"{beginning}*"
    lists = {"pattern": {}, "names": {"syms": names}, "addresses": {"addrs": addresses}}[by]
    c_names = (ctypes.c_char_p * len(names))(*map(str.encode, names)) if by == "names" else None
    c_addresses = (ctypes.c_ulong * len(names))(*addresses) if by == "addresses" else None

    def in_c():
        attached, destroyed = c_int64(), c_int64()
        library.floor_functions(pointer, None if lists else pattern.encode(), c_names, c_addresses, len(names) if lists else 0,
                                byref(attached), byref(destroyed))
        return {"attach": attached.value, "destroy": destroyed.value}

    def attach():
        return program.attach_kprobe_multi(**lists) if lists else program.attach_kprobe_multi(pattern)

    with pylbpf.open(path) as obj:
        obj.load()
        program = obj.programs["on_function"]
        count = len(names)
        race({"C": floor.quietly(in_c), "pylbpf": lambda: attach_and_close(attach)},
             [Row(f"{count} functions, attach", ["attach"], count, clock="wall", ratios={"pylbpf": 1.1}),
              Row(f"{count} functions, destroy", ["destroy"], count, clock="wall")], share=0.2)
    peer_ctypes.libbpf.bpf_object__close(raw)


def test_cgroup(race, bpf, library, size, floor):
    root = kernel.mount_point("cgroup2")
    if root is None:
        pytest.skip("cgroup2: not mounted")
    times = size(200, 5)
    path = objects.build(objects.SOURCES / "cgroup.bpf.c")
    raw = peer_ctypes.open_object(path)
    assert peer_ctypes.libbpf.bpf_object__load(raw) == 0
    pointer = peer_ctypes.libbpf.bpf_object__find_program_by_name(raw, b"on_egress")
    folder = root / f"pylbpf-bench-{os.getpid()}"
    folder.mkdir()
    cgroup = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def in_c():
        took = c_int64()
        library.floor_cgroup(pointer, cgroup, times, byref(took))
        return {"links": took.value}

    def in_python():
        attach, start = program.attach_cgroup, now()
        for _ in range(times):
            attach(cgroup).close()
        return {"links": now() - start}

    try:
        with pylbpf.open(path) as obj:
            obj.load()
            program = obj.programs["on_egress"]
            race({"C": floor.quietly(in_c), "pylbpf": in_python},
                 [Row("cgroup link, attach and destroy", ["links"], times, ratios={"pylbpf": 1.15})])
    finally:
        os.close(cgroup)
        folder.rmdir()
    peer_ctypes.libbpf.bpf_object__close(raw)
