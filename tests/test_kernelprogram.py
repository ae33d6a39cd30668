"""Programs known by a descriptor: from pins, numbers and others' descriptors."""
from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import struct
import threading
import time

import pytest

import pylbpf
import rings
from attaching import loaded
from pylbpf import AttachType, Program, ProgramType

VERSION = pylbpf.libbpf_version()
pytestmark = pytest.mark.bpf


@pytest.fixture
def obj(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        yield obj


@pytest.fixture
def xdp(bpf_object):
    with pylbpf.open(bpf_object("xdp")) as obj:
        obj.programs["pass_frags"].autoload = False
        obj.load()
        yield obj


@contextlib.contextmanager
def folder(path):
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def packets(obj: pylbpf.Object) -> int:
    return struct.unpack("=Q", obj.maps["packets"].lookup(bytes(4)))[0]


# ---------------------------------------------------------------- where they come from


def test_from_a_number_a_descriptor_and_a_pin(obj, bpffs):
    mine = obj.programs["send"]
    mine.pin(bpffs / "send")
    with Program.from_id(mine.info().id) as one, Program.from_fd(mine) as other, Program.from_fd(mine.fd) as third, \
            Program.open_pinned(bpffs / "send") as pinned:
        for each in one, other, third, pinned:
            assert (each.name, each.type, each.id) == ("send", ProgramType.RAW_TRACEPOINT, mine.info().id)
            assert each.fd == each.fileno() not in (-1, mine.fd) and not os.get_inheritable(each.fd)
            assert each.info().tag == mine.info().tag and str(each) == "program 'send'"
            assert repr(each) == f"<KernelProgram {each.id}: send, RAW_TRACEPOINT>"
        assert pinned.pin_path == str(bpffs / "send") and one.pin_path is None
        pinned.unpin()
        assert not (bpffs / "send").exists() and pinned.pin_path is None
    assert pinned.closed and repr(pinned) == "<KernelProgram: closed>"


def test_it_outlives_the_object(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        program = Program.from_fd(obj.programs["send"])
    with program:
        assert program.info().name == "send" and "exit" in program.disassemble()


def test_what_is_no_program(obj):
    with pytest.raises(FileNotFoundError, match="open program"):
        Program.from_id(0xFFFFFFF0)
    with pytest.raises(ValueError, match="not a BPF program"):
        Program.from_fd(obj.maps["even"])
    with open(os.devnull) as file, pytest.raises(ValueError, match="not a BPF program"):
        Program.from_fd(file)
    for wrong in "1", None, 1.5, True:
        with pytest.raises(TypeError):
            Program.from_id(wrong)
        with pytest.raises(TypeError):
            Program.from_fd(wrong)
    with pytest.raises(OSError):
        Program.from_fd(1 << 30)
    with pytest.raises(TypeError, match="made by"):
        pylbpf.KernelProgram()


def test_a_pin_of_something_else(obj, bpffs):
    obj.maps["even"].pin(bpffs / "map")
    with pytest.raises(ValueError, match="not a BPF program"):
        Program.open_pinned(bpffs / "map")
    with pytest.raises(FileNotFoundError, match="open pin"):
        Program.open_pinned(bpffs / "nothing")


@pytest.mark.skipif(VERSION >= (1, 3), reason="libbpf < 1.3: it has path_fd")
def test_paths_relative_to_a_folder_need_a_newer_libbpf(obj, bpffs):
    with folder(bpffs) as fd:
        for what in obj.programs["send"], obj.maps["even"]:
            with pytest.raises(pylbpf.NotSupported, match="1.3"):
                what.pin("x", path_fd=fd)
        for kind in pylbpf.Program, pylbpf.Map, pylbpf.Link:
            with pytest.raises(pylbpf.NotSupported, match="1.3"):
                kind.open_pinned("x", path_fd=fd)


@pytest.mark.skipif(VERSION < (1, 3), reason="libbpf >= 1.3: path_fd")
def test_paths_relative_to_a_folder(obj, bpffs):
    mine = obj.programs["send"]
    with folder(bpffs) as fd, mine.attach() as link:
        try:
            mine.pin("program", path_fd=fd)
        except pylbpf.BpfError as error:
            assert error.errno == errno.EINVAL
            pytest.skip("path_fd: the kernel has none")
        link.pin("link", path_fd=fd)
        obj.maps["even"].pin("map", path_fd=fd)
        assert link.pin_path is None and {each.name for each in bpffs.iterdir()} == {"program", "link", "map"}
        with Program.open_pinned("program", path_fd=fd) as program, pylbpf.Link.open_pinned("link", path_fd=fd) as other, \
                pylbpf.Map.open_pinned("map", path_fd=fd) as map:
            assert program.id == mine.info().id == other.info().prog_id and map.info().id == obj.maps["even"].info().id
            program.pin("again", path_fd=fd)
            assert (bpffs / "again").exists() and program.pin_path is None
        with pytest.raises(FileNotFoundError):
            Program.open_pinned("nothing", path_fd=fd)
        os.unlink("link", dir_fd=fd)
        number = obj.maps["even"].info().id

        class Closing:
            def fileno(self) -> int:
                link.close()
                obj.close()
                return fd

        obj.maps["even"].pin("late", path_fd=Closing())
        with pylbpf.Map.open_pinned("late", path_fd=fd) as map:
            assert obj.closed and map.info().id == number


def test_a_map_of_a_number_for_reading_only(obj):
    even = obj.maps["config"]
    with pylbpf.Map.from_id(even.info().id, flags=pylbpf.MapFlags.RDONLY) as map:
        assert map.lookup(bytes(4)) is not None
        with pytest.raises(PermissionError):
            map.update(bytes(4), bytes(8))


# ---------------------------------------------------------------- what they can do


def test_run_by_hand_and_bind_a_map(xdp, obj):
    with Program.from_fd(xdp.programs["pass"]) as program:
        before = packets(xdp)
        assert program.test_run(bytes(64)).retval == 2 and packets(xdp) == before + 1
        program.bind_map(obj.maps["even"])
        assert obj.maps["even"].info().id in program.info().map_ids
        with pytest.raises(pylbpf.BpfError):
            program.read_stream(7)


def test_attached_by_descriptor(xdp, veth):
    with Program.from_fd(xdp.programs["pass"]) as program:
        before = packets(xdp)
        with program.link_create(veth.name, AttachType.XDP) as link:
            veth.send(3)
            assert packets(xdp) == before + 3 and link.program is program and "program 'pass'" in link.name
            assert link.info().prog_id == program.id
            link.update(xdp.programs["pass"], old_program=program)
            link.update(program)
        veth.send(1)
        assert packets(xdp) == before + 3
        with pytest.raises(OSError):
            program.link_create("no such thing", AttachType.XDP)
        with pytest.raises(pylbpf.BpfError):
            program.link_create(veth.name, AttachType.TCX_INGRESS)


def test_the_same_for_programs_of_objects(xdp, veth):
    program = xdp.programs["pass"]
    with program.link_create(veth.name, AttachType.XDP) as link:
        assert link.info().prog_id == program.info().id and link.program == program
        xdp.close()
        assert link.closed
    with pytest.raises(ValueError, match="closed"):
        program.link_create(veth.name, AttachType.XDP)


def test_raw_tracepoint(obj):
    with Program.from_fd(obj.programs["send"]) as program, program.attach_raw_tracepoint("task_rename") as link:
        before = rings.sent(obj)
        rings.send()
        assert rings.sent(obj) == before + 1 and link.info().tp_name == "task_rename"
        with pytest.raises(FileNotFoundError):
            program.attach_raw_tracepoint("no_such_tracepoint")
        if VERSION < (1, 4):
            with pytest.raises(pylbpf.NotSupported, match="1.4"):
                program.attach_raw_tracepoint("task_rename", cookie=1)
        else:
            with contextlib.suppress(pylbpf.BpfError), program.attach_raw_tracepoint("task_rename", cookie=1) as other:   # Linux 6.9
                assert other.info().prog_id == program.id


def test_without_links(bpf_object, cgroup):
    with loaded(bpf_object("cgroup"), "on_egress") as obj, Program.from_fd(obj.programs["on_egress"]) as program:
        program.prog_attach(cgroup, AttachType.CGROUP_INET_EGRESS)
        assert [each.prog_id for each in pylbpf.query.attached(cgroup, AttachType.CGROUP_INET_EGRESS).programs] == [program.id]
        program.prog_detach(cgroup, AttachType.CGROUP_INET_EGRESS)
        with pytest.raises(FileNotFoundError):
            program.prog_detach(cgroup, AttachType.CGROUP_INET_EGRESS)


def test_as_a_filter_of_a_socket(bpf_object):
    with pylbpf.open(bpf_object("xdp")) as obj:
        for each in obj.programs.values():
            each.autoload = False
        obj.programs["pass"].autoload, obj.programs["pass"].type = True, ProgramType.SOCKET_FILTER
        with contextlib.suppress(pylbpf.BpfError):
            obj.load()
            with Program.from_fd(obj.programs["pass"]) as program, socket.socket() as sock:
                program.attach_socket(sock)
                program.detach_socket(sock)
                with pytest.raises(FileNotFoundError):
                    program.detach_socket(sock)


# ---------------------------------------------------------------- how they end


def test_closed_is_a_value_error(obj):
    program = Program.from_fd(obj.programs["send"])
    number = program.fd
    program.close()
    program.close()
    with pytest.raises(OSError):
        os.fstat(number)
    for use in (lambda: program.fd, program.fileno, program.info, program.test_run, lambda: program.pin("/x"), program.unpin,
                program.__enter__, lambda: program.bind_map(3), lambda: program.read_stream(1), program.disassemble,
                lambda: program.prog_attach(3, 0), lambda: program.prog_detach(3, 0), lambda: program.attach_socket(3),
                lambda: program.link_create(None, 0), program.attach_raw_tracepoint):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert program.name == "send" and program.id


def test_a_link_does_not_need_the_program(obj):
    with Program.from_fd(obj.programs["send"]) as program:
        link = program.attach_raw_tracepoint("task_rename")
    with link:
        before = rings.sent(obj)
        rings.send()
        assert rings.sent(obj) == before + 1 and "send" in link.name


def test_dropped_is_closed(obj):
    program = Program.from_fd(obj.programs["send"])
    number = program.fd
    del program
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(number)


def test_a_forked_child_may_only_drop_it(obj):
    program = Program.from_fd(obj.programs["send"])
    child = os.fork()
    if child == 0:
        try:
            program.info()
        except pylbpf.StateError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert program.info().id == program.id
    program.close()


def test_closed_by_another_thread_while_it_attaches(obj):
    for _ in range(50):
        program = Program.from_fd(obj.programs["send"])
        closing = threading.Thread(target=program.close)
        closing.start()
        with contextlib.suppress(ValueError):
            program.attach_raw_tracepoint("task_rename").close()
        closing.join()
        assert program.closed


# ---------------------------------------------------------------- closed by another thread


LONG = 20_000_000       # runs of a program that does little: some tenths of a second


def during_a_run(program, meanwhile):
    """Run the program for long in another thread, and call meanwhile(); what became of the run."""
    became: list[object] = []

    def run() -> None:
        try:
            became.append(program.test_run(bytes(64), repeat=LONG).retval)
        except ValueError as error:     # it was closed before the run began
            became.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.05)
    try:
        meanwhile(thread, became)
    finally:
        thread.join()
    return became[0]


def test_closing_waits_for_nobody_and_disturbs_no_run(xdp):
    program = Program.from_fd(xdp.programs["pass"])
    fd = program.fd

    def meanwhile(thread: threading.Thread, _: object) -> None:
        program.close()
        assert program.closed
        with contextlib.suppress(OSError):
            os.fstat(fd)
            return
        assert not thread.is_alive()    # it is open as long as the kernel has it

    assert during_a_run(program, meanwhile) == 2
    with pytest.raises(OSError):
        os.fstat(fd)


@pytest.mark.parametrize("end", ["close", "unload", "detach_fds"])
def test_an_object_is_closed_after_the_runs(xdp, end):
    program = xdp.programs["pass"]

    def meanwhile(_: object, became: list[object]) -> None:
        if end == "close":
            xdp.close()
        elif end == "unload":
            program.unload()
        else:
            xdp.detach_fds().close()
        assert became       # not before

    assert during_a_run(program, meanwhile) == 2
    with pytest.raises((ValueError, pylbpf.StateError)):
        program.test_run(bytes(64))


def test_runs_side_by_side_while_the_object_is_used(xdp):
    program = xdp.programs["pass"]

    def meanwhile(*_: object) -> None:
        assert program.test_run(bytes(64)).retval == 2 and program.info().name == "pass"
        assert xdp.maps["packets"].lookup(bytes(4))

    assert during_a_run(program, meanwhile) == 2


def test_numbers_are_asked_before_descriptors(xdp, bpf_object, veth):
    """Whoever closes a program in __index__ gets an error, not another file under its number."""
    for operation in ("prog_attach", "prog_detach", "link_create"):
        other = Program.from_fd(xdp.programs["pass"])

        class Number:
            def __index__(self) -> int:
                other.close()
                return 1

        with pytest.raises((ValueError, OSError)):
            getattr(other, operation)(veth.name, AttachType.XDP, expected_revision=Number())
        assert other.closed
