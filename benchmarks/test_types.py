"""How long does it take until the kernel's largest struct is a numpy dtype?

The kernel's BTF is read ("load") and task_struct made a dtype ("type"), both for the first time. C reads the same BTF, finds the
struct and asks the size of every member of it, and of those inside.
"""
from time import thread_time_ns as now

import pylbpf
import pylbpf.dtypes  # the import of numpy is not what is measured
from race import Row


def ours(path="/sys/kernel/btf/vmlinux"):
    start = now()
    types = pylbpf.Btf.parse(path)      # as Btf.kernel(), but not kept, and checked
    load = now() - start
    start = now()
    made = types.dtype("task_struct")
    took = now() - start
    assert made.itemsize == types.size("task_struct") and len(made.names) > 100
    return {"load": load, "type": took}


def test_types(race, floor):
    race(
        {"C": lambda: floor.members("task_struct"), "pylbpf": ours},
        [Row("load", ["load"], 1, "ms"), Row("type", ["type"], 1, "ms", limits={"pylbpf": 20})],
    )
