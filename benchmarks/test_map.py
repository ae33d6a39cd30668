"""What does one element of a map cost, read and written as bytes?

A hash map with keys and values of 8 bytes. The loop over the keys and the list of results belong to the times of pylbpf
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
"""


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
                "ctypes": lambda: peer_ctypes.map_elements(numbers.fd, keys, values),
                **peer_others.map_elements(path, "numbers", N),
            },
            [Row(name, [name], N) for name in ("lookup", "update", "delete")],
        )
