"""Each kind of map that the kernel has: made and used for real, with what it means by keys and values."""
from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct

import pytest

import kernel
import objects
import pylbpf
from pylbpf import BloomFilter, Map, MapFlags, MapType, Queue, UpdateFlags

pytestmark = pytest.mark.bpf


def make(type: MapType, **more) -> Map:
    """A map of this kind, or the test is skipped where the kernel has none."""
    more.setdefault("max_entries", 4)
    try:
        return Map.create(type, name=type.name.lower()[:15], **more)
    except pylbpf.BpfError as error:
        if error.errno in (22, 95, 524, 7, 1):
            pytest.skip(f"map {type.name}: this kernel makes none ({error.strerror})")
        raise


@pytest.fixture
def obj(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        yield obj


@pytest.mark.parametrize("type", [MapType.HASH, MapType.LRU_HASH, MapType.ARRAY])
def test_plain_maps(type):
    with make(type, key="u4", value="u8") as map:
        map[1] = 2
        assert map[1] == 2 and dict(map)[1] == 2


@pytest.mark.parametrize("type", [MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH, MapType.PERCPU_ARRAY])
def test_per_cpu_maps(type):
    with make(type, key="u4", value="u2") as map:
        values = list(range(pylbpf.possible_cpus()))
        map[1] = values
        assert map[1] == values


def test_prefixes_are_networks():
    with make(MapType.LPM_TRIE, key_size=8, value="u4", flags=MapFlags.NO_PREALLOC) as map:
        map["10.0.0.0/8"] = 1
        map[ipaddress.ip_network("10.1.0.0/16")] = 2
        map[(0, bytes(4))] = 3
        assert map["10.1.2.3"] == 2 and map[ipaddress.ip_address("10.2.0.1")] == 1 and map["11.0.0.1/32"] == 3
        assert set(map) == {ipaddress.ip_network(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0")}
        assert map.pop("10.1.0.0/16") == 2 and map["10.1.2.3"] == 1
        for bad in ("::1", "nonsense", (33, bytes(4)), (8, bytes(5))):
            with pytest.raises(ValueError):
                map[bad]
        with pytest.raises(TypeError):
            map[5]
    with make(MapType.LPM_TRIE, key_size=20, value="u4", flags=MapFlags.NO_PREALLOC) as map:
        map["fe80::/10"] = 7
        assert list(map) == [ipaddress.ip_network("fe80::/10")] and map["fe80::1"] == 7
    with make(MapType.LPM_TRIE, key_size=7, value="u4", flags=MapFlags.NO_PREALLOC) as map:
        map[(16, b"ab\0")] = 7
        assert list(map) == [(16, b"ab\0")]


@pytest.mark.parametrize("type, order", [(MapType.QUEUE, [1, 2, 3]), (MapType.STACK, [3, 2, 1])])
def test_queues_and_stacks(type, order):
    with make(type, value="u4", max_entries=3) as queue:
        assert isinstance(queue, Queue) and not queue and queue.peek(None) is None and queue.pop("none") == "none"
        for use in (queue.peek, queue.pop):
            with pytest.raises(IndexError, match="is empty"):
                use()
        for number in (1, 2, 3):
            queue.push(number)
        assert queue and queue.peek() == order[0]
        with pytest.raises(pylbpf.BpfError):
            queue.push(4)
        assert list(queue) == order and not queue
        for number in range(5):
            queue.push(number, flags=UpdateFlags.EXIST)
        assert len(list(queue)) == 3
        for use in (lambda: queue[1], lambda: queue.get(1), lambda: len(queue), lambda: queue.__setitem__(1, 1)):
            with pytest.raises(TypeError, match="has no keys"):
                use()
        with pytest.raises(ValueError):
            queue.push(-1)


def test_bloom_filters():
    with make(MapType.BLOOM_FILTER, value="u4", max_entries=100) as bloom:
        assert isinstance(bloom, BloomFilter)
        for number in range(50):
            bloom.add(number)
        assert all(number in bloom for number in range(50))
        assert sum(number in bloom for number in range(1000, 2000)) < 500
        with pytest.raises(TypeError):
            list(bloom)
        with pytest.raises(ValueError):
            bloom.add(-1)


@pytest.mark.parametrize("type", [MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS])
def test_maps_in_maps(type):
    with make(MapType.ARRAY, key="u4", value="u8") as inner, make(type, key="u4", inner=inner) as outer:
        inner[1] = 11
        outer[2] = inner
        with outer[2] as found:
            assert isinstance(found, Map) and found.type is MapType.ARRAY and found.typed(value="u8")[1] == 11
            assert outer.setdefault(3, inner).info().id == outer.setdefault(3, found).info().id == inner.info().id
        with pytest.raises(TypeError):
            outer[2] = "inner"
        with make(MapType.HASH, key="u4", value="u2") as other, pytest.raises(pylbpf.BpfError):
            outer[2] = other
        if type is MapType.HASH_OF_MAPS:
            del outer[2]
            assert 2 not in outer


@pytest.mark.parametrize("type", [MapType.PROG_ARRAY, MapType.PERF_EVENT_ARRAY, MapType.CGROUP_ARRAY, MapType.ARRAY_OF_MAPS])
def test_sizes_of_numbered_descriptors_are_known(type):
    with Map.create(MapType.ARRAY, key="u4", value="u8", max_entries=2) as inner:
        with Map.create(type, max_entries=3, inner=inner if type is MapType.ARRAY_OF_MAPS else None) as map:
            assert (map.key_size, map.value_size) == (4, 4)
        with pytest.raises(ValueError, match="needs max_entries"):
            Map.create(type, inner=inner)


def test_maps_of_maps_say_what_they_lack():
    with pytest.raises(ValueError, match="needs inner"):
        Map.create(MapType.HASH_OF_MAPS, key="u4", max_entries=1)
    with Map.create(MapType.ARRAY, key="u4", value="u8", max_entries=2) as inner, pytest.raises(ValueError, match="needs key"):
        Map.create(MapType.HASH_OF_MAPS, max_entries=1, inner=inner)


def test_inner_maps_can_be_set_before_the_load(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        with Map.create(MapType.ARRAY, key="u4", value="u8", max_entries=2) as inner:
            obj.maps["hash_of_maps"].set_inner(inner)
            with pytest.raises((pylbpf.BpfError, ValueError)):
                obj.maps["hash"].set_inner(inner)
        obj.load()  # though it is closed: its descriptor was kept
        obj.maps["hash_of_maps"][1] = obj.maps["inner"]
        with pytest.raises(pylbpf.StateError):
            obj.maps["hash_of_maps"].set_inner(obj.maps["inner"])


def test_a_map_for_one_program_only(bpf_object):
    path = objects.build(objects.many(2, ["raw_tp/task_rename"], with_map=True), "exclusive")
    with pylbpf.open(path) as obj, pylbpf.open(path) as other:
        one, map = obj.programs["p0000"], next(map for map in obj.maps.values() if not map.is_internal)
        with pytest.raises(TypeError, match="must be a Program"):
            map.set_exclusive_program("p0000")
        with pytest.raises(ValueError, match="not of the object"):
            map.set_exclusive_program(other.programs["p0000"])
        if pylbpf.libbpf_version() < (1, 7):
            with pytest.raises(pylbpf.NotSupported, match="1.7"):
                map.set_exclusive_program(one)
            return
        map.set_exclusive_program(one)
        if kernel.RELEASE < (6, 18):
            with pytest.raises(pylbpf.BpfError):
                obj.load()
            return
        with pytest.raises(pylbpf.BpfError):
            obj.load()  # the other program uses it
    with pylbpf.open(path) as obj:
        map = next(map for map in obj.maps.values() if not map.is_internal)
        map.set_exclusive_program(obj.programs["p0000"])
        obj.programs["p0001"].autoload = False
        obj.load()
        with pytest.raises(pylbpf.StateError):
            map.set_exclusive_program(obj.programs["p0000"])


def test_programs_in_an_array(obj):
    map = obj.maps["prog_array"]
    map[1] = obj.programs["user"]
    assert isinstance(map[1], int) and map[1] > 0 and list(map) == [1] and dict(map) == {1: map[1]}
    del map[1]
    assert 1 not in map and dict(map.items()) == {}
    for bad, error in ((0, pylbpf.BpfError), (-1, ValueError), ("user", TypeError), (obj, TypeError)):
        with pytest.raises(error):
            map[1] = bad


@pytest.mark.parametrize("type", [MapType.DEVMAP, MapType.DEVMAP_HASH])
def test_devices(type):
    with make(type, key_size=4, value_size=4) as map:
        map[1] = "lo"
        assert map[1] == 1
        map[1] = socket.if_nametoindex("lo")
        with pytest.raises(OSError):
            map[2] = "no_such_device"
    with make(type, key_size=4, value_size=8) as map:
        map[1] = ("lo", None)
        assert map[1] == 1


def test_cpus():
    with make(MapType.CPUMAP, key_size=4, value_size=8, max_entries=pylbpf.possible_cpus()) as map:
        map[0] = 192
        assert map[0] == 192


def test_sockets():
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(server.getsockname()))
        stack.enter_context(server.accept()[0])
        with make(MapType.SOCKMAP, key_size=4, value_size=8) as map:
            map[1] = client
            assert map[1] > 0  # its cookie
            assert 2 not in map
            del map[1]
        with make(MapType.SOCKHASH, key="u8", value_size=8) as map:
            map[77] = client
            assert map[77] > 0 and list(map) == [77]
        with make(MapType.SK_STORAGE, value="u8", max_entries=0) as map:
            storage = map.typed(value="u8")
            storage[client] = 5
            assert storage[client] == 5 and storage[client.fileno()] == 5 and storage.get(server) is None
            del storage[client]
            assert client not in storage
            with pytest.raises(TypeError, match="a descriptor"):
                storage["socket"]


def test_reuseport_sockets():
    with make(MapType.REUSEPORT_SOCKARRAY, key_size=4, value_size=8) as map:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", 0))
            map[0] = one
            assert map[0] > 0


def test_task_storage_is_by_pidfd():
    fd = os.pidfd_open(os.getpid())
    try:
        with make(MapType.TASK_STORAGE, value="u8", max_entries=0) as map:
            map[fd] = 99
            assert map[fd] == 99
            map.set(fd, 100, flags=UpdateFlags.EXIST)
            assert map.get(fd) == 100
            del map[fd]
            with pytest.raises(KeyError):
                map[fd]
            with pytest.raises(pylbpf.BpfError):
                map[0]
    finally:
        os.close(fd)


@pytest.mark.parametrize("key", [(8, 4), (8.7, bytes(4)), (True, bytes(4)), (8, "10.0"), (8, 1.5)], ids=str)
def test_prefixes_are_not_guessed(key):
    with make(MapType.LPM_TRIE, key_size=8, value="u4", flags=MapFlags.NO_PREALLOC) as map:
        with pytest.raises(TypeError):
            map[key] = 7
        map[8, bytearray(4)] = 7
        assert len(map) == 1


def test_inode_storage_is_by_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with make(MapType.INODE_STORAGE, value="u4", max_entries=0) as map:
        map[tmp_path / "file"] = 3
        assert map[str(tmp_path / "file")] == 3
        with open(tmp_path / "file") as file:
            assert map[file] == 3
        with pytest.raises(FileNotFoundError):
            map[tmp_path / "other"]


def test_inode_storage_of_what_nobody_reads(tmp_path):
    """A file is only named: opening a pipe would wait for somebody who writes."""
    os.mkfifo(tmp_path / "pipe", 0)
    with make(MapType.INODE_STORAGE, value="u4", max_entries=0) as map:
        map[tmp_path / "pipe"] = 3
        assert map[tmp_path / "pipe"] == 3


def test_cgroup_storage_is_by_path(cgroup):
    try:
        made = make(MapType.CGRP_STORAGE, value="u4", max_entries=0)
    except pylbpf.BpfError as error:
        pytest.skip(f"map CGRP_STORAGE: the kernel refuses it ({error.strerror})")
    with made as map:
        map[cgroup] = 3
        assert map[str(cgroup)] == 3
        del map[cgroup]
        assert cgroup not in map


def test_cgroups_in_an_array(cgroup):
    with make(MapType.CGROUP_ARRAY, key_size=4, value_size=4) as map:
        map[1] = cgroup
        del map[1]
        with pytest.raises(FileNotFoundError):
            map[1] = cgroup / "nothing"


def test_stacks_are_lists_of_addresses():
    with make(MapType.STACK_TRACE, key_size=4, value_size=80) as map:
        assert list(map) == [] and map.get(1) is None
        with pytest.raises(KeyError):
            map[0]


def test_perf_events_in_an_array(requires_perf_event):
    with make(MapType.PERF_EVENT_ARRAY, key_size=4, value_size=4) as map:
        with pytest.raises(pylbpf.BpfError):
            map[0] = 0  # standard input is none
        with pytest.raises((KeyError, pylbpf.BpfError)):
            map[0]


def test_sockets_of_xdp():
    with make(MapType.XSKMAP, key_size=4, value_size=4) as map:
        with socket.socket() as plain, pytest.raises(pylbpf.BpfError):
            map[0] = plain
        with contextlib.suppress(OSError), socket.socket(44, socket.SOCK_RAW) as xdp:  # AF_XDP
            map[0] = xdp
            del map[0]


@pytest.mark.parametrize("type", [MapType.RINGBUF, MapType.USER_RINGBUF])
def test_ring_buffers_have_no_elements(type):
    with make(type, max_entries=4096) as map:
        assert map.key_size == 0 and map.max_entries == 4096
        for use in (lambda: map[0], lambda: list(map), lambda: len(map)):
            with pytest.raises(TypeError, match="has no keys"):
                use()


@pytest.mark.parametrize("type", [MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE])
def test_old_cgroup_storage(type):
    with make(type, key_size=8, value_size=8, max_entries=0) as map:
        assert list(map) == []
        with pytest.raises((KeyError, pylbpf.BpfError)):
            map[struct.pack("=Q", 1)] = 1 if type is MapType.CGROUP_STORAGE else [1] * pylbpf.possible_cpus()


def test_arrays_of_instructions():
    with make(MapType.INSN_ARRAY, key_size=4, value="V16") as map:
        assert len(map.raw[bytes(4)]) == 16


def test_stacks_of_a_real_program():
    path = objects.build("""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16);
	__uint(key_size, 4);
	__uint(value_size, 20 * 8);
} stacks SEC(".maps");
SEC("raw_tp/task_rename") int user(void *ctx) { bpf_get_stackid(ctx, &stacks, 0); return 0; }
char _license[] SEC("license") = "GPL";
""", "stacks")
    with pylbpf.open(path) as obj:
        obj.load()
        with obj.attach():
            kernel.rename_task()
        stacks = obj.maps["stacks"]
        assert len(stacks) >= 1
        for trace in stacks.values():
            assert trace and all(address > 1 << 63 for address in trace)
