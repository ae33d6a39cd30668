"""Every kind of attachment, with its effect: the program runs when it should, and no more once the link is gone."""
from __future__ import annotations

import collections
import contextlib
import ctypes
import errno
import os
import re
import socket
import struct
import subprocess
import sys
import time

import pytest

import kernel
import pylbpf
import rings
from pylbpf import AttachType, ProgramType

VERSION = pylbpf.libbpf_version()
pytestmark = pytest.mark.bpf
PERF_TYPE_SOFTWARE, CPU_CLOCK = 1, 0
BPF_ITER_CREATE = 33


def u64(map: pylbpf.Map, slot: int = 0) -> int:
    value = map.lookup(struct.pack("=I", slot))
    return sum(struct.unpack(f"={len(value) // 8}Q", value))


@pytest.fixture
def loaded(bpf_object):
    """loaded("xdp") -> an object; loaded("override", "kprobe") with only that program."""
    with contextlib.ExitStack() as stack:
        def load(name: str, *programs: str) -> pylbpf.Object:
            obj = stack.enter_context(pylbpf.open(bpf_object(name)))
            if programs:
                for program in obj.programs.values():
                    program.autoload = program.name in programs
            obj.load()
            return obj

        yield load


@pytest.fixture
def event():
    """A software perf event that fires 999 times a second of CPU time, on any CPU this process runs on."""
    if reason := kernel.no_perf_event():
        pytest.skip(reason)
    fd = kernel.perf_event_open(PERF_TYPE_SOFTWARE, CPU_CLOCK, frequency=999, pid=0, cpu=-1)
    yield fd
    os.close(fd)


def work(seconds: float = 0.05) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


# ---------------------------------------------------------------- as the section says


def test_attach_by_section(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        link = obj.programs["send"].attach()
        assert link.name == "program 'send' on section 'raw_tp/task_rename'"
        rings.send(5)
        assert rings.sent(obj) == 5
        link.destroy()
        rings.send(5)
        assert rings.sent(obj) == 5


def test_section_without_automatic_attach(loaded):
    program = loaded("network").programs["on_socket"]
    with pytest.raises(pylbpf.BpfError, match="on_socket") as raised:
        program.attach()
    assert raised.value.errno == errno.EOPNOTSUPP


def test_same_program_attached_twice_runs_twice(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        program = obj.programs["send"]
        with program.attach():
            if kernel.RAW_TRACEPOINTS_ONCE:
                with pytest.raises(FileExistsError):
                    program.attach()
            else:
                with program.attach():
                    rings.send()
        rings.send()
        assert rings.sent(obj) == (0 if kernel.RAW_TRACEPOINTS_ONCE else 2)


# ---------------------------------------------------------------- raw tracepoints, tracepoints


def test_raw_tracepoint(loaded):
    obj = loaded("raw_tp")
    link = obj.programs["on_sys_enter"].attach_raw_tracepoint("sys_enter")
    os.getppid()
    link.close()
    counted = u64(obj.maps["counts"])
    assert counted > 0
    for _ in range(100):
        os.getppid()
    assert u64(obj.maps["counts"]) == counted


def test_newer_raw_tracepoint_cookie(loaded):
    program = loaded("task_rename").programs["on_task_rename"]
    if VERSION < (1, 4):
        with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.4"):
            program.attach_raw_tracepoint("task_rename", cookie=7)
        return
    try:
        link = program.attach_raw_tracepoint("task_rename", cookie=7)
    except pylbpf.BpfError as error:
        assert error.errno == errno.EINVAL and tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 9)
    else:
        link.close()


def test_raw_tracepoint_that_is_not_there(loaded):
    with pytest.raises(FileNotFoundError, match="raw_tracepoint there_is_no_such program 'on_task_rename'") as raised:
        loaded("task_rename").programs["on_task_rename"].attach_raw_tracepoint("there_is_no_such")
    assert isinstance(raised.value, pylbpf.BpfError) and raised.value.log


def test_tracepoint(loaded, tracefs, requires_perf_event, trigger):
    obj = loaded("tracepoint")
    with obj.programs["on_task_rename"].attach():
        trigger(3)
    by_section = u64(obj.maps["counts"], 0)
    with obj.programs["on_anything"].attach_tracepoint("task", "task_rename"):
        trigger(4)
    by_hand = u64(obj.maps["counts"], 1)
    trigger(5)
    assert by_section >= 3 and by_hand >= 4  # whatever else happens on the machine is counted too
    assert (u64(obj.maps["counts"], 0), u64(obj.maps["counts"], 1)) == (by_section, by_hand)


def test_tracepoint_cookie_is_taken(loaded, tracefs, requires_perf_event, trigger):
    obj = loaded("tracepoint")
    with obj.programs["on_anything"].attach_tracepoint("task", "task_rename", cookie=(1 << 64) - 1):
        trigger()
    assert u64(obj.maps["counts"], 1) >= 1


def test_tracepoint_that_is_not_there(loaded, tracefs):
    with pytest.raises(FileNotFoundError, match="tracepoint task/there_is_no_such"):
        loaded("tracepoint").programs["on_anything"].attach_tracepoint("task", "there_is_no_such")


# ---------------------------------------------------------------- perf events


@pytest.mark.parametrize("options", [{}, {"force_ioctl": True}, {"cookie": 9}], ids=str)
def test_newer_perf_event(loaded, event, options):
    obj = loaded("perf_event")
    if VERSION < (1, 2) and "force_ioctl" in options:
        with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.2"):
            obj.programs["on_sample"].attach_perf_event(event, **options)
        return
    link = obj.programs["on_sample"].attach_perf_event(event, **options)
    work()
    link.destroy()
    samples = u64(obj.maps["samples"])
    assert samples > 0
    work()
    assert u64(obj.maps["samples"]) == samples


def test_perf_event_descriptor_stays_the_callers(loaded, event):
    obj = loaded("perf_event")
    program = obj.programs["on_sample"]
    program.attach_perf_event(event).destroy()
    with program.attach_perf_event(event):
        work()
    os.fstat(event)
    samples = u64(obj.maps["samples"])
    copy = os.dup(event)
    link = program.attach_perf_event(copy)
    os.close(copy)  # the link has its own
    work()
    link.close()
    assert u64(obj.maps["samples"]) > samples


def test_failed_perf_event_attach_closes_nothing_and_leaks_nothing(loaded, event):
    obj = loaded("task_rename")
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(pylbpf.BpfError):
        obj.programs["on_task_rename"].attach_perf_event(event)  # a program of another type
    with open(os.devnull) as file:
        with pytest.raises(pylbpf.BpfError):
            obj.programs["on_task_rename"].attach_perf_event(file)
        os.fstat(file.fileno())
    assert sorted(os.listdir("/proc/self/fd")) == before
    os.fstat(event)


def test_perf_event_of_a_closed_descriptor(loaded):
    program = loaded("perf_event").programs["on_sample"]
    with pytest.raises(ValueError, match="-1 is not a file descriptor"):
        program.attach_perf_event(-1)
    with pytest.raises(pylbpf.BpfError) as raised:
        program.attach_perf_event(1 << 20)
    assert raised.value.errno == errno.EBADF


# ---------------------------------------------------------------- probes


def libc_path() -> str:
    with open("/proc/self/maps") as maps:
        for line in maps:
            if re.search(r"/libc(-[\d.]+)?\.so(\.6)?$", line):
                return line.split()[-1]
    pytest.skip("shared libc: none in this process")


@pytest.fixture
def call(requires_uprobe):
    function = ctypes.CDLL(None).gnu_get_libc_version
    return lambda times=1: [function() for _ in range(times)]


@pytest.mark.parametrize("pid", [-1, 0])
def test_uprobe_and_uretprobe(loaded, call, pid):
    obj = loaded("uprobe", "on_entry", "on_return")
    path = libc_path()
    entry = obj.programs["on_entry"].attach_uprobe(path, function="gnu_get_libc_version", pid=pid)
    back = obj.programs["on_return"].attach_uprobe(path, function="gnu_get_libc_version", pid=pid, retprobe=True)
    call(3)
    entry.close()
    call(2)
    back.close()
    call(10)
    assert (u64(obj.maps["counts"], 0), u64(obj.maps["counts"], 1)) == (3, 5)


def test_uprobe_of_a_library_by_its_bare_name(loaded, call):
    obj = loaded("uprobe", "on_entry")
    try:
        link = obj.programs["on_entry"].attach_uprobe("libc.so.6", function="gnu_get_libc_version", pid=0)
    except FileNotFoundError as error:
        # libbpf before 1.2 did not know where some distributions keep their libraries.
        assert "libc.so.6" in str(error)
        return
    with link:
        call(2)
    assert u64(obj.maps["counts"], 0) == 2


def test_uprobe_of_one_process_is_not_of_others(loaded, call):
    obj = loaded("uprobe", "on_entry")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with obj.programs["on_entry"].attach_uprobe(libc_path(), function="gnu_get_libc_version", pid=child.pid):
            call(3)
        assert u64(obj.maps["counts"], 0) == 0
    finally:
        child.kill()
        child.wait()


def test_uprobe_cookie_reaches_the_program(loaded, call):
    obj = loaded("uprobe", "on_entry_with_cookie")
    program = obj.programs["on_entry_with_cookie"]
    with program.attach_uprobe(libc_path(), function="gnu_get_libc_version", pid=0, cookie=0x1234567890ABCDEF):
        call()
    assert u64(obj.maps["cookie"]) == 0x1234567890ABCDEF and u64(obj.maps["counts"], 2) == 1


def test_uprobe_of_what_is_not_there(loaded, requires_uprobe, tmp_path):
    program = loaded("uprobe", "on_entry").programs["on_entry"]
    for path, options in (("/there/is/no/such", {"offset": 1}), ("there_is_no_such_lib.so.9", {"function": "x"}),
                          (libc_path(), {"function": "there_is_no_such_function"}), (tmp_path, {"function": "x"})):
        with pytest.raises(pylbpf.BpfError, match="attach uprobe"):
            program.attach_uprobe(path, **options)


def test_kprobe(loaded, requires_kprobe):
    obj = loaded("override", "kprobe")
    with obj.programs["kprobe"].attach_kprobe("do_nanosleep"):
        time.sleep(0.001)
        subprocess.run(["sleep", "0.001"], check=True)
    assert u64(obj.maps["counts"], 3) > 0


@pytest.mark.parametrize("options", [{}, {"retprobe": True}, {"offset": 8}, {"cookie": 5}], ids=str)
def test_kprobe_of_a_function_that_is_not_there(loaded, options):
    """Also where the kernel has no kprobes at all."""
    program = loaded("override", "kprobe").programs["kprobe"]
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(pylbpf.BpfError, match="probe there_is_no_such_function") as raised:
        program.attach_kprobe("there_is_no_such_function", **options)
    assert raised.value.errno in (errno.ENOENT, errno.EINVAL, errno.EADDRNOTAVAIL, errno.EOPNOTSUPP)
    assert sorted(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- network and cgroups


def test_xdp_by_name_and_index(loaded, veth):
    obj = loaded("xdp", "pass")
    for interface in (veth.name, veth.index):
        before = u64(obj.maps["packets"])
        with obj.programs["pass"].attach_xdp(interface):
            veth.send(5)
            assert u64(obj.maps["packets"]) == before + 5
        veth.send(5)
        assert u64(obj.maps["packets"]) == before + 5


def test_xdp_interface_is_taken_by_one_program_only(loaded, veth):
    obj = loaded("xdp", "pass")
    with obj.programs["pass"].attach_xdp(veth.name):
        with pytest.raises(pylbpf.BpfError, match=f"attach xdp {veth.name}") as raised:
            obj.programs["pass"].attach_xdp(veth.name)
        assert raised.value.errno == errno.EBUSY
    obj.programs["pass"].attach_xdp(veth.name).close()


def test_xdp_of_an_interface_that_is_not_there(loaded):
    program = loaded("xdp", "pass").programs["pass"]
    with pytest.raises(pylbpf.BpfError, match="find network interface plb_not_there") as raised:
        program.attach_xdp("plb_not_there")
    assert raised.value.errno == errno.ENODEV
    with pytest.raises(pylbpf.BpfError):
        program.attach_xdp(0x7FFFFFFF)
    for wrong in (0, -1, 1 << 31, 1 << 80):
        with pytest.raises(ValueError, match="is not an interface index"):
            program.attach_xdp(wrong)


ENTER_AND_MAKE_SOCKETS = """
import os, socket, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
for _ in range(int(sys.argv[2])):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
"""


@pytest.mark.parametrize("by", ["path", "descriptor"])
def test_cgroup(loaded, cgroup, by):
    obj = loaded("cgroup", "on_sock_create")
    make_sockets = [sys.executable, "-c", ENTER_AND_MAKE_SOCKETS, str(cgroup)]
    if by == "path":
        link = obj.programs["on_sock_create"].attach_cgroup(cgroup)
    else:
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        link = obj.programs["on_sock_create"].attach_cgroup(fd)
        os.close(fd)  # only needed during the call
    with link:
        subprocess.run([*make_sockets, "3"], check=True)
        assert u64(obj.maps["counts"], 2) == 3
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()  # not in that cgroup
        assert u64(obj.maps["counts"], 2) == 3
    subprocess.run([*make_sockets, "3"], check=True)
    assert u64(obj.maps["counts"], 2) == 3


def test_cgroup_that_is_none(loaded, tmp_path):
    program = loaded("cgroup", "on_sock_create").programs["on_sock_create"]
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError, match="open cgroup /there/is/no/such"):
        program.attach_cgroup("/there/is/no/such")
    with pytest.raises(NotADirectoryError):
        program.attach_cgroup("/etc/passwd")
    with pytest.raises(pylbpf.BpfError):
        program.attach_cgroup(tmp_path)
    with pytest.raises((pylbpf.BpfError, ValueError)):
        program.attach_cgroup(-1)
    assert sorted(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- tracing


def test_tp_btf_by_attach_trace(bpf_object, requires_btf):
    with pylbpf.open(bpf_object("core")) as obj:
        obj.load()
        bss = next(map for name, map in obj.maps.items() if name.endswith(".bss"))
        for attach in (obj.programs["on_sched_switch"].attach_trace, obj.programs["on_sched_switch"].attach):
            before = bss.lookup(bytes(4))
            with attach():
                time.sleep(0.02)
                assert bss.lookup(bytes(4)) != before
            time.sleep(0.02)    # another processor may be inside
            after = bss.lookup(bytes(4))
            time.sleep(0.02)
            assert bss.lookup(bytes(4)) == after


def test_newer_tp_btf_cookie(bpf_object, requires_btf):
    """Only kernels from 6.10 know one there, and libbpf from the version of that time."""
    with pylbpf.open(bpf_object("core")) as obj:
        obj.load()
        try:
            link = obj.programs["on_sched_switch"].attach_trace(cookie=3)
        except pylbpf.BpfError as error:
            release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
            assert "attach trace" in str(error) or isinstance(error, pylbpf.NotSupported)
            assert VERSION < (1, 5) or release < (6, 10)
        else:
            link.close()


def test_fentry(loaded, requires_fentry):
    obj = loaded("override", "fentry")
    with obj.programs["fentry"].attach_trace():
        subprocess.run(["sleep", "0.001"], check=True)
    assert u64(obj.maps["counts"], 11) > 0


def test_lsm(loaded, requires_lsm):
    obj = loaded("override", "lsm_sleepable")
    with obj.programs["lsm_sleepable"].attach_lsm():
        kernel.bpf(kernel.LINK_GET_NEXT_ID, bytes(16)) if kernel.link_ids() else None
    assert u64(obj.maps["counts"], 12) > 0


def open_lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().splitlines()


def test_iterator_shows_the_kernels_tasks(loaded, requires_btf):
    obj = loaded("iter")
    with obj.programs["dump_task"].attach_iter() as link:
        fd = kernel.bpf(BPF_ITER_CREATE, struct.pack("=II", link.fd, 0))
        with open(fd, "rb") as file:
            tasks = list(struct.iter_unpack("=II", file.read()))
        [line] = [line for line in open_lines("/proc/self/status") if line.startswith("Threads:")]
    # The numbers are those of the first PID namespace, which need not be ours; the number of our threads is the same.
    threads = collections.Counter(process for process, _ in tasks)
    assert len(tasks) == len(set(tasks)) and int(line.split()[1]) in threads.values()
    assert all((process, process) in tasks for process in threads)
    with obj.programs["dump_map"].attach() as link:
        with open(kernel.bpf(BPF_ITER_CREATE, struct.pack("=II", link.fd, 0)), "rb") as file:
            assert len(file.read()) % 4 == 0


@pytest.mark.parametrize("attach", [
    lambda p: p.attach_xdp("lo"), lambda p: p.attach_iter(), lambda p: p.attach_lsm(), lambda p: p.attach_trace(),
    lambda p: p.attach_cgroup("/"), lambda p: p.attach_perf_event(0),
], ids=["xdp", "iter", "lsm", "trace", "cgroup", "perf_event"])
def test_wrong_hook_for_the_program_is_an_error_and_leaks_nothing(loaded, attach):
    program = loaded("task_rename").programs["on_task_rename"]
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(pylbpf.BpfError, match="attach .* program 'on_task_rename'") as raised:
        attach(program)
    assert raised.value.operation.startswith("attach ") and raised.value.subject == "program 'on_task_rename'"
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name, arguments", [
    ("attach", ()), ("attach_raw_tracepoint", ("sys_enter",)), ("attach_tracepoint", ("task", "task_rename")),
    ("attach_kprobe", ("do_nanosleep",)), ("attach_uprobe", ("/bin/true",)), ("attach_perf_event", (0,)),
    ("attach_trace", ()), ("attach_lsm", ()), ("attach_iter", ()), ("attach_xdp", ("lo",)), ("attach_cgroup", ("/",)),
])
def test_attach_before_load_is_a_state_error_and_leaks_nothing(bpf_object, name, arguments):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(pylbpf.StateError, match="it must be loaded"):
            getattr(obj.programs["on_task_rename"], name)(*arguments)
        assert sorted(os.listdir("/proc/self/fd")) == before


def test_type_set_by_hand_attaches_as_that_type(bpf_object, veth):
    """A program of a section that libbpf does not know, made into an XDP program."""
    class Drop(pylbpf.ProgramHandler):
        section = "sample"
        program_type = ProgramType.XDP
        expected_attach_type = AttachType.XDP

    with pylbpf.open(bpf_object("handlers"), handlers=[Drop()]) as obj:
        for program in obj.programs.values():
            program.autoload = program.name == "on_sample"
        obj.load()
        with obj.programs["on_sample"].attach_xdp(veth.name):
            veth.send(2)
            assert u64(obj.maps["hits"]) == 2


def test_words_that_fail_leave_nothing_attached_and_nothing_locked(bpf_object):
    class Name(str):
        def __format__(self, spec):
            raise RuntimeError("no words")

    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        program = next(iter(obj.programs.values()))
        with pytest.raises(RuntimeError, match="no words"):
            program.attach_raw_tracepoint(Name("task_rename"))
        assert not [link for link in pylbpf.query.links() if link.prog_id == program.info().id]
        program.attach().close()
