"""Maps as arrays: whole, many keys at once, swept, as tables; under change; and what is refused."""
from __future__ import annotations

import contextlib
import datetime
import errno
import os
import signal
import sys
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import objects
import pylbpf
from pylbpf import Map, MapFlags, MapType, UpdateFlags

np = pytest.importorskip("numpy")

pytestmark = pytest.mark.bpf
CPUS = pylbpf.possible_cpus()
HASHES = [MapType.HASH, MapType.LRU_HASH]
PER_CPU = [MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH]


def new(type: MapType = MapType.HASH, key: int = 4, value: int = 8, entries: int = 100, **more) -> Map:
    return Map.create(type, key_size=key, value_size=value, max_entries=entries, **more)


def numbers(count: int, dtype="u4", start: int = 0):
    return np.arange(start, start + count, dtype=dtype)


def content(map: Map) -> dict:
    keys, values = map.to_numpy()
    assert len(set(keys.tolist())) == len(keys) == len(values)
    return dict(zip(keys.tolist(), values.tolist()))


# ---------------------------------------------------------------- whole maps


@pytest.mark.parametrize("type", HASHES)
def test_a_map_comes_whole(type):
    with new(type, entries=10_000) as map:
        keys, values = map.to_numpy()
        assert (keys.shape, values.shape, keys.dtype, values.dtype) == ((0,), (0,), "u4", "u8")
        map.update_many(numbers(5000), numbers(5000, "u8", 7))
        keys, values = map.to_numpy()
        assert sorted(keys.tolist()) == list(range(5000)) and (values == keys + np.uint64(7)).all()
        assert keys.flags.writeable and values.flags.writeable  # they are the caller's
        assert map.lookup(keys[:1]) == values[:1].tobytes()


def test_a_map_as_a_dict(bpf_object):
    with new() as map:
        assert map.to_dict() == {}
        map.update_many([1, 2], [3, 1 << 63])
        assert map.to_dict() == {1: 3, 2: 1 << 63} and {type(key) for key in map.to_dict()} == {int}
    with new(MapType.PERCPU_HASH) as map:
        map.update_many([7], np.arange(CPUS, dtype="u8").reshape(1, CPUS))
        assert map.to_dict() == {7: list(range(CPUS))}
    with new(MapType.LPM_TRIE, key=8, value=4, flags=MapFlags.NO_PREALLOC) as map:
        assert map.to_dict() == {}
        key = (8).to_bytes(4, sys.byteorder) + b"\x0a\0\0\0"
        map.update(key, bytes(4))
        assert map.to_dict() == {key: 0}
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        obj.maps["hash"].update_many([4], [(8, 1, b"eight")])
        assert obj.maps["hash"].to_dict()[4]["name"] == b"eight"


def test_arrays_come_in_order_of_their_index():
    for flags in (0, MapFlags.MMAPABLE):
        for size, dtype in ((8, "u8"), (4, "u4"), (1, "u1"), (16, "V16"), (12, "V12")):
            with new(MapType.ARRAY, value=size, entries=3000, flags=flags) as map:
                values = np.frombuffer(os.urandom(size * 3000), dtype)
                map.update_many(numbers(3000), values)
                keys, found = map.to_numpy()
                assert (keys == numbers(3000)).all() and found.dtype == dtype and found.tobytes() == values.tobytes()


@pytest.mark.parametrize("size", [1, 4, 8, 12])
@pytest.mark.parametrize("type", [*PER_CPU, MapType.PERCPU_ARRAY])
def test_values_per_cpu_are_a_second_axis(type, size):
    # An LRU throws out what it likes when it is nearly full.
    with new(type, value=size, entries=50 if type == MapType.PERCPU_ARRAY else 4096) as map:
        raw = os.urandom(50 * CPUS * size)
        values = np.frombuffer(raw, f"V{size}" if size == 12 else f"u{size}").reshape(50, CPUS)
        map.update_many(numbers(50), values)
        keys, found = map.to_numpy()
        assert found.shape == (50, CPUS) and found.dtype == values.dtype
        assert found[np.argsort(keys)].tobytes() == raw
        single = map.lookup(keys[3:4])
        slot = (size + 7) // 8 * 8
        assert [single[cpu * slot:cpu * slot + size] for cpu in range(CPUS)] == [item.tobytes() for item in found[3]]
        map.update_many(keys, found)  # what came out goes in
        again, there = map.lookup_many(keys)
        assert there.all() and again.tobytes() == found.tobytes()


def test_a_trie_has_its_own_keys():
    with new(MapType.LPM_TRIE, key=8, value=4, flags=MapFlags.NO_PREALLOC) as map:
        keys = np.zeros(20, [("prefixlen", "u4"), ("data", "u1", (4,))])
        keys["prefixlen"] = 24
        keys["data"][:, 0] = 10
        keys["data"][:, 2] = range(20)
        map.update_many(keys, numbers(20))
        found, values = map.to_numpy()
        assert found.dtype == keys.dtype and sorted(values.tolist()) == list(range(20))
        order = np.argsort(values)
        assert (found[order] == keys).all()
        assert map.delete_many(keys[:5]) == 5
        popped, values = map.pop_many()
        assert len(popped) == 15 and len(map.to_numpy()[0]) == 0


def test_huge_values_and_few_of_them():
    with new(value=1 << 20, entries=20) as map:
        for at in range(20):
            map.update(at.to_bytes(4, sys.byteorder), bytes([at]) * (1 << 20))
        keys, values = map.to_numpy()
        assert sorted(keys.tolist()) == list(range(20)) and values.dtype == f"V{1 << 20}"
        assert all(value.tobytes() == bytes([key]) * (1 << 20) for key, value in zip(keys.tolist(), values))


def test_max_entries_is_no_measure_of_the_memory():
    with new(entries=1 << 20, flags=MapFlags.NO_PREALLOC) as map:
        map.update_many(numbers(3), numbers(3, "u8"))
        keys, values = map.to_numpy()
        assert (len(keys), len(keys.base), len(values.base)) == (3, 12, 24)


def test_types_of_odd_sizes_are_bytes():
    with new(key=3, value=5) as map:
        map.update_many([b"abc", b"xyz"], [b"12345", bytes(5)])
        assert content(map) == {b"abc": b"12345", b"xyz": bytes(5)}
        assert map.lookup_many(np.frombuffer(b"xyzabcnon", "V3"))[1].tolist() == [True, True, False]
        with pytest.raises(ValueError, match="3 bytes|has 2 bytes"):
            map.delete_many([b"ab"])
        assert map.delete_many(np.frombuffer(b"xyzabc", "u1").reshape(2, 3)) == 2


@pytest.mark.parametrize("name, kind", [("prog_array", "id"), ("array_of_maps", "id"), ("hash_of_maps", "id")])
def test_slots_that_are_empty_are_left_out(bpf_object, name, kind):
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        map = obj.maps[name]
        what = obj.programs["user"].fd if name == "prog_array" else obj.maps["inner"].fd
        map.delete_many([1])
        map.update_many([2], [what])
        keys, values = map.to_numpy()
        assert keys.tolist() == [2] and values.dtype == "u4" and len(values) == 1
        assert map.delete_many([2]) == 1 and len(map.to_numpy()[0]) == 0


@pytest.mark.parametrize("type", [MapType.QUEUE, MapType.STACK])
def test_queues_and_stacks_are_pushed_and_popped(type):
    with new(type, key=0, value=4, entries=50_000) as map:
        map.update_many(None, numbers(20_000))
        keys, values = map.pop_many(10)
        expected = numbers(20_000) if type == MapType.QUEUE else numbers(20_000)[::-1]
        assert keys is None and values.tolist() == expected[:10].tolist()
        assert map.pop_many()[1].tolist() == expected[10:].tolist()
        assert map.pop_many()[1].tolist() == []
        with pytest.raises(pylbpf.BpfError, match="without popping"):
            map.to_numpy()
        with pytest.raises(TypeError, match="no keys"):
            map.update_many([1], [1])
        with pytest.raises(pylbpf.BpfError) as raised:
            map.update_many(None, numbers(60_000))
        assert raised.value.errno == errno.E2BIG and raised.value.done == 50_000
        assert len(map.pop_many()[1]) == 50_000


def test_rings_have_no_elements():
    with Map.create(MapType.RINGBUF, max_entries=4096, name="ring") as map:
        for read in (map.to_numpy, map.items_array, map.pop_many, map.to_dict, map.clear, lambda: map[0]):
            with pytest.raises(TypeError, match="map 'ring' has no keys"):
                read()


def test_what_a_kind_of_map_refuses_is_said():
    """A sockmap whose values are 4 bytes wide cannot be read: ENOSPC, which elsewhere asks for more room."""
    with Map.create(MapType.SOCKMAP, key="u4", value="u4", max_entries=3, name="socks") as map:
        out = np.zeros(3, "u4"), np.zeros(3, "u4")
        for read in (map.to_numpy, map.items_array, map.to_dict, map.pop_many, lambda: map.pop_many(1), lambda: map.items_array(out),
                     lambda: dict(map.items()), lambda: list(map.values())):
            with pytest.raises(pylbpf.BpfError, match="map 'socks'"):
                read()


def test_bloom_filters_take_values(bpf_object):
    try:
        map = new(MapType.BLOOM_FILTER, key=0, value=4)
    except pylbpf.BpfError as error:
        pytest.skip(f"map BLOOM_FILTER: the kernel refuses it ({error.strerror})")
    with map:
        map.update_many(None, numbers(50))
        with pytest.raises(pylbpf.BpfError):
            map.pop_many()


def test_what_cannot_be_read_says_so():
    with Map.create(MapType.RINGBUF, max_entries=4096) as map:
        for use in (map.to_numpy, map.pop_many, map.sweep, map.to_arrow):
            with pytest.raises((pylbpf.BpfError, TypeError, ImportError)):  # without pyarrow
                use()
        with pytest.raises((pylbpf.BpfError, TypeError)):
            map.sweep(older_than=1)


# ---------------------------------------------------------------- into the caller's arrays


def test_whole_map_into_arrays_of_the_callers():
    with new(entries=1000) as map:
        map.update_many(numbers(100), numbers(100, "u8"))
        keys, values = np.zeros(100, "u4"), np.zeros(100, "u8")
        found = map.items_array(out=(keys, values))
        assert found[0].base is keys and found[1].base is values and len(found[0]) == 100
        assert sorted(keys.tolist()) == list(range(100)) and (values == keys).all()
        larger = np.full(500, 7, "u4"), np.full(500, 7, "u8")
        found = map.items_array(out=larger)
        assert len(found[0]) == 100 and (larger[0][100:] == 7).all() and (larger[1][100:] == 7).all()
        for size in (0, 1, 50, 99):
            guard = np.full(size + 8, 9, "u4"), np.full(size + 8, 9, "u8")
            with pytest.raises(ValueError, match=f"more than the {size} entries"):
                map.items_array(out=(guard[0][:size], guard[1][:size]))
            assert (guard[0][size:] == 9).all() and (guard[1][size:] == 9).all()
        assert len(map.items_array()[0]) == 100


def test_arrays_into_arrays_of_the_callers():
    for flags in (0, MapFlags.MMAPABLE):
        with new(MapType.ARRAY, entries=70_000, flags=flags) as map:
            map.update_many(numbers(70_000), numbers(70_000, "u8"))
            values = np.zeros(70_000, "u8")
            assert map.items_array(out=(None, values))[0] is None and (values == numbers(70_000)).all()
            keys = np.zeros(70_001, "u4")
            found = map.items_array(out=(keys, np.zeros(70_001, "u8")))
            assert len(found[0]) == 70_000 and (found[0] == found[1]).all()
            with pytest.raises(ValueError, match="more than the 69999"):
                map.items_array(out=(None, np.zeros(69_999, "u8")))


def test_out_must_be_exactly_right():
    with new() as map:
        map.update_many([1], [2])
        good = np.zeros(10, "u4"), np.zeros(10, "u8")
        readonly = np.zeros(10, "u8")
        readonly.flags.writeable = False
        for bad in (np.zeros(10, "i8"), np.zeros(10, "u4"), np.zeros((10, 1), "u8"), np.zeros(20, "u8")[::2], readonly,
                    bytearray(80), [0] * 10, None):
            with pytest.raises((TypeError, ValueError)):
                map.items_array(out=(good[0], bad))
            if bad is not None and getattr(bad, "dtype", None) != "u4":
                with pytest.raises((TypeError, ValueError)):
                    map.items_array(out=(bad, good[1]))
        with pytest.raises(TypeError):
            map.items_array(out=(None, good[1]))
        with pytest.raises((TypeError, ValueError)):
            map.items_array(out=good[0])
    with new(MapType.PERCPU_HASH, value=4) as map, pytest.raises(TypeError, match="rounds up"):
        map.items_array(out=(np.zeros(100, "u4"), np.zeros((100, CPUS), "u4")))
    with new(MapType.PERCPU_HASH) as map:
        map.update_many([5], np.arange(CPUS, dtype="u8").reshape(1, CPUS))
        out = map.items_array(out=(np.zeros(100, "u4"), np.zeros((100, CPUS), "u8")))
        assert out[1].tolist() == [list(range(CPUS))]


# ---------------------------------------------------------------- many keys


def test_update_takes_flags_and_says_how_far_it_came():
    with new(entries=100) as map:
        map.update_many(numbers(50), numbers(50, "u8"), flags=UpdateFlags.NOEXIST)
        with pytest.raises(FileExistsError, match="element 20 of 60") as raised:
            map.update_many(np.r_[numbers(20, start=60), numbers(40)], numbers(60, "u8"), flags=UpdateFlags.NOEXIST)
        assert raised.value.done == 20 and len(map.to_numpy()[0]) == 70
        with pytest.raises(KeyError) as missing:
            map.update_many([1, 2, 99], [1, 1, 1], flags=UpdateFlags.EXIST)
        assert missing.value.args == (99,) and missing.value.done == 2
        with pytest.raises(pylbpf.BpfError) as full:
            map.update_many(numbers(100, start=1000), numbers(100, "u8"))
        assert full.value.errno == errno.E2BIG and full.value.done == 30
        assert map.lookup_many(numbers(100, start=1000))[1].sum() == 30
        with pytest.raises(pylbpf.BpfError) as odd:
            map.update_many([1], [1], flags=1 << 20)
        assert odd.value.errno == errno.EINVAL and odd.value.done == 0


def test_delete_passes_over_what_is_not_there():
    with new(entries=1000) as map:
        map.update_many(numbers(1000), numbers(1000, "u8"))
        assert map.delete_many(numbers(500) * np.uint32(4)) == 250
        assert map.delete_many(numbers(500) * np.uint32(4)) == 0
        assert map.delete_many([]) == 0 and map.delete_many(np.zeros(0, "u4")) == 0
        assert sorted(content(map)) == [at for at in range(1000) if at % 4]
        assert map.delete_many([1, 1, 1]) == 1
    with new(MapType.ARRAY) as map, pytest.raises(pylbpf.BpfError) as raised:
        map.delete_many([1])
    assert raised.value.done == raised.value.deleted == 0


def test_lookup_says_what_was_found():
    with new() as map:
        map.update_many([1, 3], [10, 30])
        values, found = map.lookup_many([3, 2, 1, 3])
        assert values.tolist() == [30, 0, 10, 30] and found.tolist() == [True, False, True, True]
        values, found = map.lookup_many([])
        assert values.shape == found.shape == (0,)


def test_the_last_of_equal_keys_stays():
    with new() as map:
        map.update_many([1, 2, 1], [10, 20, 30])
        assert content(map) == {1: 30, 2: 20}


def test_the_right_arrays_are_not_copied():
    from pylbpf.maparrays import Layout

    with new() as map:
        keys, values = numbers(10), numbers(10, "u8")
        layout = Layout(map)
        assert np.shares_memory(layout.fit_keys(keys), keys) and np.shares_memory(layout.fit_values(values), values)
        assert not np.shares_memory(layout.fit_keys(keys[::2]), keys)
        keys.flags.writeable = False
        assert np.shares_memory(layout.fit_keys(keys), keys)


@pytest.mark.parametrize("keys, values", [
    ([1, 2], [1]), ([1], [1, 2]), ([-1], [1]), ([1 << 32], [1]), ([1.5], [1]), ([1], [-1]), ([1], [1 << 64]),
    (["a"], [1]), ([None], [1]), (1, 1), ([[1]], [1]), ([1], [[1]]), (np.zeros(2, "f8"), np.zeros(2, "u8")),
    (np.zeros((2, 2), "u4"), np.zeros(2, "u8")), (np.zeros(1, [("a", "u4")]), np.zeros(1, "u8")),
    (np.zeros(1, "V5"), np.zeros(1, "u8")), (np.array([300], "i8") - 301, np.zeros(1, "u8")),
    (np.zeros(1, "datetime64[ns]"), [1]), (np.zeros(1, object), [object()]), (object(), [1]), (None, [1]), ([1], None),
])
def test_what_does_not_fit_never_reaches_the_kernel(keys, values):
    with new() as map:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            map.update_many(keys, values)
        assert len(map.to_numpy()[0]) == 0


def test_what_fits_is_converted():
    with new() as map:
        map.update_many(np.array([1, 2], "i8"), np.array([1, 2], ">u4"))
        map.update_many(np.array([3], ">u4"), [True])
        map.update_many(np.array([4, 0, 5], "u4")[::2], np.array([[4], [5]], "u8")[:, 0])
        map.update_many(np.array([6], "u4").view("V4"), np.array([6], "u8").view("u1").reshape(1, 8))
        map.update_many([], [])
        assert content(map) == {1: 1, 2: 2, 3: 1, 4: 4, 5: 5, 6: 6}


# ---------------------------------------------------------------- popping


@pytest.mark.parametrize("type", [*HASHES, *PER_CPU])
@pytest.mark.parametrize("limit", [0, 1, 7, 500, 999, 1000, 5000, None])
def test_pop_takes_at_most_so_many(type, limit):
    with new(type, entries=4000) as map:
        values = numbers(1000, "u8")
        map.update_many(numbers(1000), np.repeat(values, CPUS).reshape(1000, CPUS) if type in PER_CPU else values)
        keys, values = map.pop_many(limit)
        assert len(keys) == len(values) == len(set(keys.tolist())) == min(1000, 1000 if limit is None else limit)
        assert ((values[:, 0] if type in PER_CPU else values) == keys).all()
        assert sorted(keys.tolist() + map.to_numpy()[0].tolist()) == list(range(1000))
        with pytest.raises(ValueError):
            map.pop_many(-1)
        with pytest.raises(TypeError):
            map.pop_many("all")


def test_arrays_cannot_be_popped():
    with new(MapType.ARRAY) as map:
        map.update_many([1], [5])
        with pytest.raises(pylbpf.BpfError) as raised:
            map.pop_many()
        assert len(raised.value.popped[1]) == 0 and map.lookup_many([1])[0].tolist() == [5]


# ---------------------------------------------------------------- sweeping


def test_sweep_by_age():
    with new() as map:
        now = time.monotonic_ns()   # since the machine began, which may be a minute ago
        ages = np.array([0, 0.05, 0.1, 0.2, 0.5, 0.9, -1]) * now
        map.update_many(numbers(7), (now - ages).astype("u8"))
        assert map.sweep(older_than=0.8 * now / 1e9) == 1
        assert map.sweep(older_than=datetime.timedelta(seconds=0.4 * now / 1e9)) == 1
        assert sorted(content(map)) == [0, 1, 2, 3, 6]
        assert map.sweep(older_than=1e9) == 0
        assert map.sweep(older_than=0) == 4  # what lies in the future is not old
    with new() as map:
        map.update_many([1, 2], [time.clock_gettime_ns(time.CLOCK_BOOTTIME), 0])
        assert map.sweep(older_than=10, clock="boottime") == 1


def test_sweep_per_cpu_goes_by_the_newest():
    with new(MapType.PERCPU_HASH) as map:
        stamps = np.zeros((2, CPUS), "u8")
        stamps[0, -1] = time.monotonic_ns()
        map.update_many([1, 2], stamps)
        assert map.sweep(older_than=time.monotonic() / 2) == 1 and map.to_numpy()[0].tolist() == [1]


@pytest.mark.parametrize("type", [*HASHES, *PER_CPU])
def test_sweep_by_predicate(type):
    per_cpu = type in PER_CPU
    with new(type, entries=300_000) as map:
        values = numbers(100_000, "u8")
        map.update_many(numbers(100_000), np.repeat(values, CPUS).reshape(-1, CPUS) if per_cpu else values)
        before = len(map.to_numpy()[0])     # an LRU may have dropped some
        calls = []

        def odd(keys, values):
            calls.append(len(keys))
            return keys % 2 == 1

        deleted = map.sweep(odd)
        left = map.to_numpy()[0]
        assert sum(calls) == before and deleted == before - len(left) and (left % 2 == 0).all()


def test_sweep_of_a_trie():
    with new(MapType.LPM_TRIE, key=8, value=4, flags=MapFlags.NO_PREALLOC) as map:
        keys = np.zeros(50, [("prefixlen", "u4"), ("data", "u1", (4,))])
        keys["prefixlen"], keys["data"][:, 0] = 32, range(50)
        map.update_many(keys, numbers(50))
        assert map.sweep(lambda keys, values: values < 20) == 20
        assert sorted(map.to_numpy()[1].tolist()) == list(range(20, 50))


@pytest.mark.parametrize("arguments", [
    {}, {"predicate": len, "older_than": 1}, {"predicate": 5}, {"older_than": "1"}, {"older_than": -1},
    {"older_than": float("nan")}, {"older_than": True}, {"older_than": 1, "field": "seen"},
    {"older_than": 1, "clock": "wall"}, {"predicate": lambda keys, values: keys},
    {"predicate": lambda keys, values: True}, {"predicate": lambda keys, values: keys[:1] == keys[:1]},
    {"predicate": lambda keys, values: None}, {"predicate": len, "field": "seen"},
])
def test_sweep_refuses_what_makes_no_sense(arguments):
    with new() as map:
        map.update_many([1, 2, 3], [1, 2, 3])
        with pytest.raises((TypeError, ValueError)):
            map.sweep(**arguments)
        assert len(map.to_numpy()[0]) == 3
    with new(MapType.ARRAY) as map, pytest.raises(TypeError, match="cannot be deleted"):
        map.sweep(lambda keys, values: keys == 0)
    with new(value=4) as map, pytest.raises(TypeError, match="8 bytes"):
        map.sweep(older_than=1)


def test_an_exception_of_the_predicate_comes_out_with_the_count():
    with new(entries=300_000) as map:
        map.update_many(numbers(200_000), numbers(200_000, "u8"))
        calls = []

        def second(keys, values):
            calls.append(len(keys))
            if len(calls) == 2:
                raise LookupError("no")
            return keys >= 0

        with pytest.raises(LookupError) as raised:
            map.sweep(second)
        assert raised.value.deleted == calls[0] == 200_000 - len(map.to_numpy()[0])


# ---------------------------------------------------------------- against a model


KEYS = st.integers(0, 40)
VALUES = st.integers(0, 2**64 - 1)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=60)
STEPS = st.lists(st.one_of(
    st.tuples(st.just("update"), PAIRS), st.tuples(st.just("delete"), st.lists(KEYS, max_size=60)),
    st.tuples(st.just("pop"), st.none() | st.integers(0, 50)), st.tuples(st.just("lookup"), st.lists(KEYS, max_size=20)),
    st.tuples(st.just("sweep"), VALUES), st.tuples(st.just("into"), st.integers(0, 50)),
), max_size=12)


@pytest.mark.parametrize("type", [*HASHES, *PER_CPU, MapType.LPM_TRIE])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_map_behaves_like_a_dict(type, steps):
    trie = type == MapType.LPM_TRIE
    model: dict[int, int] = {}

    def as_keys(given):
        if not trie:
            return np.array(given, "u4")
        keys = np.zeros(len(given), [("prefixlen", "u4"), ("data", "u1", (4,))])
        keys["prefixlen"], keys["data"][:, 0] = 32, given
        return keys

    def as_values(given):
        values = np.array(given, "u8")
        return np.repeat(values, CPUS).reshape(-1, CPUS) if type in PER_CPU else values

    def pairs(keys, values):
        keys = keys["data"][:, 0] if trie else keys
        values = values[:, 0] if type in PER_CPU else values
        assert len(set(keys.tolist())) == len(keys)
        return dict(zip(keys.tolist(), values.tolist()))

    # An LRU throws out what it likes when it is nearly full.
    with new(type, key=8 if trie else 4, entries=4096, flags=MapFlags.NO_PREALLOC if trie else 0) as map:
        for step, what in steps:
            if step == "update":
                map.update_many(as_keys([key for key, _ in what]), as_values([value for _, value in what]))
                model.update(what)
            elif step == "delete":
                assert map.delete_many(as_keys(what)) == sum(model.pop(key, None) is not None for key in what)
            elif step == "pop":
                popped = pairs(*map.pop_many(what))
                assert len(popped) == min(len(model), 1000 if what is None else what)
                assert all(model.pop(key) == value for key, value in popped.items())
            elif step == "lookup":
                values, found = map.lookup_many(as_keys(what))
                values = values[:, 0] if type in PER_CPU else values
                assert found.tolist() == [key in model for key in what]
                assert values.tolist() == [model.get(key, 0) for key in what]
            elif step == "sweep":
                chosen = [key for key, value in model.items() if value < what]
                assert map.sweep(lambda keys, values: (values.reshape(len(keys), -1)[:, 0] < what)) == len(chosen)
                for key in chosen:
                    del model[key]
            else:
                keys, values = map.to_numpy()
                out = np.zeros(what, keys.dtype), np.zeros((what, *values.shape[1:]), values.dtype)
                if what < len(model):
                    with pytest.raises(ValueError):
                        map.items_array(out=out)
                else:
                    assert pairs(*map.items_array(out=out)) == model
            assert pairs(*map.to_numpy()) == model


# ---------------------------------------------------------------- under change


@pytest.mark.parametrize("type", [MapType.HASH, MapType.LPM_TRIE])
def test_what_stays_is_seen_once_while_others_come_and_go(type):
    trie = type == MapType.LPM_TRIE
    dtype = np.dtype([("prefixlen", "u4"), ("data", "u1", (4,))]) if trie else np.dtype("u8")

    def keys_of(given):
        if not trie:
            return given.astype("u8")
        keys = np.zeros(len(given), dtype)
        keys["prefixlen"] = 32
        keys["data"] = given.astype(">u4").view("u1").reshape(-1, 4)
        return keys

    stay = numbers(3000) * np.uint32(2)
    with new(type, key=8, entries=20_000, flags=MapFlags.NO_PREALLOC if trie else 0) as map:
        map.update_many(keys_of(stay), np.ones(len(stay), "u8"))
        over = threading.Event()
        failed = []

        def write(first):
            churn = keys_of(numbers(1500) * np.uint32(4) + np.uint32(first))
            ones = np.ones(len(churn), "u8")
            try:
                while not over.is_set():
                    map.update_many(churn, ones)
                    map.delete_many(churn)
            except BaseException as error:
                failed.append(error)

        writers = [threading.Thread(target=write, args=(first,)) for first in (1, 3)]
        for writer in writers:
            writer.start()
        try:
            end = time.monotonic() + 1
            while time.monotonic() < end:
                keys, values = map.to_numpy()
                seen = keys["data"].copy().view(">u4")[:, 0] if trie else keys
                assert len(np.unique(seen)) == len(seen), "a key came twice"
                # Of tries the kernel itself passes over a branch into which a node is put while it climbs there.
                assert trie or np.isin(stay, seen).all(), "a key that was there all the time is missing"
                assert (values == 1).all()
        finally:
            over.set()
            for writer in writers:
                writer.join()
        assert not failed


def test_nothing_is_lost_between_pushing_and_popping():
    with new(key=8, entries=100_000) as map:
        popped = []

        def push():
            for part in range(100):
                map.update_many(numbers(500, "u8", part * 500), numbers(500, "u8", part * 500))

        pusher = threading.Thread(target=push)
        pusher.start()
        while pusher.is_alive():
            popped.append(map.pop_many()[0])
        pusher.join()
        popped.append(map.pop_many()[0])
        assert np.sort(np.concatenate(popped)).tolist() == list(range(50_000))


@pytest.mark.parametrize("use", ["to_numpy", "update_many", "pop_many", "sweep"])
def test_closing_meanwhile_does_no_harm(bpf_object, use):
    keys, values = numbers(100_000), numbers(100_000, "u8")
    for _ in range(5):
        map = new(entries=200_000)
        map.update_many(keys, values)
        started = threading.Event()
        results = []

        def work():
            started.set()
            try:
                results.append({"to_numpy": map.to_numpy, "pop_many": map.pop_many,
                                "update_many": lambda: map.update_many(keys, values),
                                "sweep": lambda: map.sweep(lambda keys, values: keys >= 0)}[use]())
            except ValueError as error:
                results.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        started.wait()
        time.sleep(0.002)
        map.close()
        worker.join()
        if isinstance(results[0], tuple):
            assert len(results[0][0]) == 100_000
        with pytest.raises(ValueError, match="closed"):
            getattr(map, use)(*{"update_many": (keys, values), "sweep": (len,)}.get(use, ()))


def test_descriptors_are_given_back():
    with new() as map:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            map.update_many([1], [1]), map.to_numpy(), map.pop_many(), map.delete_many([1]), map.lookup_many([1])
            with pytest.raises(ValueError):
                map.update_many([1], [1, 2])
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("use", ["update_many", "pop_many", "to_numpy", "lookup_many"])
def test_ctrl_c_ends_a_call_and_nothing_is_lost(use):
    count = 1_000_000
    keys, values = numbers(count), numbers(count, "u8")
    with new(entries=count) as map:
        if use != "update_many":
            map.update_many(keys, values)
        timer = threading.Timer(0.02, signal.raise_signal, [signal.SIGINT])
        calls = {"update_many": lambda: map.update_many(keys, values), "lookup_many": lambda: map.lookup_many(keys)}
        interrupted = None
        timer.start()
        try:
            while True:     # until the signal comes, in a call or between two
                result = calls.get(use, getattr(map, use))()
                if use == "pop_many":
                    map.update_many(*result)
        except KeyboardInterrupt as error:
            interrupted = error
        finally:
            timer.cancel()
            timer.join()
        left = len(map.to_numpy()[0])
        popped = getattr(interrupted, "popped", None)
        if use == "update_many" and hasattr(interrupted, "done"):
            assert left >= interrupted.done
        if popped is not None:
            assert left + len(popped[0]) == count and (popped[0] == popped[1]).all()


@pytest.mark.parametrize("value", ["(3,)u2", "(2,2)u4", "(3,)u8"])
def test_values_of_cpus_that_are_arrays(value):
    with Map.create(MapType.PERCPU_ARRAY, key="u4", value=value, max_entries=3) as map:
        shape = np.dtype(value).shape
        wanted = np.arange(3 * CPUS * np.prod(shape), dtype=np.dtype(value).base).reshape(3, CPUS, *shape)
        map.update_many([0, 1, 2], wanted)
        assert [np.array(map[at]).tolist() for at in range(3)] == wanted.tolist() == map.to_numpy()[1].tolist()
        map.update_many(*map.to_numpy())
        assert map.lookup_many([2, 1])[0].tolist() == wanted[[2, 1]].tolist()


def test_numbers_are_no_strings():
    """numpy makes decimal text of them."""
    with Map.create(MapType.HASH, key="S8", value=[("name", "S8"), ("n", "u4")], max_entries=9) as map:
        named = np.array([(b"a", 1)], [("name", "S8"), ("n", "u4")])
        for keys in ([1], np.array([1.5]), [True], np.arange(1, dtype="u1"), np.zeros(1, "M8[D]")):
            with pytest.raises((TypeError, ValueError)):
                map.update_many(keys, named)
            with pytest.raises((TypeError, ValueError)):
                map.lookup_many(keys)
        with pytest.raises(TypeError):
            map.update_many(["a"], np.array([(1, 1)], [("name", "u1"), ("n", "u4")]))
        assert len(map) == 0
        map.update_many([b"a"], named)
        keys, values = map.to_numpy()
        assert keys[0] in map and map[keys[0]] == map["a"] == values[0]
        map[keys[0]] = {"name": values["name"][0], "n": 2}
        assert map["a"]["n"] == 2 and map.pop(np.str_("a"))["name"] == b"a"


def test_no_memory_is_an_exception_and_what_was_popped_is_kept():
    resource = pytest.importorskip("resource")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("address space: the sanitizer needs all there is")
    with new(value=1 << 16, entries=4000) as map:
        values = np.zeros(500, f"V{1 << 16}")
        for part in range(8):
            map.update_many(numbers(500, start=500 * part), values)
        del values
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), limits[1]))
        try:
            # Allocators keep address space in reserve: 96 MiB are what they can give, at most.
            ballast = []
            with pytest.raises(MemoryError):
                while True:
                    ballast.append(bytearray(16 << 20))
            del ballast[-6:]
            with pytest.raises(MemoryError):
                map.to_numpy()
            with pytest.raises(MemoryError) as raised:
                map.pop_many()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
        popped = raised.value.popped[0]
        assert 0 < len(popped) < 4000
        left = map.to_numpy()[0]
        assert sorted(popped.tolist() + left.tolist()) == list(range(4000))


# ---------------------------------------------------------------- before, after, without


def test_a_map_must_be_there(bpf_object):
    obj = pylbpf.open(bpf_object("maps"))
    map = obj.maps["hash"]
    uses = [map.to_numpy, map.pop_many, lambda: map.update_many([1], [1]), lambda: map.delete_many([1]),
            lambda: map.lookup_many([1]), lambda: map.sweep(older_than=1), map.items_array]
    for use in uses:
        with pytest.raises(pylbpf.StateError):
            use()
    obj.close()
    for use in uses:
        with pytest.raises(ValueError):
            use()


def test_arrays_outlive_map_and_object(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        map = obj.maps["lru_hash"]
        map.update_many([1, 2], [3, 4])
        keys, values = map.to_numpy()
    assert dict(zip(keys.tolist(), values.tolist())) == {1: 3, 2: 4}


def test_a_map_of_the_parent_is_refused(bpf_object):
    with new() as map:
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                try:
                    map.to_numpy()
                except pylbpf.StateError:
                    code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---------------------------------------------------------------- types


def test_structs_of_the_object_are_structured(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        map = obj.maps["hash"]
        values = np.zeros(3, map.to_numpy()[1].dtype)
        assert values.dtype.names == ("count", "flags", "name") and values.dtype.itemsize == 32
        values["count"], values["name"] = [5, 6, 7], [b"five", b"six", b"seven"]
        map.update_many([1, 2, 3], values)
        map.update_many([4], [(8, 1, b"eight")])
        keys, found = map.to_numpy()
        assert dict(zip(keys.tolist(), found["count"].tolist())) == {1: 5, 2: 6, 3: 7, 4: 8}
        assert set(found["name"].tolist()) == {b"five", b"six", b"seven", b"eight"}
        Value = obj.btf.dataclass("value")
        map.update_many([5, 6], [Value(9, 2, b"nine"), {"count": 10}])
        assert map[5].item() == (9, 2, b"nine") and map[6]["count"] == 10
        map.delete_many([5, 6])
        for bad in ([(8, 1, b"a name that is too long")], [(-1, 0, b"")], [(1 << 64, 0, b"")], [(1.5, 0, b"")], [(1, 2)]):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                map.update_many([9], bad)
        assert map.sweep(lambda keys, values: values["count"] > 7) == 1
        values["count"] = [time.monotonic_ns(), 0, time.monotonic_ns()]
        map.update_many([1, 2, 3], values)
        assert map.sweep(older_than=time.monotonic() / 2, field="count") == 1
        with pytest.raises(ValueError, match="did you mean 'count'"):
            map.sweep(older_than=1, field="counts")
        with pytest.raises(TypeError, match="8 bytes"):
            map.sweep(older_than=1, field="flags")
        pytest.importorskip("pyarrow")
        assert map.to_arrow().column_names == ["key", "value.count", "value.flags", "value.name"]


def test_structs_with_bit_fields(bpf_object):
    with pylbpf.open(bpf_object("variables")) as obj:
        dtype = obj.btf.dtype("bits")
    with pylbpf.Map.create(MapType.HASH, key="u4", value=dtype, max_entries=10) as map:
        map[1] = (7, 8)                 # the bytes of bit fields have no place in a tuple
        map.update_many([2, 3], [(7, 8), {"low": 5, "negative": -3}])
        map.update_many([4], [map[3]])
        assert map[1] == map[2] and pylbpf.bit_field(map[4], "negative") == -3 == pylbpf.bit_field(map[3], "negative")
        with pytest.raises(ValueError, match="2 fields"):
            map.update_many([5], [(7, 8, 9)])
        assert len(map) == 4


# ---------------------------------------------------------------- tables


def test_to_arrow():
    pa = pytest.importorskip("pyarrow")
    with new() as map:
        map.update_many([1, 2], [10, 20])
        table = map.to_arrow()
        assert table.column_names == ["key", "value"] and table.schema.field("key").type == pa.uint32()
        assert dict(zip(*(column.to_pylist() for column in table.columns))) == {1: 10, 2: 20}
    with new(key=3, value=5) as map:
        assert map.to_arrow().num_rows == 0
        map.update_many([b"abc"], [b"12345"])
        assert map.to_arrow().to_pylist() == [{"key": b"abc", "value": b"12345"}]
    with new(MapType.PERCPU_HASH) as map:
        map.update_many([7], np.arange(CPUS, dtype="u8").reshape(1, CPUS))
        assert map.to_arrow().to_pylist() == [{"key": 7, "value": list(range(CPUS))}]
    with new(MapType.LPM_TRIE, key=8, value=4, flags=MapFlags.NO_PREALLOC) as map:
        map.update((8).to_bytes(4, sys.byteorder) + b"\x0a\0\0\0", bytes(4))
        assert map.to_arrow().to_pylist() == [{"key.prefixlen": 8, "key.data": [10, 0, 0, 0], "value": 0}]


def test_to_pandas():
    pytest.importorskip("pandas")
    with new() as map:
        map.update_many([1, 2], [10, 20])
        frame = map.to_pandas()
        assert frame.index.name == "key" and frame["value"].to_dict() == {1: 10, 2: 20}
    with new(MapType.PERCPU_HASH) as map:
        map.update_many([7], np.arange(CPUS, dtype="u8").reshape(1, CPUS))
        assert map.to_pandas().loc[7].to_dict() == {f"value[{cpu}]": cpu for cpu in range(CPUS)}
    with new(MapType.LPM_TRIE, key=8, value=4, flags=MapFlags.NO_PREALLOC) as map:
        map.update((8).to_bytes(4, sys.byteorder) + b"\x0a\0\0\0", bytes(4))
        frame = map.to_pandas()
        assert frame.index.names == ["key.prefixlen", *(f"key.data[{at}]" for at in range(4))]
        assert frame["value"].tolist() == [0]
    with new(key=3, value=5) as map:
        map.update_many([b"abc"], [b"12345"])
        assert map.to_pandas()["value"].to_dict() == {b"abc": b"12345"}


# ---------------------------------------------------------------- what is between fields, and types that were said

PADDED = np.dtype([("a", "u4"), ("b", "u1"), ("c", [("d", "u1"), ("e", "u2")])], align=True)


def dirty():
    """Leave memory behind that is not zero."""
    for size in (16, 64, 128, 192, 256, 512, 1024, 2048):
        [np.full(size, 255, np.uint8) for _ in range(20)]


def test_what_is_between_fields_is_zero_or_the_maps_own():
    given = [(at, 1, (1, 2)) for at in range(16)]
    array = np.full(16 * PADDED.itemsize, 255, np.uint8).view(PADDED)
    for name in PADDED.names:
        array[name] = np.array(given, PADDED)[name]
    with Map.create(MapType.HASH, key=PADDED, value="u8", max_entries=100) as map:
        for keys in (given, array, np.repeat(array, 2)[::2], [dict(zip("abc", key)) for key in given]):
            dirty()
            map.update_many(keys, [1] * 16)
            assert len(map) == 16 and all(key in map for key in given)
            dirty()
            assert map.lookup_many(keys)[1].all() and map.delete_many(keys) == 16
            for key in given:
                map[key] = 1
            dirty()
            assert map.sweep(lambda keys, values: values > 0) == 16 and not map
        # Bytes are taken as they are.
        raw = np.full((2, PADDED.itemsize), 255, np.uint8)
        map.update_many(raw[:1], [1])
        assert map.next_key() == raw[0].tobytes() and map.sweep(lambda keys, values: values > 0) == 1


def test_the_predicate_cannot_change_what_is_deleted():
    def everything(keys, values):
        keys[...] = 99
        return values > 1

    with new() as map:
        map.update_many([1, 2], [1, 2])
        assert map.sweep(everything) == 1 and map.to_dict() == {1: 1}


def test_types_that_were_said_are_those_of_arrays():
    with Map.create(MapType.HASH, key="i4", value="f4", max_entries=10) as map:
        map.update_many([-1, 2], [1.5, 2])
        keys, values = map.to_numpy()
        assert (keys.dtype, values.dtype) == ("i4", "f4") and map.to_dict() == dict(map) == {-1: 1.5, 2: 2.0}
        map.items_array((np.empty(10, "i4"), np.empty(10, "f4")))
        for bad in ([1e300], ["1"], [None]):
            with pytest.raises((TypeError, ValueError)):
                map.update_many([1], bad)
        assert map.typed(key="u4").to_numpy()[0].max() == (1 << 32) - 1
    value = [("numbers", "u4", 3), ("single", "f4"), ("seen", "u8")]
    with Map.create(MapType.HASH, key="u4", value=value, max_entries=10) as map:
        map.update_many([1, 2], [([1, 2, 3], 1.1, 4), ((1, 2, 3), 2, 5)])
        assert map[1]["numbers"].tolist() == [1, 2, 3] and map.to_numpy()[1]["seen"].sum() == 9
        for bad in ([([1, 2], 1, 1)], [(7, 1, 1)], [([1, 2, 3], 1, -1)]):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                map.update_many([1], bad)
        assert map.sweep(older_than=0, field="seen") == 2
    with Map.create(MapType.PERCPU_HASH, key="u4", value="i4", max_entries=10) as map:
        map.update_many([1], [[-1] * CPUS])
        assert map.to_dict() == {1: [-1] * CPUS}


def test_sets_and_generators_are_taken_and_counts_must_agree():
    with new() as map:
        some = {1: 2, 3: 4}
        map.update_many(some.keys(), some.values())
        assert map.to_dict() == some and map.delete_many({1, 3}) == 2
        map.update_many((at for at in range(3)), range(3))
        for keys, values, words in (([1, 2, 3], [1, 2], "3 keys, 2 values"), ([1], [-1], "not")):
            with pytest.raises(ValueError, match=words) as raised:
                map.update_many(keys, values)
            assert raised.value.done == 0


def test_out_in_one_memory_is_refused():
    with Map.create(MapType.HASH, key="u8", value="u8", max_entries=10) as map:
        map[1] = 2
        memory = np.zeros(20, "u8")
        for keys, values in ((memory[:10], memory[5:15]), (memory[:10], memory[:10])):
            with pytest.raises(ValueError, match="same memory"):
                map.items_array(out=(keys, values))
        keys, values = map.items_array(out=(memory[:10], memory[10:]))
        assert keys.tolist() == [1] and values.tolist() == [2]
        for wrong in (5, memory, (memory,), (memory, memory, memory)):
            with pytest.raises(TypeError):
                map.items_array(out=wrong)


def test_text_with_nul_is_refused():
    with Map.create(MapType.HASH, key=str, key_size=8, value="u4", max_entries=10) as map:
        for bad in (["a\0"], ["a\0b"], ["\0"]):
            with pytest.raises(ValueError, match="NUL"):
                map.update_many(bad, [1])
            with pytest.raises(ValueError, match="NUL"):
                map[bad[0]]
        map.update_many(["ab"], [1])
        assert dict(map.items()) == {"ab": 1}
    with Map.create(MapType.HASH, key="u4", value=np.dtype([("name", "S8")]), max_entries=10) as map:
        for bad in ([("a\0",)], [{"name": "a\0b"}]):
            with pytest.raises(ValueError):
                map.update_many([1], bad)
        assert not map


def test_how_many_to_pop_is_a_number():
    with Map.create(MapType.HASH, key="u4", value="u4", max_entries=10) as map:
        map.update({1: 1, 2: 2})
        for wrong in (1.5, "1", True):
            with pytest.raises(TypeError, match="max_entries is a number"):
                map.pop_many(wrong)
        with pytest.raises(ValueError):
            map.pop_many(-1)
        assert len(map.pop_many(np.int64(1))[0]) == 1 and len(map) == 1


def test_arrays_have_the_types_of_the_object_where_the_kernel_tells_none(bpf_object):
    """It does not to a process that may not read BTF by its number, or if it did not take the object's."""
    source = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    struct empty {};
    struct pair { int a; double b; };
    int something;
    struct empty nothing;       /* for which the kernel refuses the types */
    struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, int); __type(value, struct pair); } pairs SEC(".maps");
    SEC("socket") int use(void *ctx) { struct empty *it = &nothing; something++; asm volatile("" :: "r"(it)); return 0; }
    char _license[] SEC("license") = "GPL";
    """
    with pylbpf.open(objects.build(source, "untold")) as obj:
        obj.load()
        pairs = obj.maps["pairs"]
        pairs[-1] = {"a": -2, "b": 0.5}
        keys, values = pairs.to_numpy()
        assert keys.tolist() == [-1] and values.tolist() == [(-2, 0.5)]
        pairs.update_many([-3], [(-4, 1.5)])
        assert sorted(pairs.keys()) == [-3, -1] and pairs.delete_many([-3]) == 1


def test_numbers_are_no_bytes():
    with Map.create(MapType.HASH, key_size=5, value_size=3, max_entries=4) as map:
        for use in (lambda: map.update_many([5], [3]), lambda: map.lookup_many([5]), lambda: map.delete_many([5]),
                    lambda: map.update_many(["abcde"], [b"abc"])):
            with pytest.raises(TypeError, match="have 5 bytes"):
                use()
        assert len(map) == 0
        map.update_many([[1, 2, 3, 4, 5]], [np.arange(3, dtype="u1")])
        assert map[bytes([1, 2, 3, 4, 5])] == bytes([0, 1, 2])


def test_errors_of_rows_name_the_map():
    with Map.create(MapType.HASH, key=[("a", "u1"), ("b", "u1")], value="u4", max_entries=4, name="rows") as map:
        for keys, error in (([(256, 2)], ValueError), ([(1, 2, 3)], ValueError), ([("x", 2)], TypeError)):
            with pytest.raises(error, match="keys of map 'rows'"):
                map.update_many(keys, [1])
        with pytest.raises(TypeError, match="values of map 'rows'"):
            map.update_many([(1, 2)], [1.0])
        with pytest.raises(ValueError, match="flags"):
            map.to_numpy(flags=1 << 64)


def test_texts_in_many_structs_are_what_they_are_in_one():
    key = [("pid", "u4"), ("comm", "S8")]
    with Map.create(MapType.HASH, key=key, value="u8", max_entries=4) as map:
        map.update_many([(1, "é"), (2, b"abc")], [10, 20])
        assert map[1, "é"] == 10 and map[2, "abc"] == 20
        with pytest.raises(ValueError, match="NUL in field 'comm'"):
            map.update_many([(3, "a\0c")], [30])


def test_many_maps_go_into_one():
    with new(MapType.ARRAY) as one, new(MapType.ARRAY) as two:
        with Map.create(MapType.HASH_OF_MAPS, key="u4", inner=one, max_entries=4) as outer:
            outer.update_many([7, 8, 9], (one, two, one.fileno()))
            assert [outer[key].info().id for key in (7, 8, 9)] == [map.info().id for map in (one, two, one)]
            with pytest.raises((TypeError, ValueError), match="values of map"):
                outer.update_many([1], ["one"])
