"""detach_many() and LinkSet.close(): all are released, programs stop at once, and perf events go in the background."""
from __future__ import annotations

import copy
import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest

import kernel
import objects
import pylbpf
from test_fork import in_child
from together import HIT, SILENT, counted, few_descriptors, left, opened, perf_events

pytestmark = [pytest.mark.bpf, pytest.mark.usefixtures("tracefs", "requires_perf_event")]


@pytest.fixture
def before():
    found = left()
    yield found
    assert left() == found


@pytest.fixture
def obj(before):
    with opened(HIT, *SILENT[:4], "raw_tp/task_rename", "raw_tp/sched_switch") as obj:
        yield obj


@pytest.fixture
def links(obj):
    with pylbpf.attach_many([obj]) as links:
        assert counted(obj) == counted(obj, 5) == 5
        yield links


# ---------------------------------------------------------------- all are released


@pytest.mark.parametrize("threads", [None, 1, 2, 128])
@pytest.mark.parametrize("wait", [True, False])
def test_released(obj, links, before, threads, wait):
    held = []
    pylbpf.detach_many(links, threads=threads, wait=wait, on_progress=lambda done, total: held.append(len(perf_events())))
    assert held[-1] == len(before[1]) + 5      # the events of tracepoints outlast their links
    assert counted(obj) == counted(obj, 5) == 0
    assert all(link.closed for link in links) and kernel.own_link_ids() == before[0]
    if wait:
        assert perf_events() == before[1]
    else:
        wait_for_events(before)


def wait_for_events(before) -> None:
    deadline = time.monotonic() + 30
    while perf_events() != before[1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_again_does_nothing(links):
    pylbpf.detach_many(links)
    assert all(link.closed for link in links)
    pylbpf.detach_many(links)
    links.close()
    links[0].close()
    assert all(link.closed for link in links)


def test_some_are_closed_or_given_twice(obj, links):
    links[0].close()
    pylbpf.detach_many([links[0], links[1], links[1], links[5], links[5]])
    assert [link.closed for link in links] == [True, True, False, False, False, True, False]


def test_links_that_were_made_one_by_one(obj, before):
    several = [program.attach() for program in obj.programs.values()]
    pylbpf.detach_many(several)
    assert left() == before


def test_closing_waits_after_closing_without(obj, links, before):
    links.close(wait=False)
    assert counted(obj) == 0 and kernel.own_link_ids() == before[0]
    links.close()
    assert perf_events() == before[1]


def test_object_close_releases_links_of_all_kinds(obj, links, before):
    obj.close()
    assert all(link.closed for link in links) and left() == before


def test_object_close_with_a_signal_in_the_middle(obj, links, before):
    """What a signal handler raises comes out when all is closed."""
    class Enough(BaseException):
        pass

    def on_signal(number, frame):
        if links[0].closed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Enough

    earlier = signal.signal(signal.SIGALRM, on_signal)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        with pytest.raises(Enough):
            obj.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
    assert obj.closed and all(link.closed for link in links) and kernel.own_link_ids() == before[0]
    wait_for_events(before)


def test_bad_arguments(links):
    for bad in ([links[0], None], [links], "ab", [1]):
        with pytest.raises(TypeError, match="takes links, not"):
            pylbpf.detach_many(bad)
    with pytest.raises(ValueError, match="threads"):
        pylbpf.detach_many(links, threads=0)
    with pytest.raises(TypeError, match="made of links, not"):
        pylbpf.LinkSet([links[0], None])
    assert not any(link.closed for link in links)


def test_failures_come_when_all_are_released(before):
    with opened(HIT, *SILENT[:3], "raw_tp/task_rename", name="failing") as obj:
        links = pylbpf.attach_many([obj])
        for event in perf_events()[1:3]:        # behind libbpf's back: it cannot disable them
            with open(os.devnull) as null:
                os.dup2(null.fileno(), event)
        with pytest.raises(OSError, match=r"close program 'p000\d' on") as raised:
            pylbpf.detach_many(links)
        assert raised.value.errno == errno.ENOTTY
        assert [error.errno for error in raised.value.errors] == [errno.ENOTTY]
        assert all(link.closed for link in links)
        assert left() == before and counted(obj) == 0


# ---------------------------------------------------------------- perf events


def test_events_that_libbpf_opened(before):
    """Its uprobes: the event is found by the program, and held, so that wait=False has something to leave."""
    if reason := kernel.no_uprobe():
        pytest.skip(reason)
    sections = [f"uprobe/libc.so.6:{name}" for name in ("getppid", "getuid", "geteuid", "getgid")]
    with opened(*sections, name="uprobes") as obj:
        for way in ("object", "by hand"):
            program = obj.programs["p0000"]
            if way == "object":
                links = pylbpf.attach_many([obj])
            else:
                links = pylbpf.LinkSet([program.attach_uprobe("libc.so.6", function=name)
                                        for name in ("getppid", "getuid", "getegid")])
            held = []       # when a link is released its event is not, which is what takes long
            pylbpf.detach_many(links, wait=False,
                               on_progress=lambda done, total: held.append(len(perf_events()) - len(before[1])))
            assert held[-1] == len(links)
            assert kernel.own_link_ids() == before[0]
            number = int.from_bytes(obj.maps["counts"].lookup(bytes(4)), "little")
            os.getppid()
            assert int.from_bytes(obj.maps["counts"].lookup(bytes(4)), "little") == number
            wait_for_events(before)


@pytest.mark.parametrize("force_ioctl", [False, True])
def test_events_that_the_user_opened(obj, before, force_ioctl):
    if force_ioctl and pylbpf.libbpf_version() < (1, 2):
        pytest.skip("libbpf >= 1.2: force_ioctl")
    number = int((kernel.tracefs() / "events/task/task_rename/id").read_text())
    event = kernel.perf_event_open(2, number)
    link = obj.programs["p0000"].attach_perf_event(event, force_ioctl=force_ioctl)
    os.close(event)
    assert counted(obj) == 5
    pylbpf.detach_many([link], wait=False)
    assert counted(obj) == 0
    wait_for_events(before)


def test_without_descriptors_to_spare(obj, links, before):
    with few_descriptors(0):
        links.close()
    assert left() == before and counted(obj) == 0


def test_two_at_a_time(before):
    """Two sets released without waiting, and both waited for."""
    with opened(HIT, *SILENT[:2], name="one") as one, opened(*SILENT[2:5], name="two") as two:
        first, second = pylbpf.attach_many([one]), pylbpf.attach_many([two])
        first.close(wait=False)
        second.close(wait=False)
        second.close()
        first.close()
        assert left() == before


def test_pinned_links_live_on(obj, bpffs):
    links = pylbpf.attach_many([obj])
    links[5].pin(bpffs / "link")
    links.close()
    assert counted(obj, 5) == 5
    with pylbpf.Link.open(bpffs / "link") as link:
        link.unpin()
    assert counted(obj, 5) == 0


# ---------------------------------------------------------------- progress, signals


def test_progress(links):
    told = []
    pylbpf.detach_many(links, on_progress=lambda done, total: told.append((done, total, threading.get_ident())))
    assert told == [(done, 7, threading.get_ident()) for done in range(1, 8)]


@pytest.mark.parametrize("at", [1, 2, 4, 7])
def test_progress_that_raises(obj, links, before, at):
    told = []

    def on_progress(done, total):
        told.append(done)
        if done == at:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        pylbpf.detach_many(links, on_progress=on_progress)
    assert told == list(range(1, at + 1))
    assert left() == before and counted(obj) == 0


@pytest.mark.parametrize("at", [1, 4])
def test_ctrl_c(obj, links, before, at):
    def on_progress(done, total):
        if done == at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pylbpf.detach_many(links, on_progress=on_progress)
    assert kernel.own_link_ids() == before[0] and counted(obj) == 0
    wait_for_events(before)


def test_other_threads_run_meanwhile(links):
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    links.close()
    end = time.monotonic()
    stop.set()
    thread.join()
    assert sum(begin < at < end for at in ticks) > 3


def test_threads_that_close_the_same_set(obj, before):
    for _ in range(3):
        links = pylbpf.attach_many([obj])
        threads = [threading.Thread(target=close) for close in (links.close, links[::-1].close, obj.links.close, links[0].close)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(link.closed for link in links)
        wait_for_events(before)


# ---------------------------------------------------------------- the end of sets, of processes


def test_dropped_set_warns_once_and_releases(obj, before):
    links = pylbpf.attach_many(obj.programs.values())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del links
    assert [str(each.message) for each in caught] == ["a LinkSet of 7 links was never closed"]
    assert left() == before and counted(obj) == 0


def test_dropped_where_warnings_are_errors(obj, before, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    links = pylbpf.attach_many(list(obj.programs.values())[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del links
    assert [type(each.exc_value) for each in unraisable] == [ResourceWarning]
    unraisable.clear()
    assert left() == before


EXIT = """
    import atexit, os, sys

    def look():     # runs after what pylbpf has registered later
        kinds = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
        print(sum("perf_event" in kind for kind in kinds), "events left", flush=True)

    atexit.register(look)
    import pylbpf
    obj = pylbpf.open(sys.argv[1])
    obj.load()
    obj.attach().close(wait=False)
    print("detached", flush=True)
"""


def test_exit_waits(obj):
    sections = (HIT, *SILENT[:4], "raw_tp/task_rename", "raw_tp/sched_switch")
    path = objects.build(objects.many(len(sections), sections, with_map=True), "together")
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(EXIT), path], stdout=subprocess.PIPE, text=True, timeout=240)
    assert run.returncode == 0 and run.stdout == "detached\n0 events left\n"


def test_fork_with_events_waiting(obj, before):
    links = pylbpf.attach_many([obj])
    links.close(wait=False)

    def child():
        links.close()                       # nothing of its own to wait for
        with opened(*SILENT[:2], name="child") as own:
            pylbpf.attach_many([own]).close(wait=False)
            pylbpf.attach_many([own]).close()

    in_child(child)
    links.close()
    assert left() == before


def test_a_child_leaves_its_parents_links_alone(obj, links):
    def child():
        with pytest.raises(pylbpf.StateError, match="parent process"):
            pylbpf.attach_many([obj])
        links.close()                       # drops the numbers only
        pylbpf.detach_many(links)

    in_child(child)
    assert counted(obj) == counted(obj, 5) == 5


def test_a_set_dropped_in_a_child(obj):
    links = pylbpf.attach_many(obj.programs.values())

    def child():
        nonlocal links
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            links = None

    in_child(child)
    assert counted(obj) == 5
    links.close()


# ---------------------------------------------------------------- USDT


USDT = """
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); } counts SEC(".maps");
SEC("usdt/PATH:mine:hit") int on_hit(struct pt_regs *ctx)
{ __u32 zero = 0; __u64 *value = bpf_map_lookup_elem(&counts, &zero); if (value) *value += 1; return 0; }
SEC("usdt/PATH:mine:hit") int on_hit_too(struct pt_regs *ctx) { return 0; }
char _license[] SEC("license") = "GPL";
"""
PROBED = r"""
void hit(void)
{
    __asm__ volatile("990: nop\n"
        ".pushsection .note.stapsdt,\"?\",\"note\"\n .balign 4\n .4byte 992f-991f,994f-993f,3\n"
        "991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b\n .8byte _.stapsdt.base\n .8byte 0\n"
        ".asciz \"mine\"\n.asciz \"hit\"\n.asciz \"\"\n994: .balign 4\n.popsection\n"
        ".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
        ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n.popsection\n.endif\n");
}
"""


def test_usdt_links_go_before_their_object(before, tmp_path):
    import ctypes
    import shutil

    if reason := kernel.no_uprobe():
        pytest.skip(reason)
    if not shutil.which("cc"):
        pytest.skip("C compiler: not installed")
    (tmp_path / "probed.c").write_text(PROBED)
    library = tmp_path / "libprobed.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "probed.c"], check=True)
    probed = ctypes.CDLL(str(library))
    try:
        path = objects.build(USDT.replace("PATH", str(library)), "usdt")
    except objects.bpfcc.CompileError as error:
        pytest.skip(f"usdt.bpf.h: does not compile ({str(error).splitlines()[-1]})")

    def runs() -> int:
        value = int.from_bytes(obj.maps["counts"].lookup(bytes(4)), "little")
        probed.hit()
        return int.from_bytes(obj.maps["counts"].lookup(bytes(4)), "little") - value

    for way in ("set", "many", "object"):
        with pylbpf.open(path) as obj:
            obj.load()
            links = pylbpf.attach_many([obj])
            assert len(links) == 2 and runs() == 1
            if way == "set":
                links.close(wait=False)
            elif way == "many":
                pylbpf.detach_many(links)
            if way != "object":
                assert runs() == 0
        assert left() == before


# ---------------------------------------------------------------- misuse


def test_one_link_instead_of_several(obj, before):
    link = obj.programs["p0000"].attach()
    pylbpf.detach_many(link)
    assert link.closed and left() == before
    pylbpf.detach_many([])


def test_what_cannot_be_called_is_told_before_anything_is_detached(obj, links):
    with pytest.raises(TypeError, match="on_progress must be callable, not int"):
        pylbpf.detach_many(links, on_progress=5)
    assert not any(link.closed for link in links)


def test_a_copy_of_a_set_does_not_take_its_links_along(obj):
    links = pylbpf.attach_many(obj.programs.values())
    other = copy.copy(links)
    assert list(other) == list(links)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del other
        gc.collect()
    assert not any(link.closed for link in links) and counted(obj) == 5
    links.close()


def test_a_child_that_on_progress_forks_leaves_the_links_alone(obj, before):
    children = []

    def fork(done, total):
        if done == 1:
            child = os.fork()
            if child == 0:
                return
            children.append(child)

    parent = os.getpid()
    links = pylbpf.attach_many(obj.programs.values())
    try:
        pylbpf.detach_many(links, on_progress=fork)
    except BaseException as error:
        if os.getpid() == parent:
            raise
        os._exit(7 if isinstance(error, pylbpf.StateError) and "forked in the middle" in str(error) else 8)
    if os.getpid() != parent:
        os._exit(6)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
    assert all(link.closed for link in links) and left() == before
