"""What does one element of a map cost, read and written as bytes, as numbers, as a struct, and in a dict?

A hash map with keys and values of 8 bytes, and one with a struct of 32 bytes. The loop over the keys and the list of results belong to the times of pylbpf
and ctypes; the C floor counts up and sums. All values are compared afterwards, and the map must be empty at the end.
"""
from time import thread_time_ns as now

import objects
import peer_ctypes
import peer_others
import pylbpf
from race import Row

N = 20_000
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} numbers SEC(".maps");
struct value { __u64 count; __u32 flags; char name[20]; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct value);
} structs SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, __u64);
	__type(value, __u64);
} many SEC(".maps");
"""
MANY = 100_000


def elements(map, keys, values):
    update, lookup, delete = map.update, map.lookup, map.delete
    times = {}
    start = now()
    for key, value in zip(keys, values):
        update(key, value)
    times["update"] = now() - start
    start = now()
    found = [lookup(key) for key in keys]
    times["lookup"] = now() - start
    assert found == values
    start = now()
    for key in keys:
        delete(key)
    times["delete"] = now() - start
    assert map.next_key() is None
    return times


def typed(map):
    times = {}
    keys = range(N)
    start = now()
    for key in keys:
        map[key] = key
    times["update"] = now() - start
    start = now()
    for key in keys:
        map[key]
    times["lookup"] = now() - start
    assert map[N - 1] == N - 1
    start = now()
    for key in keys:
        del map[key]
    times["delete"] = now() - start
    assert not map
    return times


def loop():
    """What of a time is Python's loop and its numbers."""
    start = now()
    for _ in range(N):
        pass
    took = now() - start
    return {"update": took, "lookup": took, "delete": took}


def lookups(map):
    start = now()
    for key in range(N):
        map[key]
    took = now() - start
    assert map[7]["count"] == 7
    return {"lookup": took}


def as_dict(map, count):
    start = now()
    found = dict(map.items())
    took = now() - start
    assert len(found) == count and found[count - 1] == count - 1
    return {"walk": took}


def test_structs(race, floor, bpf):
    with pylbpf.open(objects.build(SOURCE, "hash")) as obj:
        obj.load()
        structs = obj.maps["structs"]
        for key in range(N):
            structs[key] = (key, 1, "name")
        race(
            {"C": lambda: floor.values(structs.fd, N), "pylbpf": lambda: lookups(structs)},
            [Row("lookup", ["lookup"], N, ratios={"pylbpf": 1.3})],
        )


def test_dict(race, floor, bpf):
    with pylbpf.open(objects.build(SOURCE, "hash")) as obj:
        obj.load()
        many = obj.maps["many"]
        for key in range(MANY):
            many[key] = key
        race(
            {"C": lambda: floor.walk(many.fd, MANY), "pylbpf": lambda: as_dict(many, MANY)},
            [Row("walk", ["walk"], MANY, ratios={"pylbpf": 1.4})],
        )


def test_map(race, floor, bpf):
    keys = [i.to_bytes(8, "little") for i in range(N)]
    values = [(i + 1).to_bytes(8, "little") for i in range(N)]
    path = objects.build(SOURCE, "hash")
    with pylbpf.open(path) as obj:
        obj.load()
        numbers = obj.maps["numbers"]
        race(
            {
                "C": lambda: floor.map(numbers.fd, N),
                "pylbpf": lambda: elements(numbers, keys, values),
                "pylbpf, numbers": lambda: typed(numbers),
                "loop alone": loop,
                "ctypes": lambda: peer_ctypes.map_elements(numbers.fd, keys, values),
                **peer_others.map_elements(path, "numbers", numbers.fd, N),
            },
            [Row(name, [name], N, ratios={"pylbpf, numbers": 1.15}) for name in ("lookup", "update", "delete")],
        )
