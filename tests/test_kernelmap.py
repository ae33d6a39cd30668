"""Maps without an object: made, opened from a pin, by id or descriptor, and closed."""
from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

import pylbpf
from pylbpf import Map, MapFlags, MapType

pytestmark = pytest.mark.bpf


def small(**more) -> Map:
    return Map.create(MapType.HASH, **{"key_size": 4, "value_size": 8, "max_entries": 10, **more})


def number_of(map: Map) -> int:
    lines = Path(f"/proc/self/fdinfo/{map.fd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("map_id"))


def test_a_map_is_made_without_an_object():
    with small(name="made_by_a_test_of_ours", flags=MapFlags.NO_PREALLOC) as map:
        assert (map.type, map.key_size, map.value_size, map.max_entries) == (MapType.HASH, 4, 8, 10)
        assert map.name == "made_by_a_test_of_ours" and map.flags == MapFlags.NO_PREALLOC and not map.is_internal
        assert str(map) == "map 'made_by_a_test_of_ours'" and "HASH, key 4, value 8, 10 entries" in repr(map)
        map.update(b"abcd", b"12345678")
        assert map.lookup(b"abcd") == b"12345678" and list(map.raw) == [b"abcd"]
    assert map.closed and repr(map) == "<Map: closed>"


def test_what_is_closed_is_a_value_error():
    map = small(name="short")
    map.close(), map.close()
    for use in (lambda: map.lookup(bytes(4)), lambda: map.fd, lambda: map.type, lambda: map.max_entries, map.freeze,
                map.next_key, lambda: map.pin("/sys/fs/bpf/x"), map.__enter__, lambda: setattr(map, "max_entries", 1)):
        with pytest.raises(ValueError, match="map 'short' is closed"):
            use()


def test_the_last_reference_closes_the_descriptor():
    map = small()
    fd = map.fd
    del map
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)


def test_the_kernel_s_name_is_cut_ours_is_not():
    with small(name="a_name_of_more_than_15") as map, Map.from_fd(map) as other:
        assert (map.name, other.name) == ("a_name_of_more_than_15", "a_name_of_more_")
    for wrong in ("with space", "dash-ed", "ü"):
        with pytest.raises(ValueError, match="letters, digits"):
            small(name=wrong)
    with pytest.raises(ValueError, match="NUL"):
        small(name="a\0b")


def test_ways_to_the_same_map_are_maps_of_their_own():
    with small() as map, Map.from_fd(map) as by_fd, Map.from_fd(map.fd) as by_number, Map.from_id(number_of(map)) as by_id:
        map.update(b"abcd", b"12345678")
        for other in (by_fd, by_number, by_id):
            assert other.lookup(b"abcd") == b"12345678" and other != map and other.fd != map.fd
        assert map == map and hash(map) == hash(map)


def test_a_pin_is_opened_and_removed(bpffs):
    path = bpffs / "deep" / "pinned"
    with small() as map:
        assert not map.is_pinned and map.pin_path is None
        with pytest.raises(ValueError, match="no pin_path"):
            map.pin()
        map.pin(path)
        map.update(b"abcd", b"12345678")
        assert map.is_pinned and map.pin_path == str(path)
    with Map.open_pinned(path) as map:
        assert map.is_pinned and map.lookup(b"abcd") == b"12345678"
        map.unpin()
        assert not map.is_pinned and not path.exists()
        with pytest.raises(ValueError):
            map.unpin()
        with pytest.raises(FileNotFoundError):
            map.unpin(path)


def test_what_is_no_map_is_refused(bpf_object, bpffs):
    with pytest.raises(ValueError, match="not a BPF map"):
        Map.from_fd(0)
    with pytest.raises(FileNotFoundError):
        Map.open_pinned(bpffs / "nothing")
    with pytest.raises(FileNotFoundError):
        Map.from_id(0xfffffff0)
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        with pytest.raises(ValueError, match="not a BPF map"):
            Map.from_fd(obj.programs["user"].fd)


def test_bad_definitions_are_errors():
    with pytest.raises(pylbpf.BpfError, match="create map 'bad'"):
        Map.create(MapType.HASH, key_size=4, value_size=4, max_entries=1, flags=1 << 31, name="bad")
    with pytest.raises(ValueError, match="map 'bad' of type 1 needs value or value_size"):
        Map.create(MapType.HASH, key="u4", max_entries=5, name="bad")
    for wrong in ({"key_size": -1}, {"max_entries": 1 << 32}, {"flags": 1 << 40}):
        with pytest.raises(ValueError):
            small(**wrong)
    with pytest.raises(TypeError):
        small(key_size="4")
    with pytest.raises(TypeError):
        Map()


def test_setters_and_what_is_of_objects_only_are_refused():
    with small() as map:
        for attribute in ("type", "key_size", "value_size", "max_entries", "flags", "map_extra", "numa_node"):
            with pytest.raises(pylbpf.StateError, match=f"set {attribute} of map .*the map exists"):
                setattr(map, attribute, 1)
        for attribute in ("autocreate", "autoattach", "numa_node"):
            with pytest.raises(TypeError, match="not of an object"):
                getattr(map, attribute)
        with pytest.raises(TypeError, match="not of an object"):
            map.attach_struct_ops()


def test_a_map_of_an_object_is_closed_with_it(bpf_object):
    with pylbpf.open(bpf_object("empty")) as obj:
        obj.load()
        map = obj.maps["table"]
        with pytest.raises(TypeError, match="closed with its object"):
            map.close()
        with pytest.raises(TypeError, match="closed with its object"), map:
            pass
        with Map.from_fd(map) as own:
            obj.close()
            assert map.closed and not own.closed and own.max_entries > 0


def test_maps_of_maps_are_made_like_their_inner_map():
    with small() as inner, Map.create(MapType.HASH_OF_MAPS, key_size=4, value_size=4, max_entries=3, inner=inner) as outer:
        outer.update(b"abcd", inner.fd.to_bytes(4, "little"))
        assert int.from_bytes(outer.lookup(b"abcd"), "little") == number_of(inner)


def test_a_frozen_map_is_for_programs_only():
    with small() as map:
        map.update(b"abcd", bytes(8))
        map.freeze()
        with pytest.raises(PermissionError):
            map.update(b"abcd", bytes(8))
        assert map.lookup(b"abcd") == bytes(8)


def test_a_forked_child_leaves_it_alone():
    map = small()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            map.lookup(bytes(4))
        except pylbpf.StateError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    map.close()
