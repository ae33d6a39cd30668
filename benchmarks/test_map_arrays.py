"""What does a whole map cost, read, written and deleted as numpy arrays?

A hash map of a million keys and values of 8 bytes. C has the same batch calls with the same number of elements at once; it
reads into fresh memory too, but knows how much that will be. What was read is compared afterwards.
"""
from time import thread_time_ns as now

import pylbpf
import pytest
from floor_elements import ElementsFloor
from race import Row

np = pytest.importorskip("numpy")


def timed(call):
    start = now()
    result = call()
    return now() - start, result


def test_map_arrays(race, size, bpf):
    n = size(1_000_000, 10_000)
    floor = ElementsFloor()
    keys = np.arange(n, dtype="u8")
    values = keys + np.uint64(1)
    total = n * (n + 1) // 2
    out = np.zeros(n, "u8"), np.zeros(n, "u8")

    with pylbpf.Map.create(pylbpf.MapType.HASH, key_size=8, value_size=8, max_entries=n) as map:

        def by_c():
            times = {"update_many": floor.update(map.fd, keys, values)}
            times["to_numpy"], found = floor.read(map.fd, n)
            times["items_array"] = floor.read_into(map.fd, *out)
            times["delete_many"] = floor.delete(map.fd, keys)
            assert found == total and int(out[1].sum()) == total
            return times

        def by_pylbpf():
            times = {}
            times["update_many"], _ = timed(lambda: map.update_many(keys, values))
            times["to_numpy"], found = timed(map.to_numpy)
            times["items_array"], into = timed(lambda: map.items_array(out=out))
            times["delete_many"], deleted = timed(lambda: map.delete_many(keys))
            assert len(found[0]) == len(into[0]) == deleted == n
            assert int(found[1].sum()) == int(into[1].sum()) == total and (found[1] == found[0] + np.uint64(1)).all()
            return times

        race(
            {"C": by_c, "pylbpf": by_pylbpf},
            [Row(name, [name], n, ratios={"pylbpf": 1.02}) for name in
             ("to_numpy", "items_array", "update_many", "delete_many")],
            share=0.3,
        )
