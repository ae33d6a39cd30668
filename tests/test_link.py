"""Links: what they keep attached, how they end, and how they outlive their process."""
from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import threading
import time

import pytest

import kernel
import pylbpf
import rings
import usdt

pytestmark = pytest.mark.bpf


@pytest.fixture
def obj(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        yield obj


@pytest.fixture
def program(obj):
    return obj.programs["send"]


@pytest.fixture
def count(obj):
    """count() -> how often the program runs when it is given one reason to."""
    def runs() -> int:
        before = rings.sent(obj)
        rings.send()
        return rings.sent(obj) - before

    return runs


@pytest.fixture
def xdp(bpf_object, veth):
    """A program that passes packets, and packets() -> how many of three it sees."""
    with pylbpf.open(bpf_object("xdp")) as obj:
        obj.programs["pass_frags"].autoload = False
        obj.load()

        def packets() -> int:
            before = struct.unpack("=Q", obj.maps["packets"].lookup(bytes(4)))[0]
            veth.send(3)
            return struct.unpack("=Q", obj.maps["packets"].lookup(bytes(4)))[0] - before

        yield obj.programs["pass"], packets


def descriptors() -> set[str]:
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")}


def link_id(link: pylbpf.Link) -> int:
    with open(f"/proc/self/fdinfo/{link.fd}") as info:
        return int(re.search(r"^link_id:\s*(\d+)", info.read(), re.MULTILINE).group(1))


def is_open(fd: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(fd)
        return True
    return False


# ---------------------------------------------------------------- two for one


def test_disconnecting_another_link_leaves_the_event(bpf_object, requires_bpf):
    """Of the perf event that libbpf has opened only the first knows."""
    with pylbpf.open(bpf_object("tracepoint")) as obj:
        obj.load()
        with obj.programs["on_task_rename"].attach() as link, pylbpf.Link.from_fd(link) as other:
            before = descriptors()
            os.close(other.disconnect())
            assert len(descriptors()) == len(before) - 1
            assert link.info()


def test_no_other_link_is_updated(xdp, veth, monkeypatch):
    """Who closes it while it is asked what it is has to wait: its number may be another link's afterwards."""
    program, _ = xdp
    readlink, tried = os.readlink, []

    def slow(path, *arguments, **options):
        try:
            link.close()
        except pylbpf.StateError as error:
            tried.append(error.errno)
        return readlink(path, *arguments, **options)

    with program.attach_xdp(veth.name) as link:
        monkeypatch.setattr(os, "readlink", slow)
        link.update(program)
        monkeypatch.undo()
        assert tried and set(tried) == {errno.EBUSY} and not link.closed


# ---------------------------------------------------------------- destroy


def test_destroy_twice_does_nothing(program, count):
    link = program.attach()
    fd = link.fd
    assert not link.closed and count() == 1
    link.destroy()
    assert link.closed and count() == 0 and not is_open(fd)
    link.destroy()
    link.close()
    assert repr(link) == "<Link: program 'send' on section 'raw_tp/task_rename', closed>"


def test_everything_on_a_closed_link_is_a_value_error(program, tmp_path):
    link = program.attach()
    link.destroy()
    for use in (lambda: link.fd, link.fileno, link.detach, link.disconnect, lambda: link.pin_path,
                lambda: link.pin(tmp_path / "x"), link.unpin, link.__enter__):
        with pytest.raises(ValueError, match="is closed"):
            use()
    assert link.name and str(link) == link.name


def test_with_destroys(program, count):
    with program.attach() as link:
        assert count() == 1
    assert link.closed and count() == 0


def test_descriptor_is_the_links_own(program):
    with program.attach() as link:
        assert link.fd == link.fileno() >= 3 and not os.get_inheritable(link.fd)
        assert "bpf" in os.readlink(f"/proc/self/fd/{link.fd}")


def test_link_cannot_be_copied(program):
    import copy
    import pickle
    with program.attach() as link:
        for make in (copy.copy, pickle.dumps):
            with pytest.raises(TypeError):
                make(link)


# ---------------------------------------------------------------- detach


def test_detach_in_the_kernel_keeps_the_link_object(xdp, veth):
    program, packets = xdp
    with program.attach_xdp(veth.name) as link:
        assert packets() == 3
        link.detach()
        assert packets() == 0 and not link.closed and is_open(link.fd)
        link.detach()  # as the kernel has it: nothing more to do


def test_detach_of_a_kind_that_cannot(program, count):
    with program.attach() as link:
        with pytest.raises(pylbpf.BpfError, match="detach program 'send'") as raised:
            link.detach()
        assert raised.value.errno == errno.EOPNOTSUPP
        assert not link.closed and count() == 1


# ---------------------------------------------------------------- disconnect


def test_disconnect_hands_out_the_descriptor(program, count):
    link = program.attach()
    number = link.fd
    fd = link.disconnect()
    assert fd == number and link.closed and is_open(fd)
    assert count() == 1
    link.destroy()
    assert count() == 1 and is_open(fd)
    os.close(fd)
    assert count() == 0


def test_disconnected_link_outlives_its_object(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        shared = os.dup(obj.maps["config"].fd)
        fd = obj.programs["send"].attach().disconnect()
    with pylbpf.open(bpf_object("rings")) as reader:
        reader.maps["config"].reuse_fd(shared)
        os.close(shared)
        reader.load()
        rings.send(2)
        assert rings.sent(reader) == 2
        os.close(fd)
        rings.send(2)
        assert rings.sent(reader) == 2


@pytest.mark.parametrize("kind", ["perf_event", "tracepoint", "uprobe", "xdp"])
def test_closing_the_descriptor_of_disconnect_frees_everything(bpf_object, kind, veth, requires_perf_event, requires_uprobe,
                                                               tracefs):
    """Links on perf events hold two descriptors; one is handed out, and nobody else knows of the other."""
    library = usdt.library() if kind == "uprobe" else None
    with pylbpf.open(bpf_object(kind)) as obj:
        obj.load()
        event = kernel.perf_event_open(1, 0, frequency=99)
        before = descriptors()
        if kind == "perf_event":
            link = obj.programs["on_sample"].attach_perf_event(event)
        elif kind == "tracepoint":
            link = obj.programs["on_task_rename"].attach()
        elif kind == "uprobe":
            link = obj.programs["on_entry"].attach_uprobe(library, function="probe", pid=0)
        else:
            link = obj.programs["pass"].attach_xdp(veth.name)
        os.close(link.disconnect())
        left = descriptors() - before
        os.close(event)
        for fd in left:
            os.close(int(fd))
        assert not left


def test_of_several_uprobes_of_a_program_the_right_one_is_let_go(bpf_object, requires_uprobe):
    library = usdt.library()
    with pylbpf.open(bpf_object("uprobe")) as obj:
        obj.load()
        program = obj.programs["on_entry"]
        with program.attach_uprobe(library, function="probe", pid=0, retprobe=True) as other:
            before = descriptors()
            link = program.attach_uprobe(library, function="probe", pid=0)
            if not link.info().kind:
                link.close()
                pytest.skip("perf event info: the kernel does not tell what a link is on")
            os.close(link.disconnect())
            assert descriptors() == before
            assert other.info().kind == "uretprobe"


# ---------------------------------------------------------------- pins


def test_pin_and_unpin(program, count, bpffs):
    path = bpffs / "link"
    with program.attach() as link:
        assert link.pin_path is None
        link.pin(path)
        assert path.exists() and link.pin_path == str(path)
        with pytest.raises(pylbpf.BpfError):
            link.pin(bpffs / "another")
        link.unpin()
        assert not path.exists() and link.pin_path is None
        assert count() == 1
        with pytest.raises(pylbpf.BpfError):
            link.unpin()


def test_pinned_link_outlives_everything_and_can_be_opened(obj, program, count, bpffs):
    path = bpffs / "sub" / "link"
    link = program.attach()
    link.pin(path)
    link.destroy()
    assert count() == 1
    opened = pylbpf.Link.open(path)
    assert opened.name == f"pinned at {path}" and opened.pin_path == str(path) and not opened.closed
    opened.unpin()
    assert count() == 1
    opened.close()
    assert count() == 0


def test_opened_link_keeps_attached_what_nobody_else_does(program, count, bpffs):
    link = program.attach()
    link.pin(bpffs / "link")
    opened = pylbpf.Link.open(str(bpffs / "link"))
    link.destroy()
    (bpffs / "link").unlink()
    assert count() == 1
    opened.destroy()
    assert count() == 0


def test_xdp_link_is_pinned_and_detached_by_another(xdp, veth, bpffs):
    program, packets = xdp
    link = program.attach_xdp(veth.name)
    link.pin(bpffs / "xdp")
    link.close()
    with pylbpf.Link.open(os.fsencode(bpffs / "xdp")) as opened:
        assert packets() == 3
        opened.detach()
        assert packets() == 0
        opened.unpin()


def test_failing_unpin_says_why(program, bpffs):
    with program.attach() as link:
        link.pin(bpffs / "link")
        (bpffs / "link").unlink()
        with pytest.raises(FileNotFoundError, match="unpin program 'send'"):
            link.unpin()


def test_paths_that_cannot_be_shown(obj, program, bpffs):
    """Nothing is asked of a path but what it is."""

    class Silent(os.PathLike):
        def __init__(self, path) -> None:
            self.path = path

        def __fspath__(self) -> str:
            return str(self.path)

        def __str__(self) -> str:
            raise RuntimeError("says nothing")

        __repr__ = __str__

    with program.attach() as link:
        link.pin(Silent(bpffs / "link"))
        program.pin(Silent(bpffs / "program"))
        assert {each.name for each in bpffs.iterdir()} == {"link", "program"}
        class Number:
            def fileno(self) -> int:
                return link.fd

            __str__ = __repr__ = Silent.__str__

        before = len(os.listdir("/proc/self/fd"))
        pylbpf.Link.from_fd(Number()).close()
        with pytest.raises(ValueError):
            pylbpf.Program.from_fd(Number())
        assert len(os.listdir("/proc/self/fd")) == before
        with pylbpf.Link.open_pinned(Silent(bpffs / "link")) as other:
            assert other.info().id == link.info().id
        with pytest.raises(pylbpf.BpfError, match="pin"):
            program.pin(Silent(bpffs / "program"))
        program.unpin(Silent(bpffs / "program"))
        os.unlink(bpffs / "link")
        assert len(program.insns.tobytes()) == 8 * program.insn_count


def test_pin_where_it_cannot_be(program, tmp_path, bpffs):
    with program.attach() as link:
        with pytest.raises(pylbpf.BpfError):
            link.pin(tmp_path / "no_bpffs")
        (bpffs / "taken").mkdir()
        with pytest.raises(FileExistsError):
            link.pin(bpffs / "taken")
        with pytest.raises(ValueError, match="NUL"):
            link.pin("a\0b")
        assert link.pin_path is None


def test_open_of_what_is_no_pinned_link(obj, bpffs, tmp_path):
    with pytest.raises(FileNotFoundError, match="open link"):
        pylbpf.Link.open(bpffs / "nothing")
    obj.maps["config"].pin(bpffs / "map")
    with pytest.raises(pylbpf.BpfError):
        with pylbpf.Link.open(bpffs / "map") as link:
            link.detach()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path, "/dev/null"):
        with pytest.raises(pylbpf.BpfError):
            pylbpf.Link.open(path)
    for path in ("", "a\0b"):
        with pytest.raises(ValueError):
            pylbpf.Link.open(path)
    obj.maps["config"].unpin()


def test_open_of_a_pinned_map_is_an_error(obj, bpffs):
    """It would be a link that is none."""
    obj.maps["config"].pin(bpffs / "map")
    try:
        with pytest.raises(pylbpf.BpfError):
            pylbpf.Link.open(bpffs / "map").close()
    finally:
        obj.maps["config"].unpin()


# ---------------------------------------------------------------- several


def test_link_set_is_a_sequence(bpf_object):
    with pylbpf.open(bpf_object("subprogs")) as obj:
        obj.load()
        links = obj.attach()
        assert len(links) == 3 and links[0] is list(links)[0] and links[-1] in links
        assert isinstance(links[:2], pylbpf.LinkSet) and len(links[:2]) == 2
        with pytest.raises(IndexError):
            links[3]
        assert repr(links) == "<LinkSet: 3 links, 0 programs skipped>"
        with links[1:]:
            assert not links[1].closed
        assert [link.closed for link in links] == [False, True, True]
        links.close()
        links.close()
        assert all(link.closed for link in links)


def test_object_close_destroys_links_made_by_hand(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        places = ("task_rename", "task_newtask", "sched_process_fork")
        links = [obj.programs["on_task_rename"].attach_raw_tracepoint(place) for place in places]
        numbers = {link_id(link) for link in links}
        assert len(numbers) == 3 and numbers <= kernel.link_ids()
    assert all(link.closed for link in links)
    for _ in range(100):  # a raw tracepoint link is freed after a grace period
        if not numbers & kernel.link_ids():
            break
        time.sleep(0.01)
    assert not numbers & kernel.link_ids()


# ---------------------------------------------------------------- races


def test_update_while_others_close(bpf_object, veth):
    """Whoever comes first: an error that says what is closed, or the new program attached; nothing else."""
    for late in range(6):
        with pylbpf.open(bpf_object("xdp")) as mine, pylbpf.open(bpf_object("xdp")) as other:
            for each in mine, other:
                each.programs["pass_frags"].autoload = False
                each.load()
            link = mine.programs["pass"].attach_xdp(veth.name)
            closing = threading.Thread(target=link.close if late % 2 else other.close)
            closing.start()
            if late > 3:
                closing.join()
            with contextlib.suppress(ValueError):
                link.update(other.programs["pass"])
            closing.join()
            assert late % 2 == 0 or link.closed
            if not link.closed and not other.closed:
                assert link.info().prog_id == link.program.info().id


def test_a_link_that_an_attach_returns_twice_is_one(bpf_object):
    class Twice(pylbpf.ProgramHandler):
        section = "raw_tp+"
        program_type = pylbpf.ProgramType.RAW_TRACEPOINT

        def attach(self, program):
            link = program.attach_raw_tracepoint("task_rename")
            return [link, link]

    with pylbpf.open(bpf_object("rings"), handlers=[Twice()]) as obj:
        obj.load()
        link = obj.programs["send"].attach()
        assert isinstance(link, pylbpf.Link)
        link.close()
        links = obj.attach()
        assert len(links) == len(set(links))
