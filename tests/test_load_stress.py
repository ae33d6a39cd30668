"""Thousands of objects from eight threads at once, with handlers of all sorts; counted before and after."""
from __future__ import annotations

import ctypes
import resource
import threading

import pytest

import conftest
import kernel
import objects
import pylbpf
import shortage
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


@pytest.fixture
def descriptors_for_all():
    """Usual limits are 1024, which may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_eight_threads_with_thousands_of_objects(kinds, descriptors_for_all):
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


SHORT = """
import collections, errno, os, pylbpf
before = len(os.listdir("/proc/self/fd"))
seen = collections.Counter()

def may_fail(error):
    # Without memory for its log an object that the verifier rejects fails as one that the kernel refuses. And a libelf that is
    # in libbpf is short of memory, too, and then libbpf says only that it failed (4000).
    return isinstance(error, (MemoryError, pylbpf.VerifierError)) or error.errno in (errno.ENOMEM, errno.EACCES, 4000)

pylbpf.load_many(sys.argv[1:]).close()      # libbpf finds out what the kernel can do, and remembers
for only_one in (True, False):
    number = asked = 0
    while number <= asked:
        assert shortage.run_short(number, only_one), "nobody to be short of memory"
        try:
            with pylbpf.load_many(sys.argv[1:] * 3, threads=2) as report:
                asked = shortage.enough()
                assert all(may_fail(error) for error in report.errors), (number, only_one, report.errors)
                seen.update(result.state for result in report)
        except MemoryError:
            asked = shortage.enough()
            seen["refused"] += 1
        assert len(os.listdir("/proc/self/fd")) == before, (number, only_one)
        number += 1
with pylbpf.load_many(sys.argv[1:] * 20) as report:
    assert len(report.failed) == 20, report
assert len(os.listdir("/proc/self/fd")) == before
print(*sorted(seen), number)
"""


def test_memory_ends_at_any_allocation():
    """Of libbpf or pylbpf, for one or for all that follow: calls end in MemoryError or ENOMEM, and afterwards all is well."""
    paths = [objects.build(objects.many(4, "raw_tp/sys_enter", with_map=True), "plain"),
             objects.build(objects.SOURCES / "rejected.bpf.c")]
    *states, number = shortage.run(SHORT, *paths).split()
    assert states == ["failed", "loaded", "refused"] and int(number) > 50
