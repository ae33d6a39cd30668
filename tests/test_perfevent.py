"""Perf events: one for each CPU or process, counted or sampled, gone when closed, and clear about what is missing."""
from __future__ import annotations

import contextlib
import gc
import os
import struct
import time
from pathlib import Path

import pytest

import kernel
import pylbpf
from handling import steady
from test_fork import in_child

ONLINE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@pytest.fixture(autouse=True)
def needs_perf_events():
    if reason := kernel.no_perf_event():
        pytest.skip(reason)


@pytest.fixture
def program(bpf_object, requires_bpf):
    with pylbpf.open(bpf_object("perf_event")) as obj:
        obj.load()
        yield obj.programs["on_sample"]


def samples(program) -> int:
    value = program.object.maps["samples"].lookup(bytes(4))
    return sum(struct.unpack(f"={len(value) // 8}Q", value))


def work(seconds: float = 0.05) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def runs(program) -> bool:
    before = samples(program)
    work()
    return samples(program) > before


# ---------------------------------------------------------------- which events


def test_one_for_each_cpu_that_is_online():
    with pylbpf.PerfEvent("cpu-clock", frequency=99) as event:
        assert set(ONLINE) <= {cpu for _, cpu in event.targets} and {pid for pid, _ in event.targets} == {-1}
        assert len(event) == len(event.targets) == len(event.fds) == os.cpu_count()
        assert all(os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[perf_event]" for fd in event.fds)
        assert not any(os.get_inheritable(fd) for fd in event.fds)
        assert event.name == "cpu-clock" and f"{len(event)} events" in repr(event)


@pytest.mark.parametrize("cpus, pids, targets", [
    (0, None, ((-1, 0),)), ([0], None, ((-1, 0),)), (None, 0, ((0, -1),)), (None, [0, 1], ((0, -1), (1, -1))),
    ([0], [0, 1], ((0, 0), (1, 0))), (range(1), iter([0]), ((0, 0),)),
], ids=steady)
def test_cpus_and_processes(cpus, pids, targets):
    with pylbpf.PerfEvent("cpu-clock", period=1_000_000, cpus=cpus, pids=pids) as event:
        assert event.targets == targets


@pytest.mark.parametrize("name", [
    "cpu-clock", "task-clock", "page-faults", "context-switches", "cpu-migrations", "minor-faults", "major-faults",
    "alignment-faults", "emulation-faults", "dummy", "bpf-output", (1, 0)], ids=str)
def test_software_events_are_counted(name):
    with pylbpf.PerfEvent(name, pids=0) as event:
        assert len(event.counts()) == 1
        assert event.name == (name if isinstance(name, str) else "1/0x0")


@pytest.mark.parametrize("name", ["cpu-cycles", "instructions", "L1-dcache-load-misses", "LLC-loads", "r1a8"])
def test_hardware_events_count_or_say_what_is_missing(name):
    try:
        with pylbpf.PerfEvent(name, pids=0) as event:
            work(0.01)
            assert event.counts()[0][1] > 0
    except pylbpf.BpfError as error:
        if os.path.exists("/sys/bus/event_source/devices/cpu"):
            assert "cache" in name or "LLC" in name or name.startswith("r")
        assert "no such event" in str(error) and f"perf event '{name}' on process 0" in str(error)


def test_counts_are_what_happened():
    page = os.sysconf("SC_PAGESIZE")
    with pylbpf.PerfEvent("minor-faults", pids=0) as event:
        before, *_ = event.counts()[0]
        import mmap
        with mmap.mmap(-1, 64 * page) as memory:
            for at in range(0, 64 * page, page):
                memory[at] = 1
        after, enabled, counting = event.counts()[0]
        assert after - before >= 16 and 0 < counting <= enabled


def test_enable_disable_reset():
    with pylbpf.PerfEvent("task-clock", pids=0) as event:
        work(0.01)
        event.disable()
        (count, enabled, counting), = event.counts()
        assert count > 5e6
        work(0.01)
        assert event.counts() == [(count, enabled, counting)]
        event.reset()
        assert event.counts()[0][0] == 0
        event.enable()
        work(0.01)
        assert event.counts()[0][0] > 5e6


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("arguments, error, words", [
    (dict(event="cpu-klock"), ValueError, "no perf event has the name 'cpu-klock'"),
    (dict(event="rxyz"), ValueError, "no perf event has the name"),
    (dict(event=3), TypeError, "a name or a pair"), (dict(event=(1, 2, 3)), TypeError, "a name or a pair"),
    (dict(event=("a", "b")), TypeError, "."), (dict(event=(1 << 40, 0)), ValueError, "does not fit"),
    (dict(event=(1.5, 0)), TypeError, "the type of an event"), (dict(event="r" + "f" * 17), ValueError, "."),
    (dict(precise=1.5), TypeError, "precise"), (dict(period=1 << 64), ValueError, "period"),
    (dict(frequency=0), ValueError, "frequency is 1 or more"), (dict(period=-1), ValueError, "period is 1 or more"),
    (dict(frequency=9.5), TypeError, "frequency must be a number"), (dict(period=True), TypeError, "period must be"),
    (dict(frequency=9, period=9), ValueError, "either a frequency or a period"),
    (dict(cpus=[]), ValueError, "cpus is empty"), (dict(pids=()), ValueError, "pids is empty"),
    (dict(cpus=[-1]), ValueError, "cpus cannot have -1"), (dict(pids=[1 << 31]), ValueError, "pids cannot have"),
    (dict(cpus=["0"]), TypeError, "cpus must be numbers"), (dict(pids=[None]), TypeError, "pids must be numbers"),
    (dict(precise=4), ValueError, "precise is 0 to 3"), (dict(cpus=3.5), TypeError, "."),
], ids=str)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        pylbpf.PerfEvent(**arguments)


def test_what_the_kernel_refuses_says_what_is_missing():
    with pytest.raises(ProcessLookupError, match="no such process") as raised:
        pylbpf.PerfEvent("cpu-clock", pids=0x7FFFFFFF)
    assert isinstance(raised.value, pylbpf.BpfError) and "process 2147483647" in str(raised.value)
    with pytest.raises(pylbpf.BpfError, match=r"CPU 1000000\b"):
        pylbpf.PerfEvent("cpu-clock", cpus=[0, 1_000_000])
    limit = int(Path("/proc/sys/kernel/perf_event_max_sample_rate").read_text())
    with pytest.raises(pylbpf.BpfError, match=f"perf_event_max_sample_rate, which is {limit}"):
        pylbpf.PerfEvent("cpu-clock", frequency=limit + 1)


def test_second_init_is_refused_and_half_made_ones_are_closed():
    with pylbpf.PerfEvent("dummy", pids=0) as event:
        with pytest.raises(pylbpf.StateError, match="open already"):
            event.__init__("dummy")
        assert len(event) == 1
    empty = pylbpf.PerfEvent.__new__(pylbpf.PerfEvent)
    with pytest.raises(ValueError, match="closed"):
        empty.counts()
    empty.close()


# ---------------------------------------------------------------- programs


def test_program_samples_as_long_as_its_links_live(program):
    event = pylbpf.PerfEvent("cpu-clock", frequency=999)
    assert not runs(program)
    links = event.attach(program)
    assert len(links) == len(event) and runs(program)
    event.close()
    assert runs(program)            # the links keep the events
    links.close()
    assert not runs(program)


def test_links_may_go_before_the_event_which_can_be_attached_again(program):
    with pylbpf.PerfEvent("cpu-clock", period=1_000_000, pids=0) as event:
        for _ in range(2):
            with event.attach(program):
                assert runs(program)
            assert not runs(program)


def test_disabled_event_rests(program):
    with pylbpf.PerfEvent("cpu-clock", frequency=999, pids=0) as event, event.attach(program):
        event.disable()
        assert not runs(program)
        event.enable()
        assert runs(program)


def test_only_the_process_that_was_named(program):
    with pylbpf.PerfEvent("cpu-clock", frequency=999, pids=1) as event, event.attach(program):
        before = samples(program)
        work(0.02)
        assert samples(program) - before < 5


def test_event_that_only_counts_cannot_be_attached(program):
    with pylbpf.PerfEvent("cpu-clock", pids=0) as event:
        with pytest.raises(ValueError, match="only counts"):
            event.attach(program)
        with pytest.raises(TypeError, match="must be a Program, not int"):
            event.attach(3)


def test_attach_that_fails_leaves_nothing(program, bpf_object):
    with pylbpf.open(bpf_object("raw_tp")) as other, pylbpf.PerfEvent("cpu-clock", frequency=99) as event:
        other.load()
        wrong = next(iter(other.programs.values()))
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(pylbpf.BpfError, match="attach perf_event"):
            event.attach(wrong)
        with event.attach(program):
            # Each event takes one program: the second of them is refused, and the first goes on.
            with pytest.raises(FileExistsError):
                event.attach(program)
            assert runs(program)
        assert len(os.listdir("/proc/self/fd")) == len(before)


def test_cookie_is_taken(program):
    with pylbpf.PerfEvent("cpu-clock", frequency=999, pids=0) as event, event.attach(program, cookie=7):
        assert runs(program)


# ---------------------------------------------------------------- life and death


def test_closed_is_a_value_error(program):
    event = pylbpf.PerfEvent("cpu-clock", frequency=99)
    event.close()
    event.close()
    assert event.closed and len(event) == 0 and repr(event) == "<PerfEvent: cpu-clock, closed>"
    for use in (event.counts, event.enable, event.disable, event.reset, event.__enter__, lambda: event.fds,
                lambda: event.attach(program)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_dropping_closes():
    before = sorted(os.listdir("/proc/self/fd"))
    event = pylbpf.PerfEvent("dummy")
    del event
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_child_may_only_drop_it(program):
    with pylbpf.PerfEvent("cpu-clock", frequency=999) as event, event.attach(program) as links:
        def child():
            for use in (event.counts, event.disable, lambda: event.attach(program), lambda: event.fds):
                with pytest.raises(pylbpf.StateError, match="parent process"):
                    use()
            event.close()
            with contextlib.suppress(pylbpf.StateError):
                links.close()

        in_child(child)
        assert runs(program)


def test_garbage_that_keeps_an_event_closes_it():
    class Sampler:
        def __init__(self):
            self.event = pylbpf.PerfEvent("cpu-clock", frequency=10, cpus=0)
            self.callback = self.tick

        def tick(self):
            pass

    gc.collect()
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        Sampler()
    gc.collect()
    assert os.listdir("/proc/self/fd") == before
