"""Objects to attach many programs of, and what is left of them."""
from __future__ import annotations

import contextlib
import os
import resource
from typing import Iterator

import kernel
import objects
import pylbpf
from handling import count_this_process

HIT = "tp/task/task_rename"  # kernel.rename_task() trips it
SILENT = ["tp/task/task_newtask", "tp/sched/sched_process_fork", "tp/sched/sched_process_exec", "tp/sched/sched_process_exit",
          "tp/sched/sched_process_wait", "tp/signal/signal_deliver", "tp/signal/signal_generate", "tp/oom/oom_score_adj_update"]


@contextlib.contextmanager
def opened(*sections: str, handlers: tuple[pylbpf.ProgramHandler, ...] = (), name: str = "together") -> Iterator[pylbpf.Object]:
    """A loaded object with a program p0000, p0001, ... for each section; it counts in its slot of the map `counts`."""
    source = objects.many(len(sections), sections, with_map=True, by_process=True)
    with pylbpf.open(objects.build(source, name), handlers=handlers) as obj:
        obj.load()
        count_this_process(obj)
        yield obj


def counted(obj: pylbpf.Object, slot: int = 0) -> int:
    """How often a program runs in this process while it trips the tracepoint task_rename five times."""
    def read() -> int:
        return int.from_bytes(obj.maps["counts"].lookup(slot.to_bytes(4, "little")), "little")

    before = read()
    kernel.rename_task(5)
    return read() - before


def perf_events() -> list[int]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "perf_event" in os.readlink(f"/proc/self/fd/{fd}"):
                found.append(int(fd))
    return sorted(found)


def left() -> tuple[set[int], list[int]]:
    """Links and perf events of this process."""
    return kernel.own_link_ids(), perf_events()


@contextlib.contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """So many may be opened, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1 + count, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for fd in taken[len(taken) - count:]:
            os.close(fd)
        del taken[len(taken) - count:]
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
