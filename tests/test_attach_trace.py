"""Functions replaced, iterators of many kinds."""
from __future__ import annotations

import contextlib
import errno
import gc
import os
import struct

import pytest

import kernel
import pylbpf
from attaching import loaded
from pylbpf import IterOrder

VERSION = pylbpf.libbpf_version()
pytestmark = pytest.mark.bpf


# ---------------------------------------------------------------- freplace


@pytest.fixture
def replaced(bpf_object, requires_btf):
    """An XDP program, and one for a function of it."""
    with loaded(bpf_object("freplace"), "asks") as target, pylbpf.open(bpf_object("freplace")) as obj:
        drops = obj.programs["drops"]
        obj.programs["asks"].autoload = False
        drops.autoload = True
        drops.set_attach_target("decide", prog_fd=target.programs["asks"])
        try:
            obj.load()
        except pylbpf.BpfError as error:
            pytest.skip(f"freplace: the kernel refuses such programs ({os.strerror(error.errno)})")
        yield target.programs["asks"], drops


def test_a_handler_over_freplace_looks_the_function_up_in_the_target(bpf_object, requires_btf):
    """As libbpf would have; the kernel may take the program or not."""
    with loaded(bpf_object("freplace"), "asks") as target, \
            pylbpf.open(bpf_object("freplace"), handlers=[pylbpf.ProgramHandler(section="freplace+")]) as obj:
        obj.programs["asks"].autoload = False
        drops = obj.programs["drops"]
        drops.autoload = True
        drops.set_attach_target("decide", prog_fd=target.programs["asks"])
        try:
            obj.load()
        except pylbpf.BpfError as error:
            assert "decide" not in error.log     # it was found
        else:
            with drops.attach():
                assert target.programs["asks"].test_run(data=bytes(64)).retval == 1


def test_freplace(replaced, veth):
    asks, drops = replaced
    packet = bytes(64)
    assert asks.test_run(data=packet).retval == 2
    with drops.attach_trace():
        assert asks.test_run(data=packet).retval == 1
    assert asks.test_run(data=packet).retval == 2
    with pytest.raises(pylbpf.BpfError) as raised:
        drops.attach_trace()  # the kernel forgets the target that was loaded with, once it was attached
    assert raised.value.errno == errno.EINVAL
    with drops.attach_freplace(asks, "decide") as link:
        assert asks.test_run(data=packet).retval == 1
        assert link.info().target_obj_id == asks.info().id
    assert asks.test_run(data=packet).retval == 2
    with pytest.raises(pylbpf.BpfError, match="freplace no_such_function"):
        drops.attach_freplace(asks, "no_such_function")
    with pytest.raises(pylbpf.BpfError):
        asks.attach_freplace(asks, "decide")
    with pytest.raises(TypeError, match="target must be"):
        drops.attach_freplace("asks", "decide")


def test_tracing_multi_options(bpf_object):
    with loaded(bpf_object("task_rename"), "on_task_rename") as obj:
        program = obj.programs["on_task_rename"]
        for options in ({}, {"pattern": "a", "ids": [1]}, {"pattern": "a", "cookies": [1]}, {"ids": [1], "cookies": [1, 2]},
                        {"ids": [1 << 32]}):
            with pytest.raises(ValueError):
                program.attach_tracing_multi(**options)
        if VERSION < (1, 8):
            with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.8"):
                program.attach_tracing_multi("do_*")


# ---------------------------------------------------------------- iterators


@pytest.fixture
def iters(bpf_object, requires_btf):
    with loaded(bpf_object("iters"), "tasks", "tasks_again", "cgroups") as obj:
        yield obj


@pytest.fixture
def elements(bpf_object, requires_btf):
    """An iterator of a map's elements."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(loaded(bpf_object("iters"), "elements"))
        except pylbpf.VerifierError as error:
            pytest.skip(f"iter/bpf_map_elem: the kernel refuses such programs ({os.strerror(error.errno)})")


def threads_of_this_process() -> int:
    return len(os.listdir("/proc/self/task"))


def test_lines_of_an_iterator(iters):
    with iters.programs["tasks"].iter() as lines:
        found = [tuple(map(int, line.split())) for line in lines]
    assert len(found) == len(set(found)) > threads_of_this_process()
    assert lines.closed


def test_lines_as_text(iters):
    found = list(iters.programs["tasks"].iter(text=True))
    assert all(isinstance(line, str) and line.endswith("\n") for line in found) and found
    with iters.programs["tasks"].iter(text=True) as lines:
        assert lines.read().count("\n") >= threads_of_this_process()


def test_a_loop_to_the_end_leaves_nothing_open(iters):
    before = len(os.listdir("/proc/self/fd"))
    for line in iters.programs["tasks"].iter():
        assert line.endswith(b"\n")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_loop_that_is_left_early_warns_as_files_do(iters):
    with pytest.warns(ResourceWarning, match="unclosed"):
        for _ in iters.programs["tasks"].iter():
            break
        gc.collect()


def test_threads_of_one_process_and_one_thread(iters):
    program = iters.programs["tasks"]
    mine = list(program.iter(pid=os.getpid()))
    assert len(mine) == threads_of_this_process()
    assert len(list(program.iter(tid=os.getpid()))) == 1
    fd = os.pidfd_open(os.getpid()) if hasattr(os, "pidfd_open") else None
    if fd is not None:
        try:
            assert list(program.iter(pid_fd=fd)) == mine
        finally:
            os.close(fd)
    with program.attach_iter(pid=os.getpid()) as link:
        info = link.info()
        assert info.target_name == "task" and info.pid > 0


def test_elements_of_a_map(elements):
    iters = elements
    table = iters.maps["table"]
    for key in range(500):
        table.update(struct.pack("=I", key), struct.pack("=Q", key * key))
    lines = [line.strip() for line in iters.programs["elements"].iter(map=table, text=True)]
    assert sorted(lines) == sorted(f"{key}={key * key}" for key in range(500))
    with iters.programs["elements"].attach_iter(map=table) as link:
        assert link.info().target_name == "bpf_map_elem" and link.info().map_id
        again = [line.strip() for line in link.iter(text=True)]
        table.delete(struct.pack("=I", 7))
        assert len(list(link.iter())) == 499 and len(again) == 500


def test_iterator_of_a_map_keeps_the_map(elements):
    with elements as obj:
        obj.maps["table"].update(bytes(4), bytes(8))
        lines = obj.programs["elements"].iter(map=obj.maps["table"])
    assert list(lines) == [b"0=0\n"]


def test_cgroups(iters, cgroup):
    program = iters.programs["cgroups"]
    below = cgroup / "below"
    below.mkdir()
    try:
        [own] = program.iter(cgroup=cgroup, order=IterOrder.SELF_ONLY, text=True)
        level = int(own.split()[1])
        down = list(program.iter(cgroup=cgroup, order=IterOrder.DESCENDANTS_PRE, text=True))
        assert down == [f"level {level}\n", f"level {level + 1}\n"]
        up = list(program.iter(cgroup=cgroup, order=IterOrder.ANCESTORS_UP, text=True))
        assert up == [f"level {each}\n" for each in range(level, -1, -1)]
        with program.attach_iter(cgroup=cgroup, order=IterOrder.SELF_ONLY) as link:
            assert link.info().cgroup_id == cgroup.stat().st_ino and link.info().order == IterOrder.SELF_ONLY
    finally:
        below.rmdir()


def test_iterator_of_a_wrong_thing(iters, tmp_path):
    program = iters.programs["tasks"]
    with pytest.raises(ValueError, match="an iterator goes through a map, or"):
        program.iter(pid=1, tid=1)
    with pytest.raises(ValueError):
        program.iter(pid=-1)
    with pytest.raises(pylbpf.BpfError, match="attach iter"):
        iters.programs["cgroups"].iter(cgroup=tmp_path, order=IterOrder.SELF_ONLY)
    with pytest.raises(ValueError, match="goes through 'task', not the elements of a map"):
        program.iter(map=iters.maps["table"])
    with pytest.raises(ValueError, match="goes through 'task', not cgroups"):
        program.iter(cgroup=tmp_path)
    with pytest.raises(TypeError, match="map must be"):
        program.iter(map="table")


def test_only_iterators_have_lines(bpf_object, trigger):
    with loaded(bpf_object("task_rename"), "on_task_rename") as obj:
        with obj.programs["on_task_rename"].attach() as link:
            with pytest.raises(pylbpf.BpfError) as raised:
                link.iter()
            assert raised.value.errno == errno.EINVAL


def test_pinned_iterator_is_read_like_a_file(iters, bpffs):
    with iters.programs["tasks"].attach_iter() as link:
        link.pin(bpffs / "tasks")
        assert (bpffs / "tasks").read_text().count("\n") >= threads_of_this_process()
        with pylbpf.Link.open(bpffs / "tasks") as pinned:
            assert len(list(pinned.iter())) >= threads_of_this_process()
            pinned.update(iters.programs["tasks_again"])
            assert set(pinned.iter()) == {b"again\n"}


def test_iterator_in_a_forked_child_is_the_parents(iters):
    program = iters.programs["tasks"]
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with pytest.raises(pylbpf.StateError):
                program.iter()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert kernel.no_btf() == ""
