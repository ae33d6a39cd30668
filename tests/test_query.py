"""What the kernel says: infos of what we hold, lists of all there is, and what is attached where."""
from __future__ import annotations

import os
import pickle
import struct

import numpy
import pytest

import kernel
import pylbpf
import rings
import usdt
from attaching import loaded
from pylbpf import AttachType, LinkType, MapType, ProgramType, query
from pylbpf.linkinfo import (
    CgroupLinkInfo, InterfaceLinkInfo, IterLinkInfo, PerfEventLinkInfo, RawTracepointLinkInfo, TracingLinkInfo,
)

VERSION = pylbpf.libbpf_version()
pytestmark = pytest.mark.bpf


@pytest.fixture
def obj(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        yield obj


# ---------------------------------------------------------------- programs, maps, types


def test_program_info(obj):
    program = obj.programs["send"]
    info = program.info()
    assert (info.name, info.type, info.uid) == ("send", ProgramType.RAW_TRACEPOINT, os.getuid())
    assert info.id > 0 and len(info.tag) == 16 and info.gpl_compatible and info.load_time > 0
    assert (info.ifindex, info.netns_dev, info.run_cnt, info.run_time_ns) == (0, 0, 0, 0)
    assert len(info.xlated) == info.xlated_size > 0 and len(info.jited) in (0, info.jited_size)
    assert info.verified_insns >= 1 and repr(info) == f"<ProgramInfo {info.id}: 'send', RAW_TRACEPOINT>"
    assert "exit" in info.disassemble()
    assert {query.map(id).name for id in info.map_ids} >= {"ring"} or info.map_ids


def test_line_info_of_a_program(obj):
    info = obj.programs["send"].info()
    lines = info.line_info
    assert lines and lines[0][0] == 0 and [line[0] for line in lines] == sorted(line[0] for line in lines)
    assert obj.btf.string(lines[0][1]).endswith(".c") and lines[0][3] > 0
    assert query.btf(info.btf_id).size > 0


def test_info_is_of_its_moment_and_its_arrays_end_with_the_object(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        info = obj.programs["send"].info()
    assert info.name == "send"
    with pytest.raises(ValueError, match="closed"):
        info.xlated


def test_all_programs_of_the_system(obj):
    mine = {program.info().id: program.info().tag for program in obj.programs.values() if program.fd >= 0}
    found = {info.id: info for info in query.programs()}
    assert {id: found[id].tag for id in mine} == mine
    assert list(found) == sorted(found)
    id = next(iter(mine))
    assert found[id].xlated == query.program(id).xlated and found[id].map_ids == query.program(id).map_ids


def test_all_maps_and_types_of_the_system(obj):
    found = {info.id: info for info in query.maps()}
    ring = next(map for map in obj.maps.values() if map.type == MapType.RINGBUF)
    [info] = [info for info in found.values() if info.name == ring.name[:15] and info.id == map_id(ring)]
    assert (info.type, info.max_entries, info.key_size) == (MapType.RINGBUF, ring.max_entries, 0)
    assert query.map(info.id).flags == info.flags and "RINGBUF" in repr(info)
    if not kernel.no_btf():
        [vmlinux] = [info for info in query.btfs() if info.name == "vmlinux"]
        assert vmlinux.kernel_btf and vmlinux.size > 10**5 and "vmlinux" in repr(vmlinux)


def map_id(map: pylbpf.Map) -> int:
    with open(f"/proc/self/fdinfo/{map.fileno()}") as info:
        return int(next(line.split()[1] for line in info if line.startswith("map_id")))


@pytest.mark.parametrize("ask", [query.program, query.map, query.link, query.btf, pylbpf.Link.from_id])
def test_number_that_is_not_there(ask):
    with pytest.raises(FileNotFoundError):
        ask(0x7FFFFFFF)
    for wrong in (-1, 1 << 32):
        with pytest.raises(ValueError):
            ask(wrong)
    with pytest.raises(TypeError):
        ask("1")


def test_program_that_has_gone_has_no_code_any_more(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        info = query.program(obj.programs["send"].info().id)
    for _ in range(200):
        try:
            query.program(info.id)
        except FileNotFoundError:
            break
        import time
        time.sleep(0.02)
    with pytest.raises(FileNotFoundError):
        info.xlated


def test_owners(obj):
    id = obj.programs["send"].info().id
    with obj.programs["send"].attach() as link:
        found = query.owners()
        assert os.getpid() in [owner.pid for owner in found["program", id]]
        assert os.getpid() in [owner.pid for owner in found["link", link.info().id]]


# ---------------------------------------------------------------- links


def test_raw_tracepoint_link(obj):
    with obj.programs["send"].attach() as link:
        info = link.info()
        assert isinstance(info, RawTracepointLinkInfo)
        assert (info.type, info.tp_name) == (LinkType.RAW_TRACEPOINT, "task_rename")
        assert info.prog_id == obj.programs["send"].info().id
        assert query.link(info.id) == info and info in query.links()
        with pytest.raises(pylbpf.NotSupported, match="RAW_TRACEPOINT cannot be updated"):
            link.update(obj.programs["send"])
    with pytest.raises(ValueError, match="closed"):
        link.info()


def test_link_from_number_and_descriptor(obj):
    link = obj.programs["send"].attach()
    info = link.info()
    with pylbpf.Link.from_id(info.id) as second, pylbpf.Link.from_fd(second) as third:
        assert second.info() == third.info() == info and second.program is None
        assert second.fd != third.fd and str(info.id) in second.name
        link.close()
        rings.send()
        assert rings.sent(obj) == 1  # they hold it
    rings.send()
    assert rings.sent(obj) == 1
    with open(os.devnull) as file, pytest.raises(pylbpf.BpfError, match="use as link"):
        pylbpf.Link.from_fd(file)
    with pytest.raises(pylbpf.BpfError):
        pylbpf.Link.from_fd(1 << 20)


def test_link_from_number_that_is_dropped_warns(obj):
    with obj.programs["send"].attach() as link:
        with pytest.warns(ResourceWarning, match="was never closed"):
            pylbpf.Link.from_id(link.info().id)


def test_tracepoint_link(bpf_object, tracefs, requires_perf_event):
    with loaded(bpf_object("tracepoint"), "on_anything") as obj:
        with obj.programs["on_anything"].attach_tracepoint("task", "task_rename", cookie=9) as link:
            info = link.info()
            assert isinstance(info, PerfEventLinkInfo) and info.type == LinkType.PERF_EVENT
            assert info.kind in ("", "tracepoint")
            if info.kind:  # kernels before 6.6 do not tell
                assert info.name == "task_rename" and info.cookie in (0, 9)
            with pytest.raises(pylbpf.NotSupported, match="PERF_EVENT cannot be updated"):
                link.update(obj.programs["on_anything"])


def test_uprobe_link(bpf_object, requires_uprobe):
    with loaded(bpf_object("uprobe"), "on_entry") as obj:
        with obj.programs["on_entry"].attach_uprobe(usdt.library(), function="probe", pid=0, cookie=4) as link:
            info = link.info()
            assert info.kind in ("", "uprobe")
            if info.kind:
                assert info.offset > 0 and info.name == str(usdt.library())


def test_tracing_and_iterator_links(bpf_object, requires_btf):
    with pylbpf.open(bpf_object("core")) as obj:
        obj.load()
        with obj.programs["on_sched_switch"].attach() as link:
            info = link.info()
            # A tp_btf program is attached as a raw tracepoint, or as a trampoline is, as the kernel's version has it.
            assert isinstance(info, (TracingLinkInfo, RawTracepointLinkInfo))
            assert info.type in (LinkType.TRACING, LinkType.RAW_TRACEPOINT)
    with loaded(bpf_object("iters"), "tasks") as obj, obj.programs["tasks"].attach() as link:
        info = link.info()
        assert isinstance(info, IterLinkInfo) and (info.target_name, info.pid, info.tid) == ("task", 0, 0)


def test_ioctl_perf_event_is_no_link(bpf_object, requires_perf_event):
    if VERSION < (1, 2):
        pytest.skip("libbpf >= 1.2: force_ioctl")
    event = kernel.perf_event_open(1, 0, frequency=99, pid=0, cpu=-1)
    try:
        with pylbpf.open(bpf_object("perf_event")) as obj:
            obj.load()
            with obj.programs["on_sample"].attach_perf_event(event, force_ioctl=True) as link:
                with pytest.raises(pylbpf.NotSupported, match="it is a perf event, not a link"):
                    link.info()
                with pytest.raises(pylbpf.NotSupported, match="cannot be updated"):
                    link.update(obj.programs["on_sample"])
    finally:
        os.close(event)


# ---------------------------------------------------------------- what is attached


def test_attached_to_a_cgroup(bpf_object, cgroup):
    assert query.attached(cgroup, AttachType.CGROUP_INET_EGRESS).programs == ()
    with loaded(bpf_object("net"), "egress_first", "egress_second") as obj:
        first, second = obj.programs["egress_first"], obj.programs["egress_second"]
        with first.attach_cgroup(cgroup) as link, second.attach_cgroup(cgroup):
            assert isinstance(link.info(), CgroupLinkInfo)
            found = query.attached(cgroup, AttachType.CGROUP_INET_EGRESS)
            assert [each.prog_id for each in found.programs] == [first.info().id, second.info().id]
            with open(cgroup / "cgroup.procs") as file, pytest.raises(pylbpf.BpfError, match="query"):
                query.attached(file, AttachType.CGROUP_INET_EGRESS)
            below = cgroup / "below"
            below.mkdir()
            try:
                assert query.attached(below, AttachType.CGROUP_INET_EGRESS).programs == ()
                inherited = query.attached(below, AttachType.CGROUP_INET_EGRESS, effective=True)
                assert [each.prog_id for each in inherited.programs] == [first.info().id, second.info().id]
            finally:
                below.rmdir()


def test_attached_to_an_interface(bpf_object, veth):
    if reason := kernel.no_tcx():
        pytest.skip(reason)
    with loaded(bpf_object("net"), "first", "second") as obj:
        first, second = obj.programs["first"], obj.programs["second"]
        with first.attach_tcx(veth.name) as link:
            info = link.info()
            assert isinstance(info, InterfaceLinkInfo) and info.attach_type == AttachType.TCX_INGRESS
            before = query.attached(veth.index, AttachType.TCX_INGRESS)
            with second.attach_tcx(veth.name):
                after = query.attached(veth.name, AttachType.TCX_INGRESS)
                assert [each.prog_id for each in after.programs] == [first.info().id, second.info().id]
                if VERSION >= (1, 3):
                    assert after.revision > before.revision and before.programs[0].link_id == info.id
                else:
                    assert after.revision is None and after.programs[0].link_id is None
        assert query.attached(veth.name, AttachType.TCX_EGRESS).programs == ()


def test_attached_to_an_interface_by_xdp(bpf_object, veth):
    with loaded(bpf_object("xdp"), "pass") as obj:
        program = obj.programs["pass"]
        assert query.attached(veth.name, AttachType.XDP).programs == ()
        with program.attach_xdp(numpy.int64(veth.index)):
            there = query.attached(veth.index, AttachType.XDP)
            assert [each.prog_id for each in there.programs] == [program.info().id] and there.revision is None
        with pytest.raises(OSError):
            query.attached("there_is_none", AttachType.XDP)


def test_attached_to_a_name_space(bpf_object):
    with loaded(bpf_object("net"), "lookup") as obj:
        with obj.programs["lookup"].attach_netns("/proc/self/ns/net"):
            found = query.attached("/proc/self/ns/net", AttachType.SK_LOOKUP)
            assert obj.programs["lookup"].info().id in [each.prog_id for each in found.programs]
            assert found.revision is None


def test_attached_to_what_is_not_there():
    with pytest.raises(pylbpf.BpfError, match="find network interface"):
        query.attached("plb_not_there", AttachType.TCX_INGRESS)
    with pytest.raises(FileNotFoundError):
        query.attached("/there/is/no/such", AttachType.CGROUP_DEVICE)
    with pytest.raises(TypeError):
        query.attached("lo", "TCX_INGRESS")
    assert struct.calcsize("=I") == 4


@pytest.mark.parametrize("made", [
    query.Attached(1, 2, ()), query.AttachedProgram(1, 2, 3), query.Owner(1, "x"), pylbpf.xdp.XdpQuery(*range(7)),
    pylbpf.TcFilter(1, 2, 3),
], ids=lambda made: type(made).__name__)
def test_answers_can_be_pickled(made):
    assert pickle.loads(pickle.dumps(made)) == made
