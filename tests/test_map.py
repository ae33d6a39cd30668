"""Maps of an object: their definition before load, their elements as bytes afterwards, and pins."""
from __future__ import annotations

import contextlib
import errno
import os
import struct

import pytest

import pylbpf
from pylbpf import MapFlags, MapType, UpdateFlags

VERSION = pylbpf.libbpf_version()


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def u64(value: int) -> bytes:
    return struct.pack("=Q", value)


@pytest.fixture
def obj(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        yield obj


@pytest.fixture
def maps(obj, requires_bpf):
    obj.load()
    return obj.maps


# ---------------------------------------------------------------- definition


def test_a_map_tells_what_it_is(obj):
    map = obj.maps["hash"]
    assert (map.name, map.type, map.key_size, map.value_size, map.max_entries) == ("hash", MapType.HASH, 4, 32, 100)
    assert map.flags == 0 and map.map_extra == 0 and map.ifindex == 0 and map.autocreate and not map.is_internal
    assert map.fd == -1 and map.pin_path is None and not map.is_pinned
    assert repr(map) == "<Map: hash, HASH, key 4, value 32, 100 entries>" and str(map) == "map 'hash'"
    assert obj.maps["untyped"].flags is MapFlags.NO_PREALLOC
    assert (obj.maps["untyped"].key_size, obj.maps["untyped"].value_size) == (3, 5)
    assert obj.maps["ringbuf"].type is MapType.RINGBUF


def test_maps_of_global_variables_are_internal(bpf_object):
    with pylbpf.open(bpf_object("globals")) as obj:
        internal = {name.partition(".")[2] for name, map in obj.maps.items() if map.is_internal}
        assert {"data", "bss", "rodata"} <= internal
        assert obj.maps[".data.tuned"].is_internal and obj.maps[".rodata.tables"].value_size == 16


@pytest.mark.bpf
def test_definition_can_be_changed_before_load(obj):
    map = obj.maps["hash"]
    map.type = MapType.LRU_HASH
    map.key_size, map.value_size, map.max_entries = 16, 24, 1000
    assert (map.type, map.key_size, map.value_size, map.max_entries) == (MapType.LRU_HASH, 16, 24, 1000)
    obj.maps["untyped"].flags = MapFlags.NO_PREALLOC | MapFlags.RDONLY_PROG
    obj.load()
    map.update(bytes(16), bytes(24))
    assert map.lookup(bytes(16)) == bytes(24)
    assert obj.maps["untyped"].flags == MapFlags.NO_PREALLOC | MapFlags.RDONLY_PROG


def test_setters_are_read_back(obj):
    map = obj.maps["array"]
    map.numa_node, map.map_extra, map.pin_path = 0, 1 << 40, "/sys/fs/bpf/never_there"
    assert (map.numa_node, map.map_extra, map.pin_path) == (0, 1 << 40, "/sys/fs/bpf/never_there")
    map.pin_path = None
    assert map.pin_path is None
    map.ifindex = "lo"
    assert map.ifindex == 1
    map.ifindex = 0
    map.autocreate = False
    assert not map.autocreate


@pytest.mark.bpf
def test_without_autocreate_there_is_no_map(obj):
    obj.maps["lpm_trie"].autocreate = False
    obj.load()
    assert obj.maps["lpm_trie"].fd == -1
    with pytest.raises(pylbpf.StateError, match="autocreate is off"):
        obj.maps["lpm_trie"].next_key()


@pytest.mark.parametrize("attribute, value", [
    ("type", MapType.ARRAY), ("key_size", 4), ("value_size", 4), ("max_entries", 1), ("flags", 0), ("map_extra", 1),
    ("numa_node", 0), ("ifindex", 0), ("autocreate", True), ("pin_path", None),
])
def test_setters_after_load_are_state_errors(maps, attribute, value):
    before = getattr(maps["hash"], attribute)
    with pytest.raises(pylbpf.StateError, match=f"set {attribute} of map 'hash' in maps.bpf.o: the object is loaded"):
        setattr(maps["hash"], attribute, value)
    assert getattr(maps["hash"], attribute) == before


def test_elements_before_load_are_state_errors(obj):
    map = obj.maps["hash"]
    for use in (lambda: map.lookup(u32(1)), lambda: map.update(u32(1), bytes(32)), lambda: map.delete(u32(1)),
                map.next_key, lambda: list(map.keys()), lambda: list(map.items()), map.fileno,
                lambda: map.lookup_and_delete(u32(1)), lambda: map.pin("/sys/fs/bpf/x"), map.attach_struct_ops):
        with pytest.raises(pylbpf.StateError, match="does not exist in the kernel"):
            use()


def test_newer_autoattach(obj):
    map = obj.maps["hash"]
    if VERSION < (1, 5):
        with pytest.raises(pylbpf.NotSupported, match=r"bpf_map__autoattach needs libbpf 1\.5"):
            map.autoattach
        with pytest.raises(pylbpf.NotSupported, match=r"bpf_map__set_autoattach needs libbpf 1\.5"):
            map.autoattach = True
    else:
        assert map.autoattach in (True, False)
        with pytest.raises(pylbpf.BpfError, match="set autoattach of map 'hash'"):
            map.autoattach = True  # no struct_ops map


# ---------------------------------------------------------------- elements


@pytest.mark.parametrize("name", ["hash", "lru_hash", "untyped", "lpm_trie"])
def test_elements_come_and_go(maps, name):
    map = maps[name]
    key = u32(24) + b"\x0a\0\0\0" if name == "lpm_trie" else bytes(range(map.key_size))
    one, two = b"\1" * map.value_size, b"\2" * map.value_size
    assert map.lookup(key) is None and map.next_key() is None
    map.update(key, one)
    assert map.lookup(key) == one
    map.update(bytearray(key), memoryview(two), flags=UpdateFlags.EXIST)
    assert map.lookup(memoryview(key)) == two
    assert list(map.raw.keys()) == [key] and list(map.raw.items()) == [(key, two)]
    map.delete(key)
    assert map.lookup(key) is None
    with pytest.raises(KeyError):
        map.delete(key)


def test_update_flags_say_what_must_be_there(maps):
    map = maps["hash"]
    with pytest.raises(KeyError) as raised:
        map.update(u32(1), bytes(32), flags=UpdateFlags.EXIST)
    assert raised.value.args == (u32(1),)
    map.update(u32(1), bytes(32), flags=UpdateFlags.NOEXIST)
    with pytest.raises(FileExistsError) as existing:
        map.update(u32(1), bytes(32), flags=UpdateFlags.NOEXIST)
    assert isinstance(existing.value, pylbpf.BpfError) and existing.value.errno == errno.EEXIST


def test_array_elements_are_there_from_the_start(maps):
    map = maps["array"]
    assert map.lookup(u32(9)) == bytes(32)
    assert map.lookup(u32(10)) is None
    assert list(map.raw) == [u32(at) for at in range(10)] and list(map) == list(range(10))
    with pytest.raises(pylbpf.BpfError):
        map.delete(u32(0))
    with pytest.raises(KeyError):
        map.update(u32(10), bytes(32))


def test_full_map_says_so(maps):
    map = maps["untyped"]
    for at in range(10):
        map.update(bytes([at, 0, 0]), bytes(5))
    with pytest.raises(pylbpf.BpfError) as raised:
        map.update(b"abc", bytes(5))
    assert raised.value.errno == errno.E2BIG and "untyped" in str(raised.value)


def test_lookup_and_delete(maps):
    map = maps["hash"]
    map.update(u32(5), b"v" * 32)
    assert map.lookup_and_delete(u32(5)) == b"v" * 32
    assert map.lookup_and_delete(u32(5)) is None and map.lookup(u32(5)) is None


def test_queue_and_stack_take_no_key(maps):
    for name, order in (("queue", [1, 2, 3]), ("stack", [3, 2, 1])):
        map = maps[name]
        assert map.lookup() is None and map.lookup_and_delete() is None
        for value in (1, 2, 3):
            map.update(None, u32(value))
        assert map.lookup() == u32(order[0])
        assert [map.lookup_and_delete() for _ in range(4)] == [*map_u32(order), None]
        for value in range(4):
            map.update(None, u32(value))
        with pytest.raises(pylbpf.BpfError) as raised:
            map.update(None, u32(4))
        assert raised.value.errno == errno.E2BIG


def map_u32(values):
    return [u32(value) for value in values]


@pytest.mark.parametrize("name", ["percpu_hash", "percpu_array", "lru_percpu_hash"])
def test_per_cpu_values_have_a_part_for_each_possible_cpu(maps, name):
    map = maps[name]
    cpus = pylbpf.possible_cpus()
    size = (map.value_size + 7) // 8 * 8
    key = bytes(map.key_size)
    value = b"".join(bytes([cpu + 1]) * map.value_size + bytes(size - map.value_size) for cpu in range(cpus))
    map.update(key, value)
    assert map.lookup(key) == value
    for wrong in (map.value_size, size * cpus - 1, size * cpus + 8, size * (cpus + 1)):
        if wrong != size * cpus:
            with pytest.raises(ValueError, match=f"{size * cpus} bytes"):
                map.update(key, bytes(wrong))


def test_possible_cpus_counts_what_the_kernel_says():
    with open("/sys/devices/system/cpu/possible") as file:
        last = file.read().strip().split(",")[-1].split("-")[-1]
    assert pylbpf.possible_cpus() == int(last) + 1


def test_wrong_sizes_never_reach_the_kernel(maps):
    map = maps["hash"]
    for key in (b"", bytes(3), bytes(5), bytes(1000)):
        for use in (map.lookup, map.delete, map.next_key, map.lookup_and_delete,
                    lambda key: map.update(key, bytes(32))):
            with pytest.raises(ValueError, match="a key of map 'hash' has 4 bytes"):
                use(key)
    for value in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="a value of map 'hash' has 32 bytes"):
            map.update(u32(1), value)
    assert map.next_key() is None


def test_arrays_are_keys_and_values(maps):
    numpy = pytest.importorskip("numpy")
    map = maps["mmapable"]
    map.update(numpy.array([3], "u4"), numpy.array([99], "u8"))
    assert map.lookup(numpy.array([3], "u4")) == u64(99)
    with pytest.raises((BufferError, ValueError)):
        map.lookup(numpy.zeros(8, "u1")[::2])


def test_buffers_are_let_go_after_each_call(maps):
    map = maps["hash"]
    key, value = bytearray(u32(1)), bytearray(32)
    map.update(key, value)
    map.lookup(key), map.next_key(key), map.delete(key)
    with pytest.raises(KeyError):
        map.delete(key)
    with pytest.raises(ValueError):
        map.update(key, bytearray(31))
    key += b"x"  # no export is left
    value += b"x"


def test_keys_can_be_deleted_while_walking(maps):
    map = maps["hash"]
    for at in range(50):
        map.update(u32(at), bytes(32))
    for key in map.raw.keys():
        with contextlib.suppress(KeyError):
            map.delete(key)
    assert map.next_key() is None


def test_walking_ends_though_somebody_adds_and_deletes(maps):
    map = maps["hash"]
    for at in range(20):
        map.update(u32(at), bytes(32))
    count = 0
    for key in map.raw:
        count += 1
        with contextlib.suppress(KeyError):
            map.delete(key)
        map.update(key, bytes(32))
    assert count <= map.max_entries


def test_programs_go_into_a_prog_array(obj, maps):
    program = obj.programs["user"]
    map = maps["prog_array"]
    map.update(u32(1), u32(program.fd))
    assert map.lookup(u32(1)) is not None  # the program's id
    map.delete(u32(1))
    with pytest.raises(KeyError):
        map.delete(u32(1))
    with pytest.raises(pylbpf.BpfError):
        map.update(u32(1), u32(0))  # standard input is no program


def test_maps_go_into_a_map_of_maps(maps):
    map = maps["hash_of_maps"]
    map.update(u32(7), u32(maps["inner"].fd))
    assert map.lookup(u32(7)) is not None and list(map) == [7]
    map.delete(u32(7))


def test_what_a_type_cannot_do_is_a_bpf_error_that_names_the_map(maps):
    with pytest.raises(pylbpf.BpfError, match="map 'ringbuf'"):
        maps["ringbuf"].next_key()
    with pytest.raises(pylbpf.BpfError, match="map 'queue'"):
        maps["queue"].next_key()


def test_descriptor_is_the_maps_own(maps):
    for map in maps.values():
        assert map.fd == map.fileno() >= 3
        assert os.readlink(f"/proc/self/fd/{map.fd}") == "anon_inode:bpf-map"
        assert not os.get_inheritable(map.fd)


# ---------------------------------------------------------------- pins and reuse


def test_pin_and_unpin(maps, bpffs):
    map = maps["hash"]
    path = bpffs / "folder" / "my_hash"
    map.pin(path)
    assert map.is_pinned and map.pin_path == str(path) and path.exists()
    with pytest.raises(pylbpf.BpfError):
        map.pin(bpffs / "elsewhere")
    map.unpin()
    assert not map.is_pinned and not path.exists()
    with pytest.raises(FileNotFoundError):
        map.unpin()
    map.pin()  # its path is still known
    assert path.exists()
    map.unpin(path)


def test_pin_without_a_path_is_a_value_error(maps):
    with pytest.raises(ValueError, match="no pin_path"):
        maps["array"].pin()
    with pytest.raises(ValueError, match="no pin_path"):
        maps["array"].unpin()


def test_pin_outside_a_bpf_file_system_is_an_error(maps, tmp_path):
    with pytest.raises(pylbpf.BpfError, match="map 'array'"):
        maps["array"].pin(tmp_path / "array")
    assert not (tmp_path / "array").exists() and not maps["array"].is_pinned


@pytest.mark.bpf
def test_pinned_map_outlives_its_object_and_is_found_by_the_next(bpf_object, bpffs):
    path = bpffs / "kept"
    with pylbpf.open(bpf_object("empty")) as obj:
        obj.maps["table"].pin_path = path
        obj.load()
        assert obj.maps["table"].is_pinned
        obj.maps["table"].update(u32(1), u64(11))
    with pylbpf.open(bpf_object("empty")) as obj:
        obj.maps["table"].pin_path = path
        obj.load()
        assert obj.maps["table"].lookup(u32(1)) == u64(11)
        obj.maps["table"].unpin()


@pytest.mark.bpf
def test_reuse_fd_shares_a_map(bpf_object):
    with pylbpf.open(bpf_object("empty")) as one, pylbpf.open(bpf_object("empty")) as two:
        one.maps["table"].max_entries = 77
        one.load()
        two.maps["table"].reuse_fd(one.maps["table"])
        assert two.maps["table"].max_entries == 77
        two.load()
        assert two.maps["table"].fd != one.maps["table"].fd
        one.maps["table"].update(u32(1), u64(5))
        one.close()
        assert two.maps["table"].lookup(u32(1)) == u64(5)
        with pytest.raises(pylbpf.StateError):
            two.maps["table"].reuse_fd(two.maps["table"])


@pytest.mark.bpf
@pytest.mark.parametrize("value_size, entries", [(1 << 20, 1), (None, 1000)])
def test_maps_of_global_variables_are_reused_with_the_same_sizes_only(bpf_object, value_size, entries):
    with pylbpf.open(bpf_object("globals")) as obj:
        bss = obj.maps[".bss"]
        size = bss.value_size
        with pylbpf.Map.create(MapType.ARRAY, key_size=4, value_size=value_size or size, max_entries=entries,
                               flags=MapFlags.MMAPABLE) as other, pytest.raises(ValueError, match="initial values"):
            bss.reuse_fd(other)
        assert (bss.value_size, bss.max_entries) == (size, 1) and len(bytes(bss.view())) >= size


@pytest.mark.parametrize("fd", [-1, 1 << 20, "null"])
def test_reuse_fd_of_something_else_is_an_error(obj, fd):
    with contextlib.ExitStack() as stack:
        if fd == "null":
            fd = stack.enter_context(open(os.devnull)).fileno()
        with pytest.raises((pylbpf.BpfError, ValueError)):
            obj.maps["hash"].reuse_fd(fd)
    assert obj.maps["hash"].max_entries == 100


@pytest.mark.bpf
def test_struct_ops_needs_a_struct_ops_map(maps):
    with pytest.raises(pylbpf.BpfError):
        maps["hash"].attach_struct_ops()


@pytest.mark.bpf
def test_bloom_filter_takes_values_without_keys(bpf_object):
    with pylbpf.open(bpf_object("maps_extra")) as obj:
        map = obj.maps["bloom_filter"]
        assert map.map_extra == 3
        for other in obj.maps.values():
            other.autocreate = other == map
        try:
            obj.load()
        except pylbpf.BpfError as error:
            pytest.skip(f"map BLOOM_FILTER: the kernel refuses it ({error.strerror})")
        map.update(None, u32(7))
        with pytest.raises(ValueError, match="has 4 bytes"):
            map.update(None, b"")
        with pytest.raises(pylbpf.BpfError):
            map.next_key()
