"""Maps as mutable mappings: keys and values by their types, what a dict does, and what is refused."""
from __future__ import annotations

import collections.abc
import ctypes
import enum
import errno
import sys
import threading

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pylbpf
from pylbpf import Map, MapFlags, MapType, UpdateFlags

pytestmark = pytest.mark.bpf
CPUS = pylbpf.possible_cpus()


@pytest.fixture
def maps(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        yield obj.maps


@pytest.fixture
def numbers(request):
    with Map.create(MapType.HASH, key="i8", value="u4", max_entries=100, name="numbers") as map:
        yield map


def test_a_map_without_keys_is_true(bpf_object):
    with pylbpf.open(bpf_object("rings")) as obj:
        assert not any(obj.maps.values())       # there are none yet
        obj.load()
        assert all(map for map in obj.maps.values() if map.key_size == 0)


# ---------------------------------------------------------------- like a dict


def test_what_a_dict_does_a_map_does(numbers):
    numbers[-5] = 7
    assert numbers[-5] == 7 and -5 in numbers and 5 not in numbers and numbers.get(5) is None and numbers.get(5, 1) == 1
    assert numbers.setdefault(-5, 9) == 7 and numbers.setdefault(6, 9) == 9
    numbers.update({1: 2, 3: 4})
    numbers.update([(5, 6)])
    assert dict(numbers) == {-5: 7, 6: 9, 1: 2, 3: 4, 5: 6} and len(numbers) == 5
    assert sorted(numbers) == sorted(numbers.keys()) == [-5, 1, 3, 5, 6] and sorted(numbers.values()) == [2, 4, 6, 7, 9]
    assert numbers.pop(1) == 2 and numbers.pop(1, None) is None
    del numbers[3]
    for missing in (lambda: numbers[3], lambda: numbers.pop(3), lambda: numbers.__delitem__(3)):
        with pytest.raises(KeyError) as raised:
            missing()
        assert raised.value.args == (3,)
    key, value = numbers.popitem()
    assert key not in numbers and bool(numbers)
    numbers.clear()
    assert not numbers and len(numbers) == 0 and list(numbers.items()) == []
    with pytest.raises(KeyError, match="empty"):
        numbers.popitem()
    assert isinstance(numbers, collections.abc.MutableMapping)


def test_numbers_of_128_bits(bpf_object):
    with pylbpf.open(bpf_object("wide")) as obj:
        obj.load()
        wide, each = obj.maps["wide"], obj.maps["each"]
        numbers = [0, -1, 1 << 64, -(1 << 127), (1 << 127) - 1]
        for key in numbers:
            wide[key] = key & (1 << 128) - 1
        assert dict(wide) == {key: key & (1 << 128) - 1 for key in numbers} and -1 in wide and 5 not in wide
        assert wide.pop(-1) == (1 << 128) - 1 and wide.to_numpy()[0].shape == (4, 2)
        wide[numpy.int64(-7)] = True
        assert wide[(-7).to_bytes(16, sys.byteorder, signed=True)] == 1
        for key, value, words in [(1 << 127, 0, "a key of .* 16 bytes with a sign"), (0, -1, "a value of .* 16 bytes$")]:
            with pytest.raises(ValueError, match=f"does not fit {words}"):
                wide[key] = value
        for wrong in (1.5, "1", None):
            with pytest.raises((TypeError, ValueError), match="a value of map 'wide'"):
                wide[0] = wrong
        each[1] = [-cpu for cpu in range(CPUS)]
        assert each[1] == [-cpu for cpu in range(CPUS)] and each[0] == [0] * CPUS


def test_flags_say_what_must_be_there(numbers):
    with pytest.raises(KeyError):
        numbers.set(1, 1, flags=UpdateFlags.EXIST)
    numbers.set(1, 1, flags=UpdateFlags.NOEXIST)
    with pytest.raises(FileExistsError):
        numbers.set(1, 2, flags=UpdateFlags.NOEXIST)
    with pytest.raises(FileExistsError):
        numbers.update({1: 2}, flags=UpdateFlags.NOEXIST)
    with pytest.raises(pylbpf.BpfError):
        numbers.get(1, flags=UpdateFlags.LOCK)  # there is no lock in it
    assert numbers[1] == 1


def test_equality_is_identity(numbers):
    with Map.create(MapType.HASH, key="i8", value="u4", max_entries=100) as other:
        assert numbers == numbers and numbers == numbers.raw and numbers != other and numbers != {}
        assert len({numbers, other, numbers.raw}) == 2


def test_a_map_that_is_not_there_is_false_and_has_no_elements(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        map = obj.maps["hash"]
        assert not map
        for use in (lambda: map[1], lambda: map.__setitem__(1, {}), lambda: map.get(1), lambda: len(map), lambda: list(map),
                    lambda: 1 in map, lambda: map.raw, lambda: map.typed(key=int), map.clear, map.popitem, map.view):
            with pytest.raises(pylbpf.StateError, match="does not exist in the kernel"):
                use()
    with pytest.raises(ValueError, match="is closed"):
        map[1]
    assert not map


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["set", "del", "pop", "setdefault", "get", "clear", "in"]),
                          st.integers(-3, 3), st.integers(0, 2**32 - 1)), max_size=30))
def test_it_behaves_as_a_dict_model(numbers, steps):
    numbers.clear()
    model: dict = {}
    for what, key, value in steps:
        if what == "set":
            numbers[key] = model[key] = value
        elif what == "del":
            assert (key in model) == (key in numbers)
            if key in model:
                del numbers[key], model[key]
        elif what == "pop":
            assert numbers.pop(key, None) == model.pop(key, None)
        elif what == "setdefault":
            assert numbers.setdefault(key, value) == model.setdefault(key, value)
        elif what == "get":
            assert numbers.get(key) == model.get(key)
        elif what == "in":
            assert (key in numbers) == (key in model)
        else:
            numbers.clear(), model.clear()
        assert dict(numbers.items()) == model and len(numbers) == len(model)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**32 - 1), min_size=CPUS, max_size=CPUS),
                       max_size=10))
def test_per_cpu_values_are_lists_over_possible_cpus(maps, model):
    map = maps["percpu_hash"]
    map.clear()
    map.update(model)
    assert dict(map.items()) == model


# ---------------------------------------------------------------- types


def of(key="u4", value="u4", **more) -> Map:
    return Map.create(MapType.HASH, key=key, value=value, max_entries=10, **more)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_numbers_have_their_limits(size):
    bits = 8 * size
    with of(f"u{size}", f"i{size}") as map:
        for key, value in ((0, 0), (2**bits - 1, -2**(bits - 1)), (2**(bits - 1), 2**(bits - 1) - 1), (1, -1)):
            map[key] = value
            assert map[key] == value and key in list(map)
        for bad in (-1, 2**bits, 2**70, -2**70):
            with pytest.raises(ValueError, match="does not fit a key"):
                map[bad]
        for bad in (2**(bits - 1), -2**(bits - 1) - 1, 2**70):
            with pytest.raises(ValueError, match="does not fit a value"):
                map[0] = bad
        assert map[0] == 0


class Colour(enum.IntEnum):
    RED = 1


def test_what_has_an_index_is_a_number(numbers):
    numpy = pytest.importorskip("numpy")
    numbers[Colour.RED] = numpy.uint32(9)
    assert numbers[numpy.int64(1)] == 9 and numbers[True] == 9
    for bad in (1.0, "1", None, [], {}):
        with pytest.raises(TypeError, match="a key of map 'numbers' is a number of 8 bytes"):
            numbers[bad]


def test_bytes_of_the_right_size_are_taken_for_anything(numbers):
    numbers[(5).to_bytes(8, "little")] = bytearray(b"\1\0\0\0")
    assert numbers[5] == 1 and numbers[memoryview((5).to_bytes(8, "little"))] == 1
    with pytest.raises(ValueError, match="a key of map 'numbers' has 8 bytes, not 3"):
        numbers[b"abc"]
    with pytest.raises(ValueError, match="a value of map 'numbers' has 4 bytes, not 5"):
        numbers[1] = bytes(5)


def test_floats_and_bools():
    with of("f8", "?") as map:
        map[0.5] = True
        map[2] = 0
        assert map[0.5] is True and map[2.0] is False
        with pytest.raises(TypeError):
            map["x"]
        with pytest.raises(ValueError):
            map[1.0] = 2


def test_floats_have_their_limits():
    with of("u4", "f4") as map:
        map[1] = float("inf")
        assert map[1] == float("inf")
        with pytest.raises(ValueError, match="does not fit"):
            map[1] = 1e300


def test_text_ends_at_a_nul():
    with of("S6", "S4") as map:
        map["näm"] = "abcd"
        map[b"raw"] = b"x"
        assert map["näm"] == "abcd" and dict(map) == {"näm": "abcd", "raw": "x"}
        for bad in ("too long", "a\0b", b"1234567"):
            with pytest.raises(ValueError):
                map[bad]
        with pytest.raises(TypeError, match="a str of at most 6 bytes"):
            map[5]


def test_structs_of_btf_are_numpy_scalars(maps):
    numpy = pytest.importorskip("numpy")
    map = maps["hash"]
    map[1] = {"count": 2**40, "name": "abc"}
    value = map[1]
    assert isinstance(value, numpy.void) and (value["count"], value["flags"], value["name"]) == (2**40, 0, b"abc")
    map[2] = (1, 2, "x")
    map[3] = value
    map[4] = numpy.array([(5, 6, b"y")], value.dtype)
    assert map[2]["flags"] == 2 and map[3] == value and map[4]["count"] == 5
    value["count"] = 1  # a copy
    assert map[1]["count"] == 2**40


class Value(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("name", ctypes.c_char * 20)]


def test_ctypes_structures_are_taken_and_can_be_the_type(maps):
    map = maps["hash"]
    map[1] = Value(7, 8, b"nine")
    assert map[1]["flags"] == 8 and map.typed(value=Value)[1]["count"] == 7


@pytest.mark.parametrize("value, error, words", [
    ({"cout": 1}, ValueError, "no field 'cout'; did you mean 'count'"), ({"count": -1}, ValueError, "does not fit"),
    ({"flags": 2**32}, ValueError, "field 'flags' of a value of map 'hash'"), ({"name": "x" * 21}, ValueError, "20 bytes"),
    ({"count": 1.5}, TypeError, "not float"), ({"count": "1"}, TypeError, "not str"), ((1, 2), ValueError, "3 fields"),
    (5, TypeError, "a struct"), ("text", TypeError, "a struct"), (None, TypeError, "a struct"), ({"name": 5}, TypeError, "text"),
    (bytes(31), ValueError, "32 bytes"),
])
def test_wrong_structs_are_errors_that_name_the_field(maps, value, error, words):
    with pytest.raises(error, match=words):
        maps["hash"][1] = value
    assert 1 not in maps["hash"]


def test_dataclasses_are_structs(maps):
    pytest.importorskip("numpy")
    import dataclasses

    @dataclasses.dataclass
    class Inner:
        a: int
        b: list[int]

    @dataclasses.dataclass(frozen=True)
    class Key:
        number: int
        inner: Inner

    with of([("number", "u8"), ("inner", [("a", "u1"), ("b", "u2", 2)])], "u4") as map:
        map[Key(1, Inner(2, [3, 4]))] = 5
        assert map[1, (2, [3, 4])] == map[Key(1, Inner(2, [3, 4]))] == 5
        with pytest.raises(ValueError, match="field 'a' of field 'inner'.*256 does not fit"):
            map[Key(1, Inner(256, [3, 4]))] = 5
        with pytest.raises(ValueError, match="has no field 'name'"):
            map[dataclasses.make_dataclass("Other", ["name"])("x")] = 5
        with pytest.raises(TypeError, match="a struct"):
            map[Key] = 5
        assert len(map) == 1


def test_dataclasses_of_btf_are_structs(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        Value, Key = obj.btf.dataclass("value"), obj.btf.dataclass("lpm_key")
        obj.maps["hash"][1] = Value(count=3, flags=4, name=b"five")
        assert Value.from_bytes(obj.maps["hash"].lookup(b"\1\0\0\0")) == Value(3, 4, b"five")
        assert obj.maps["hash"][1]["name"] == b"five"
        with pytest.raises(ValueError, match=r"value\.flags cannot be -1"):
            obj.maps["hash"][2] = Value(flags=-1)
        with pytest.raises(ValueError, match="has 32 bytes, not 8"):
            obj.maps["hash"][2] = Key()
        assert list(obj.maps["hash"]) == [1]


def test_arrays_are_values():
    numpy = pytest.importorskip("numpy")
    with of("u4", ("u2", (2, 3))) as map:
        map[1] = [[1, 2, 3], [4, 5, 6]]
        assert map[1].tolist() == [[1, 2, 3], [4, 5, 6]] and map[1].dtype == "u2"
        map[2] = numpy.ones((2, 3), "u2")
        assert map[2].sum() == 6
        with pytest.raises(ValueError, match="shape"):
            map[1] = [1, 2]


def test_without_types_elements_are_bytes_and_numbers_are_taken(maps):
    map = maps["untyped"]
    map[b"abc"] = b"12345"
    assert dict(map) == {b"abc": b"12345"}
    with pytest.raises(TypeError, match="is 3 bytes, not int"):
        map[5]
    with Map.create(MapType.HASH, key_size=4, value_size=8, max_entries=5) as plain:
        plain[1] = 2
        assert dict(plain) == {(1).to_bytes(4, "little"): (2).to_bytes(8, "little")}
        assert dict(plain.typed(key=int, value=int)) == {1: 2}
        with pytest.raises(ValueError):
            plain[-1]


def test_typed_says_what_elements_are(maps):
    map = maps["lru_hash"]
    map[1] = 2
    assert map.typed(value="f8")[1] == 1e-323 and map.typed(value=bytes)[1] == (2).to_bytes(8, "little")
    assert map.typed(key=str).get("\1") == 2 and map.typed() == map
    for bad in ("u4", [("a", "u4")], "S9"):
        with pytest.raises(ValueError, match="has 8 bytes"):
            map.typed(value=bad)
    with pytest.raises(TypeError):
        map.typed(value=object)
    with pytest.raises(TypeError, match="Python objects"):
        map.typed(value="O")


def test_raw_is_the_same_in_bytes(maps):
    maps["lru_hash"][1] = 2
    raw = maps["lru_hash"].raw
    assert dict(raw) == {(1).to_bytes(8, "little"): (2).to_bytes(8, "little")} and raw == maps["lru_hash"]
    per_cpu = maps["percpu_hash"]
    per_cpu[1] = [3] * CPUS
    assert per_cpu.raw[b"\1\0\0\0"] == (3).to_bytes(8, "little") * CPUS


def test_types_come_from_the_kernel_too(maps):
    maps["hash"][1] = {"count": 5}
    with Map.from_fd(maps["hash"]) as map:
        assert map[1]["count"] == 5 and list(map) == [1]


# ---------------------------------------------------------------- one value for each CPU


def test_per_cpu_values_of_the_wrong_length_are_refused(maps):
    map = maps["percpu_array"]
    map[1] = [{"count": cpu} for cpu in range(CPUS)]
    assert [value["count"] for value in map[1]] == list(range(CPUS))
    for bad in ([], [{}] * (CPUS + 1)):
        with pytest.raises(ValueError, match=f"has {CPUS} parts"):
            map[1] = bad
    for bad in (5, {"count": 1}, "x"):
        with pytest.raises(TypeError, match="one for each of"):
            map[1] = bad


def test_the_value_of_one_cpu(maps):
    map = maps["percpu_hash"]
    map[1] = list(range(CPUS))
    for bad in (-1, CPUS, 1 << 40):
        with pytest.raises(ValueError, match="possible CPUs"):
            map.get(1, cpu=bad)
    for wrong in ("0", True, 0.0):
        with pytest.raises(TypeError, match="cpu is a number"):
            map.get(1, cpu=wrong)
    with pytest.raises(ValueError, match="name a CPU"):
        map.get(1, cpu=0, flags=1 << 32)
    with pytest.raises(ValueError, match="a value for each CPU"):
        maps["hash"].get(1, cpu=0)
    try:
        assert map.get(1, cpu=CPUS - 1) == CPUS - 1
    except pylbpf.NotSupported as error:
        assert "BPF_F_CPU" in str(error)
        with pytest.raises(pylbpf.NotSupported):
            map.set(1, 5, cpu=0)
        assert map[1] == list(range(CPUS))
    else:
        map.set(1, 77, cpu=0)
        assert map[1][0] == 77 and map[1][1:] == list(range(1, CPUS))


def test_an_index_that_an_array_does_not_have(maps):
    for name in ("array", "percpu_array", "mmapable"):
        map = maps[name]
        beyond = map.max_entries
        with pytest.raises(KeyError, match=str(beyond)):
            map[beyond]
        with pytest.raises(KeyError, match=str(beyond)):
            map[beyond] = map[0]


def test_flags_are_64_bits(maps):
    map = maps["hash"]
    for call in (lambda flags: map.get(1, flags=flags), lambda flags: map.set(1, 2, flags=flags),
                 lambda flags: map.update({1: 2}, flags=flags), lambda flags: map.lookup(bytes(4), flags=flags),
                 lambda flags: map.delete(bytes(4), flags=flags)):
        for bad in (-1, 1 << 64):
            with pytest.raises(ValueError, match="does not fit 64 bits"):
                call(bad)
        for wrong in ("1", 1.5, True):
            with pytest.raises(TypeError, match="flags must be a number"):
                call(wrong)


# ---------------------------------------------------------------- under change


def test_deleting_while_iterating_is_allowed(numbers):
    numbers.update({at: at for at in range(100)})
    seen = []
    for key in numbers:
        seen.append(key)
        del numbers[key]
    assert sorted(seen) == list(range(100)) and not numbers


def test_two_threads_write_while_a_third_reads(numbers):
    stop = threading.Event()

    def write(sign):
        at = 0
        while not stop.is_set():
            at = (at + 1) % 30
            numbers[sign * (at + 1)] = at
            numbers.pop(sign * ((at + 15) % 30 + 1), None)

    numbers[1000] = 1
    threads = [threading.Thread(target=write, args=(sign,)) for sign in (-1, 1)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            found = list(numbers.items())
            assert all(abs(key) - 1 == value for key, value in found if key != 1000)
            assert len(numbers) <= 100
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("type", [MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE, MapType.ARRAY])
def test_a_walk_goes_on_when_others_delete(type):
    """Each key that stays comes; where the kernel reads by bucket, or nothing goes, exactly once."""
    size = 300
    trie = type == MapType.LPM_TRIE
    room = size if type == MapType.ARRAY else 4 * size
    with Map.create(type, key=None if trie else "u4", key_size=8 if trie else 4, value="u4", max_entries=room,
                    flags=MapFlags.NO_PREALLOC if trie else 0) as map:
        keys = [(32, at.to_bytes(4, "big")) if trie else at for at in range(size)]
        map.update(dict.fromkeys(keys, 7))
        seen = []
        for at, (key, value) in enumerate(map.items()):
            assert value == 7
            seen.append((32, key.network_address.packed) if trie else key)
            if type != MapType.ARRAY and at % 3 == 0:
                map.pop(keys[(at * 7 + 1) % size // 2 * 2 + 1], None)       # odd ones, ahead and behind
        assert set(seen) >= set(keys[::2])
        if not trie:
            assert len(seen) == len(set(seen))
        assert len(map) == len(list(map)) == len(set(map.keys()))


def test_a_walk_of_a_closed_map_ends_in_an_error(numbers):
    numbers.update({at: at for at in range(10)})
    for walk in (numbers.keys(), numbers.items(), numbers.values()):
        next(walk)
    numbers.close()
    with pytest.raises(ValueError, match="closed"):
        next(walk)


def test_one_walk_by_two_threads(numbers):
    numbers.update({at: at for at in range(5000)} if numbers.max_entries >= 5000 else {1: 1})
    walk, seen = numbers.keys(), []

    def read():
        try:
            seen.extend(walk)
        except ValueError as error:
            assert "another thread walks with it" in str(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen))


class Closes:
    """A key whose conversion closes the map: what was asked of it before must not be used."""

    def __init__(self, map):
        self.map = map

    def __index__(self):
        self.map.close()
        return 1


def test_a_map_that_its_key_or_value_closes_is_closed(numbers):
    for use in (lambda map: map[Closes(map)], lambda map: map.__setitem__(1, Closes(map)), lambda map: map.pop(Closes(map))):
        with of() as map:
            with pytest.raises(ValueError, match="closed"):
                use(map)


def test_frozen_maps_cannot_be_changed_here():
    with of(flags=MapFlags.NO_PREALLOC) as map:
        map[1] = 1
        map.freeze()
        for use in (lambda: map.__setitem__(1, 2), lambda: map.pop(1), lambda: map.__delitem__(1)):
            with pytest.raises(PermissionError):
                use()
        assert map[1] == 1


def test_a_per_cpu_value_is_as_long_as_its_memory():
    class Liar(bytes):
        def __len__(self):
            return 4096 * CPUS

    with Map.create(MapType.PERCPU_ARRAY, key_size=4, value_size=4096, max_entries=1) as map:
        with pytest.raises((TypeError, ValueError)):
            map[0] = Liar(b"x")
        assert not any(map.lookup(bytes(4)))


def test_local_storage_is_true_and_cannot_be_walked():
    with Map.create(MapType.TASK_STORAGE, value="u8") as map:
        assert map
        with pytest.raises(pylbpf.BpfError) as raised:
            map.next_key()
        assert raised.value.errno == errno.EOPNOTSUPP


def test_numbers_of_numpy_of_the_wrong_kind_are_refused():
    numpy = pytest.importorskip("numpy")
    wrong = [numpy.float64(5), numpy.datetime64(5, "s"), numpy.complex64(1), numpy.arange(2, dtype="u4")]
    for dtype in ("u8", "i8", "f8", "?"):
        with of("u4", dtype) as map:
            for value in wrong[1 if dtype == "f8" else 0:]:
                with pytest.raises(TypeError):
                    map[1] = value
            map[1] = numpy.uint8(1)
            assert map[1] == 1 and type(map[1]) in (int, float, bool)
    with of("?", "?") as map:
        map[numpy.True_] = numpy.True_
        assert dict(map) == {True: True}


def test_numbers_that_python_has_not():
    numpy = pytest.importorskip("numpy")
    with of(">u4", "f2") as map:
        map[1] = 1.5
        assert map[numpy.uint32(1)] == 1.5 and dict(map) == {1: 1.5} and map.next_key() == b"\0\0\0\1"
        for key, value in ((1 << 32, 1), (-1, 1), (1, 1e9)):
            with pytest.raises(ValueError, match="does not fit"):
                map[key] = value
        with pytest.raises(TypeError):
            map[1.5] = 1
        with pytest.raises(TypeError, match="cannot be"):
            map.typed(key="U1")
    with of("u4", "c16") as map:
        map[1] = 1.5j
        assert map[1] == 1.5j


def test_keys_are_hashable_and_find_their_elements():
    pytest.importorskip("numpy")
    with of([("a", "u4"), ("b", "u2")], "u8") as map:
        map[1, 2] = 3
        assert [map[key] for key in map] == [3] and list(dict(map).values()) == [3]
    with of("S4", "S4") as map:
        map[b"a\0b"] = map[b"a\0c"] = b"x\0y"
        map["a"] = "z"
        assert dict(map) == {b"a\0b\0": "x", b"a\0c\0": "x", "a": "z"} and all(key in map for key in map)


def test_nothing_in_a_struct_is_cut_or_repeated():
    pytest.importorskip("numpy")
    inner = [("x", "u4"), ("y", "S2")]
    with of("u4", [("numbers", "u4", 4), ("single", "f4"), ("yes", "?"), ("text", "S4"), ("pairs", inner, 2)]) as map:
        for bad in ({"numbers": 7}, {"numbers": [1]}, {"numbers": [1, 2, 3, 1 << 32]}, {"single": "1.5"}, {"single": 1e300},
                    {"yes": "no"}, {"yes": 2}, {"pairs": [(1.5, b""), (1, b"")]}, {"pairs": [(1, b"abc"), (1, b"")]},
                    {"pairs": [(-1, b""), (0, b"")]}, {"pairs": (5, b"a")}):
            with pytest.raises((TypeError, ValueError), match=f"field '{next(iter(bad))}"):
                map[0] = bad
        map[0] = {"numbers": range(4), "yes": True, "text": "four", "pairs": [{"x": 1}, (2, "ab")]}
        assert map[0].tolist()[2:4] == (True, b"four") and map[0]["pairs"].tolist() == [(1, b""), (2, b"ab")]
        assert map[0]["numbers"].tolist() == [0, 1, 2, 3]
        map[1] = map[0]
        assert map.lookup((1).to_bytes(4, "little")) == map.lookup(bytes(4))


def test_types_of_a_map_made_by_others_are_theirs(bpf_object):
    pytest.importorskip("numpy")
    with pylbpf.open(bpf_object("maps")) as one, pylbpf.open(bpf_object("empty")) as two:
        one.load()
        one.maps["hash"][1] = {"count": 5, "name": "five"}
        table = two.maps["table"]
        table.reuse_fd(one.maps["hash"])
        two.load()
        assert table.value_size == 32 and table[1]["count"] == 5 and table[1]["name"] == b"five"


def test_typed_keeps_what_was_said_before():
    with of("i4", "i8") as map:
        map[-1] = -2
        assert dict(map.typed(value="u8")) == {-1: (1 << 64) - 2} and dict(map.typed(key="u4")) == {(1 << 32) - 1: -2}


# ---------------------------------------------------------------- structs of numpy's

GAPS = [("a", "u1"), ("b", "u4", (2,))]     # the C compiler's layout: three bytes between a and b


@pytest.fixture
def gaps():
    import numpy
    dtype = numpy.dtype(GAPS, align=True)
    with Map.create(MapType.HASH, key=dtype, value=dtype, max_entries=1000) as map:
        yield map, dtype


def test_values_stay_as_they_were(numbers):
    """The next value may take the memory of the last one only if nobody has that any more."""
    import numpy
    dtype = numpy.dtype([("x", "u4"), ("y", "u4")])
    with Map.create(MapType.HASH, key="u4", value=dtype, max_entries=100) as map:
        map.update({at: (at, at + 1) for at in range(100)})
        kept = [map[at] for at in range(100)]
        assert [value.item() for value in kept] == [(at, at + 1) for at in range(100)]
        first = map[1]
        view = memoryview(first)
        number = first["y"]
        del first
        assert map[2]["x"] == 2 and view.tobytes()[:4] == (1).to_bytes(4, "little") and number == 2
        array = numpy.frombuffer(map[3], "u4")
        assert map[4]["x"] == 4 and list(array) == [3, 4]


def test_what_is_between_members_does_not_matter_in_keys(gaps):
    import numpy
    map, dtype = gaps
    dirty = numpy.full(dtype.itemsize, 255, numpy.uint8).view(dtype)[0]
    dirty["a"], dirty["b"] = 1, (2, 3)
    map[dirty] = (7, (8, 9))
    assert map[1, (2, 3)]["a"] == 7 and map[{"a": 1, "b": [2, 3]}]["b"].tolist() == [8, 9]
    assert dirty in map and map.get(dirty) is not None and map.lookup_many([(1, (2, 3))])[1].all()
    del map[dirty]
    assert not map


def test_keys_of_the_map_find_their_elements(gaps):
    """Also those with something between their members, and with arrays, which numpy has no hash for."""
    map, dtype = gaps
    raw = bytes([1, 0xAA, 0xBB, 0xCC]) + bytes(8)
    map.raw[raw] = bytes(dtype.itemsize)
    map[5, (1, 2)] = (0, (0, 1))
    found = dict(map.items())
    assert len(found) == 2 and set(map) == set(found)
    for key in found:
        assert key["a"] in (1, 5) and key in map and map[key]["a"] == 0
    for key in list(map):
        del map[key]
    assert not map


def test_structs_of_another_type_are_taken_by_name_or_refused(gaps):
    import numpy
    map, dtype = gaps
    other = numpy.zeros((), [("b", "u2", (2,)), ("a", "i8")])[()]
    other["a"], other["b"] = 9, (1, 2)
    map[other] = other
    assert map[9, (1, 2)]["a"] == 9
    other["a"] = -1
    with pytest.raises(ValueError, match="does not fit"):
        map[other] = other
    wrong = numpy.zeros((), [("c", "u4", (3,))])[()]
    with pytest.raises(ValueError, match="no field 'c'"):
        map[wrong]
    for scalar in (numpy.float64(1), numpy.zeros(3, "u4"), numpy.complex128(1)):
        with pytest.raises(TypeError, match="is a struct"):
            map[scalar]


# ---------------------------------------------------------------- numbers that do not fit


def test_numbers_that_do_not_fit_are_value_errors():
    import numpy
    huge = 10 ** 400
    with Map.create(MapType.HASH, key="u4", value="f4", max_entries=4) as map:
        for bad in (huge, -huge, 1e39, 10 ** 39):
            with pytest.raises(ValueError, match="does not fit"):
                map[1] = bad
        for wrong in ("1", None, [1.0], 1j):
            with pytest.raises(TypeError):
                map[1] = wrong
    with Map.create(MapType.HASH, key="u4", value=numpy.dtype([("f", "f4"), ("d", "f8"), ("u", "u8")]), max_entries=4) as map:
        for bad in ({"f": huge}, {"d": huge}, {"u": huge}, {"u": -1}, {"f": 1e39}):
            with pytest.raises(ValueError, match="does not fit"):
                map[1] = bad
    for type, key in ((MapType.PROG_ARRAY, 0), (MapType.CPUMAP, 0), (MapType.DEVMAP, 0), (MapType.SOCKMAP, 0)):
        with Map.create(type, key_size=4, value_size=4, max_entries=4) as map:
            for bad in (-1, 2 ** 40, huge):
                with pytest.raises(ValueError):
                    map[key] = bad
            for wrong in (True, 1.5, None):
                with pytest.raises(TypeError):
                    map[key] = wrong
    for bad in (dict(map_extra=-1), dict(map_extra=1 << 64), dict(flags=-1), dict(max_entries=-1), dict(max_entries=1 << 32)):
        with pytest.raises(ValueError, match="does not fit"):
            Map.create(**{"type": MapType.HASH, "key_size": 4, "value_size": 4, "max_entries": 4, **bad})


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("sign", "ui")
def test_scalars_of_numpy_of_every_width(width, sign):
    import numpy
    kind = f"{sign}{width}"
    limits = numpy.iinfo(kind)
    with Map.create(MapType.HASH, key=kind, value=kind, max_entries=10) as map:
        for other in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", ">u4", ">i8"):
            map[numpy.dtype(other).type(5)] = numpy.array(7, other)[()]
            assert map[5] == 7 and map.pop(numpy.int16(5)) == 7
        for number in (int(limits.min), int(limits.max)):
            map[number] = number
            assert map[number] == number and list(map.items()) == [(number, number)]
            del map[number]
        for bad in (int(limits.min) - 1, int(limits.max) + 1):
            for use in (lambda: map.__setitem__(bad, 1), lambda: map.__setitem__(1, bad), lambda: map[bad], lambda: bad in map):
                with pytest.raises(ValueError, match="does not fit"):
                    use()
        assert not map


def test_fields_of_a_struct_can_be_changed_and_written_back():
    with pylbpf.Map.create(pylbpf.MapType.HASH, key="u4", value=[("x", "u4"), ("y", "u4", 2)], max_entries=4) as map:
        map[1] = {"x": 1, "y": [2, 3]}
        value = map[1]
        value["x"] += 76
        value["y"][1] = 5
        other = map[1]
        assert value["x"] == 77 and list(value["y"]) == [2, 5] and other["x"] == 1 and list(other["y"]) == [2, 3]
        map[1] = value
        assert map[1]["x"] == 77 and other["x"] == 1
        kept = map[1]["y"]
        assert map[1]["x"] == 77
        map[1] = {"x": 0, "y": [0, 0]}
        assert list(map[1]["y"]) == [0, 0] and list(kept) == [2, 5]


def test_memory_of_a_struct_is_nobody_else_s():
    class Own(numpy.void):
        pass

    fields = [("x", "u4"), ("y", "u4")]
    with pylbpf.Map.create(pylbpf.MapType.HASH, key="u4", value=fields, max_entries=4) as map:
        map[1], map[2] = (1, 1), (2, 2)
        array = map[1].base
        assert map[2]["x"] == 2 and array["x"] == 1
    with pylbpf.Map.create(pylbpf.MapType.HASH, key="u4", value=numpy.dtype((Own, fields)), max_entries=4) as map:
        map[1], map[2] = (1, 1), (2, 2)
        value = map[1]
        value.note = "mine"
        del value
        assert not hasattr(map[2], "note")


def test_one_iterator_is_for_one_thread():
    with pylbpf.Map.create(pylbpf.MapType.HASH, key=[("x", "u4"), ("y", "u4")], value="u8", max_entries=5000) as map:
        map.update_many(numpy.array([(at, 7) for at in range(5000)], [("x", "u4"), ("y", "u4")]), numpy.arange(5000, dtype="u8"))
        items = iter(map.items())
        seen, interval = [], sys.getswitchinterval()

        def walk():
            for _ in range(5000):
                try:
                    key, value = next(items)
                except StopIteration:
                    return
                except ValueError:
                    continue
                seen.append((int(key["x"]), value))

        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=walk) for _ in range(3)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        finally:
            sys.setswitchinterval(interval)
        assert all(key == value for key, value in seen) and len({key for key, _ in seen}) == len(seen)


def test_keys_that_are_arrays_have_a_hash():
    with of("(6,)u1") as map:
        map[(1, 2, 3, 4, 5, 6)] = 7
        assert dict(map) == {(1, 2, 3, 4, 5, 6): 7} == dict(map.items()) and list(map)[0] in map
