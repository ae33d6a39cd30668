"""Thousands of objects from eight threads at once, with handlers of all sorts; counted before and after."""
from __future__ import annotations

import ctypes
import os
import sys
import threading

import pytest

import conftest
import kernel
import objects
import pylbpf
from handling import RAW, Recorder, registered

pytestmark = pytest.mark.bpf

THREADS = 8
OBJECTS = 1000      # of each thread
AT_ONCE = 50

SECTIONS = ["python/a", "native/a", "scoped/a", "raw_tp/sys_enter"]


@pytest.fixture(scope="module")
def kinds() -> list:
    """Objects that differ: programs, maps, and one of five that the verifier rejects."""
    made = [objects.build(objects.many(n, SECTIONS, with_map=n % 2 == 1), f"stress{n}") for n in (4, 1, 8, 5)]
    return [*made, objects.build(objects.SOURCES / "rejected.bpf.c")]


def test_eight_threads_with_thousands_of_objects(kinds):
    descriptors, links = conftest.descriptors(), kernel.own_link_ids()
    failures: list[BaseException] = []
    native_calls = [0] * THREADS
    everywhere = Recorder("python/")

    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_long)

    @prototype
    def count(program, cookie):
        native_calls[cookie] += 1       # each cookie belongs to one thread at a time
        return 0

    class Scoped(Recorder):
        def prepare_load(self, program, opts):
            super().prepare_load(program, opts)
            if self.fails and program.name == "p0002":
                raise LookupError(self.fails)

    def work(number: int) -> None:
        try:
            for round in range(OBJECTS // AT_ONCE):
                scoped = Scoped("scoped/", priority=1)
                scoped.fails = round % 4 == 3 and f"round {round}"
                native = pylbpf.NativeHandler("native/", setup=count, cookie=number, program_type=RAW)
                items = [kinds[at % len(kinds)] for at in range(AT_ONCE)]
                with pylbpf.load_many(items, handlers=[scoped, native], threads=1 + round % 3) as report:
                    for at, result in enumerate(report):
                        kind = at % len(kinds)
                        if kind == 4:
                            assert isinstance(result.error, pylbpf.VerifierError), result
                        elif scoped.fails and kind in (0, 2, 3):
                            assert isinstance(result.error, LookupError), result
                        else:
                            assert result.ok, result
                    if not scoped.fails:
                        with report[0].object.programs["p0000"].attach():
                            pass
        except BaseException as error:
            failures.append(error)

    with registered(everywhere):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    # Of fifty, ten of each kind: native programs are one each in the objects of 4, 2 in that of 8, 1 in that of 5.
    assert native_calls == [OBJECTS // AT_ONCE * (10 + 20 + 10)] * THREADS
    # The attach of an object is of the steady handler, whose programs are one, one, two and two of them.
    assert len(everywhere.names("setup")) == THREADS * OBJECTS // AT_ONCE * (10 + 10 + 20 + 20)
    assert not conftest.leaked_since(descriptors) and kernel.own_link_ids() == links
    assert not pylbpf.handlers()


def test_an_address_space_that_is_full(kinds):
    """Where memory ends, calls end in MemoryError or ENOMEM; nothing crashes, and afterwards all is well."""
    import subprocess

    script = """
import errno, os, resource, sys, pylbpf
pylbpf.load_many(sys.argv[1:]).close()
before = len(os.listdir("/proc/self/fd"))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
seen = set()
for spare in range(0, 40 << 20, 1 << 20):
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
    try:
        with pylbpf.load_many(sys.argv[1:] * 20, threads=4) as report:
            seen |= {result.state for result in report}
            errors = [error for error in report.errors if not isinstance(error, pylbpf.VerifierError)]
            assert all(isinstance(error, MemoryError) or error.errno == errno.ENOMEM for error in errors), errors
    except MemoryError:
        seen.add("refused")
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with pylbpf.load_many(sys.argv[1:] * 20) as report:
    assert len(report.failed) == 20, report
assert len(os.listdir("/proc/self/fd")) == before
print(sorted(seen))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("LD_PRELOAD", None)
    plain = objects.many(4, "raw_tp/sys_enter", with_map=True)
    paths = [objects.build(plain, "plain"), kinds[4]]
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("sanitizers: they need an address space without limit")
    done = subprocess.run([sys.executable, "-c", script, *map(str, paths)], text=True, env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if "thread-local data" in done.stderr:
        pytest.skip("C library: ends the process when a new thread finds no memory for variables of libraries")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "loaded" in done.stdout
