"""detach_fds(): descriptors without their object."""
from __future__ import annotations

import gc
import os
import resource
import warnings

import pytest

import kernel
import loaded
import objects
import pylbpf
import usdt
from handling import HIT, count_this_process, value

bpf = pytest.mark.bpf


def is_cloexec(fd):
    return not os.get_inheritable(fd)


@bpf
@pytest.mark.parametrize("threads", [None, 2])
def test_descriptors_of_programs_and_maps(bpf_object, threads):
    obj = pylbpf.open(bpf_object("parts"))
    obj.load(threads=threads)
    programs = {name: number for number, name in loaded.names_of(obj).items()}
    maps = {map.name: loaded.map_id(map.fd) for map in obj.maps.values()}
    numbers = {program.fd for program in obj.programs.values()} | {map.fd for map in obj.maps.values()}
    before = loaded.in_kernel()
    with obj.detach_fds() as kept:
        assert obj.closed and not kept.closed and len(kept.links) == 0
        assert loaded.in_kernel() == len(kept.programs) + len(kept.maps) <= before
        assert {name: loaded.prog_info(fd)[0].id for name, fd in kept.programs.items()} == programs
        assert "off" not in programs
        assert {name: loaded.map_id(fd) for name, fd in kept.maps.items()} == maps
        assert all(is_cloexec(fd) for fd in [*kept.programs.values(), *kept.maps.values()])
        assert not numbers & {*kept.programs.values(), *kept.maps.values()}
        assert repr(kept) == f"<Descriptors: parts.bpf.o, {len(programs)} programs, {len(maps)} maps, 0 links>"
        with pytest.raises(TypeError):
            kept.programs["plain"] = 3
        with pytest.raises(ValueError, match="closed"):
            obj.programs
    assert kept.closed and dict(kept.programs) == dict(kept.maps) == {} and loaded.in_kernel() == 0
    kept.close()
    assert repr(kept) == "<Descriptors: parts.bpf.o, closed>"


@bpf
@pytest.mark.parametrize("threads", [None, 3])
def test_links_live_on(threads):
    path = objects.build(objects.many(4, f"raw_tp/{HIT}", with_map=True, by_process=True), "many_4")
    obj = pylbpf.open(path)
    obj.load(threads=threads)
    count_this_process(obj)
    attached = obj.attach()
    alone = obj.programs["p0002"].attach_raw_tracepoint("oom_score_adj_update")
    with pylbpf.open(path) as reader:
        reader.maps["counts"].reuse_fd(obj.maps["counts"].fd)
        kept = obj.detach_fds()
        reader.load()
        kernel.rename_task(3)
        assert [value(reader.maps["counts"], slot) for slot in range(4)] == [3, 3, 3, 3]
        assert list(kept.links) == [*attached, alone]
        assert all(not link.closed and link.fd >= 0 for link in kept.links)
        assert "of many_4.bpf.o on raw_tracepoint oom_score_adj_update" in alone.name
        alone.close()
        kept.close()
        assert all(link.closed for link in attached)
        kernel.rename_task(3)
        assert [value(reader.maps["counts"], slot) for slot in range(4)] == [3, 3, 3, 3]


@bpf
def test_links_that_were_closed_or_dropped_are_not_kept():
    obj = pylbpf.open(objects.build(objects.many(2, f"raw_tp/{HIT}"), "many_2"))
    obj.load()
    obj.attach().close()
    with obj.detach_fds() as kept:
        assert len(kept.links) == 0


@bpf
def test_not_before_load_and_not_after_close(bpf_object):
    obj = pylbpf.open(bpf_object("task_rename"))
    with pytest.raises(pylbpf.StateError, match="open, it must be loaded"):
        obj.detach_fds()
    obj.close()
    with pytest.raises(ValueError, match="closed"):
        obj.detach_fds()
    with pytest.raises(TypeError, match="detach_fds"):
        pylbpf.Descriptors()


@bpf
def test_not_while_views_are_in_use(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        before = loaded.in_kernel()
        with memoryview(next(iter(obj.programs.values())).insns):
            with pytest.raises(BufferError, match="views of its instructions"):
                obj.detach_fds()
        assert obj.state == pylbpf.State.LOADED and loaded.in_kernel() == before


@bpf
def test_links_that_need_the_object(requires_uprobe):
    with pylbpf.open(usdt.build(1)) as obj:
        obj.load()
        with obj.attach() as links:
            with pytest.raises(pylbpf.StateError, match="need the object, close them before: program"):
                obj.detach_fds()
            assert not links[0].closed
        with obj.detach_fds() as kept:
            assert kept.programs


@bpf
def test_no_descriptor_is_lost_when_there_are_too_few(bpf_object):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    with pylbpf.open(bpf_object("parts")) as obj:
        obj.load()
        before = loaded.in_kernel()
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, limit[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            for _ in range(5):
                os.close(taken.pop())
            with pytest.raises(pylbpf.BpfError, match="Too many open files"):
                obj.detach_fds()
            for _ in range(5):
                taken.append(os.open("/dev/null", os.O_RDONLY))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            for fd in taken:
                os.close(fd)
        assert loaded.in_kernel() == before and obj.state == pylbpf.State.LOADED


@bpf
def test_ring_buffers_are_closed(bpf_object):
    obj = pylbpf.open(bpf_object("rings"))
    obj.load()
    ring = obj.ring_buffer(next(map.name for map in obj.maps.values() if map.type == pylbpf.MapType.RINGBUF))
    with obj.detach_fds():
        assert ring.closed


@bpf
def test_never_closed(bpf_object):
    obj = pylbpf.open(bpf_object("task_rename"))
    obj.load()
    kept = obj.detach_fds()
    del obj
    gc.collect()
    with pytest.warns(ResourceWarning, match="was never closed"):
        del kept
        gc.collect()
    assert loaded.in_kernel() == 0
    obj = pylbpf.open(bpf_object("task_rename"))
    obj.load()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        obj.detach_fds().close()
