"""Programs at work: run by hand, pinned, bound to maps, and what they write."""
from __future__ import annotations

import errno
import struct

import pytest

import pylbpf
from attaching import count, loaded

pytestmark = pytest.mark.bpf
PACKET = bytes(range(64))


@pytest.fixture
def xdp(bpf_object):
    with pylbpf.open(bpf_object("xdp")) as obj:
        obj.load()
        yield obj


def packets(obj: pylbpf.Object) -> int:
    return int(struct.unpack("=Q", obj.maps["packets"].lookup(bytes(4)))[0])


def test_one_run(xdp):
    result = xdp.programs["pass"].test_run(PACKET)
    assert (result.retval, result.data, result.ctx) == (2, PACKET, None)
    assert packets(xdp) == 1 and result.duration < 10**9 and "retval 2" in repr(result)


def test_many_runs(xdp):
    result = xdp.programs["pass"].test_run(data=bytearray(PACKET), repeat=1000)
    assert packets(xdp) == 1000 and result.data == PACKET


def test_context_comes_back(bpf_object):
    with loaded(bpf_object("net"), "first") as obj:
        ctx = bytearray(192)
        struct.pack_into("=I", ctx, 8, 0)
        struct.pack_into("=I", ctx, 32, 7)  # priority of struct __sk_buff
        result = obj.programs["first"].test_run(PACKET, ctx)
        assert result.retval == 0xFFFFFFFF and len(result.ctx) == 192
        assert struct.unpack_from("=I", result.ctx, 32) == (7,)
        assert count(obj, 0) == 1


def test_raw_tracepoint_has_arguments_and_no_data(bpf_object):
    with loaded(bpf_object("task_rename"), "on_task_rename") as obj:
        program = obj.programs["on_task_rename"]
        result = program.test_run(ctx=struct.pack("=4Q", 0, 0, 0, 0))
        assert (result.data, result.ctx) == (None, None)
        program.test_run(ctx=bytes(32), cpu=0)
        with pytest.raises(pylbpf.BpfError, match="test run program 'on_task_rename'") as raised:
            program.test_run(PACKET)
        assert raised.value.errno == errno.EINVAL


def test_too_little_room_tells_what_fits(xdp):
    with pytest.raises(pylbpf.BpfError, match="more than data_size_out") as raised:
        xdp.programs["pass"].test_run(PACKET, data_size_out=10)
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.result.data == PACKET[:10] and raised.value.result.retval == 2
    assert packets(xdp) == 1  # it was not run again


def test_long_packets(xdp):
    packet = bytes(3000)
    assert xdp.programs["pass"].test_run(packet).data == packet
    packet = bytes(20000)
    assert xdp.programs["pass_frags"].test_run(packet).data == packet


def test_live_frames(xdp, veth):
    before = packets(xdp)
    ctx = struct.pack("=6I", 0, len(PACKET), 0, veth.index, 0, 0)
    result = xdp.programs["pass"].test_run(PACKET, ctx, repeat=10, live_frames=True, batch_size=4)
    assert packets(xdp) == before + 10 and result.data is None and result.ctx is None


@pytest.mark.parametrize("options, error", [
    ({"repeat": 0}, ValueError), ({"repeat": -1}, ValueError), ({"repeat": 1 << 31}, ValueError),
    ({"repeat": 1.5}, TypeError), ({"flags": "x"}, TypeError), ({"cpu": -1}, ValueError),
    ({"data_size_out": 1 << 31}, ValueError), ({"ctx": "text"}, TypeError),
])
def test_options_that_are_wrong(xdp, options, error):
    with pytest.raises(error):
        xdp.programs["pass"].test_run(PACKET, **options)
    assert packets(xdp) == 0


def test_short_packet_is_the_kernels_error(xdp):
    with pytest.raises(pylbpf.BpfError) as raised:
        xdp.programs["pass"].test_run(b"short")
    assert raised.value.errno == errno.EINVAL


def test_only_loaded_programs_run(bpf_object):
    with pylbpf.open(bpf_object("xdp")) as obj:
        program = obj.programs["pass"]
        with pytest.raises(pylbpf.StateError, match="not loaded"):
            program.test_run(PACKET)
    with pytest.raises(ValueError, match="closed"):
        program.test_run(PACKET)


def test_buffers_are_given_back(xdp):
    packet = bytearray(PACKET)
    xdp.programs["pass"].test_run(packet)
    packet.append(1)
    with pytest.raises(pylbpf.BpfError):
        xdp.programs["pass"].test_run(packet, bytes(1))
    packet.append(1)


# ---------------------------------------------------------------- pins, maps, streams


def test_pinned_program_outlives_its_object(bpf_object, bpffs):
    with pylbpf.open(bpf_object("xdp")) as obj:
        obj.load()
        program = obj.programs["pass"]
        program.pin(bpffs / "pass")
        id = program.info().id
        with pytest.raises(pylbpf.BpfError, match="pin program 'pass'"):
            program.pin(bpffs / "pass")
        program.pin(bpffs / "second")
        program.unpin(bpffs / "second")
        assert not (bpffs / "second").exists()
    assert (bpffs / "pass").exists() and pylbpf.query.program(id).name == "pass"
    with pytest.raises(pylbpf.BpfError, match="pin program 'pass', /tmp"), pylbpf.open(bpf_object("xdp")) as obj:
        obj.load()
        obj.programs["pass"].pin("/tmp/no_bpffs_here")


def test_map_is_bound_to_a_program(bpf_object, xdp):
    with loaded(bpf_object("task_rename"), "on_task_rename") as obj:
        program = xdp.programs["pass"]
        before = program.info().map_ids
        program.bind_map(obj.maps["counts"])
        assert len(program.info().map_ids) == len(before) + 1
        with pytest.raises(pylbpf.BpfError, match="bind .* to program 'pass'"):
            program.bind_map(program)
        with pytest.raises(TypeError, match="map must be"):
            program.bind_map("counts")


def test_stream_without_anything_in_it(xdp):
    program = xdp.programs["pass"]
    if pylbpf.libbpf_version() < (1, 6):
        with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.6"):
            program.read_stream(1)
        return
    try:
        assert program.read_stream(1) == program.read_stream(2, size=10) == b""
    except pylbpf.BpfError as error:
        assert error.errno == errno.EINVAL
        pytest.skip("Linux >= 6.17: streams")
    with pytest.raises(pylbpf.BpfError, match="read stream 7"):
        program.read_stream(7)
    with pytest.raises(ValueError, match="size is 1 to"):
        program.read_stream(1, size=0)


@pytest.mark.parametrize("cpu", [0, 1, 77])
def test_processor_of_programs_that_run_where_the_caller_is(xdp, cpu):
    with pytest.raises(ValueError, match="cpu is for raw tracepoints"):
        xdp.programs["pass"].test_run(bytes(64), cpu=cpu)
