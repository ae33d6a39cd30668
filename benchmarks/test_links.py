"""What do making and destroying a link cost?

Links of one iterator program, for which the kernel has next to nothing to do: what remains is what each side adds.
"""
from time import thread_time_ns as now

import kernel
import objects
import peer_ctypes
import pylbpf
import pytest
from race import Row

N = 1000


def attach_and_destroy(program):
    attach = program.attach_iter
    start = now()
    links = [attach() for _ in range(N)]
    attached = now() - start
    assert not any(link.closed for link in links)
    start = now()
    for link in links:
        link.destroy()
    destroyed = now() - start
    assert all(link.closed for link in links)
    return {"attach": attached, "destroy": destroyed}


def test_iterator_links(race, floor, bpf):
    if kernel.no_btf():
        pytest.skip(kernel.no_btf())
    path = objects.build(objects.SOURCES / "iter.bpf.c")
    raw = peer_ctypes.open_object(path)
    assert peer_ctypes.libbpf.bpf_object__load(raw) == 0
    pointer = peer_ctypes.libbpf.bpf_object__find_program_by_name(raw, b"dump_map")
    with pylbpf.open(path) as obj:
        obj.load()
        program = obj.programs["dump_map"]
        race(
            {
                "C": lambda: floor.links(pointer, N),
                "pylbpf": lambda: attach_and_destroy(program),
                "ctypes": floor.quietly(lambda: peer_ctypes.links(pointer, N)),
            },
            [Row("attach", ["attach"], N), Row("destroy", ["destroy"], N)],
        )
    peer_ctypes.libbpf.bpf_object__close(raw)
