"""What the tests of attaching share: objects with chosen programs and types, and their counters."""
from __future__ import annotations

import contextlib
import struct
from typing import Any, Iterator

import pylbpf
from pylbpf import AttachType, ProgramType

# What libbpf 1.1 does not make of the sections by itself.
TYPES = {
    "first": (ProgramType.SCHED_CLS, AttachType.TCX_INGRESS),
    "second": (ProgramType.SCHED_CLS, AttachType.TCX_INGRESS),
    "third": (ProgramType.SCHED_CLS, AttachType.TCX_INGRESS),
    "filter": (ProgramType.NETFILTER, AttachType.NETFILTER),
    "stream": (ProgramType.SK_SKB, AttachType.SK_SKB_STREAM_VERDICT),
    "many_uprobes": (ProgramType.KPROBE, AttachType.TRACE_UPROBE_MULTI),
    "many_kprobes": (ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI),
}


@contextlib.contextmanager
def loaded(path: Any, *names: str, types: dict[str, AttachType] = {}) -> Iterator[pylbpf.Object]:
    """An object of which only these programs are loaded, as what the tests need them to be."""
    with pylbpf.open(path) as obj:
        for program in obj.programs.values():
            program.autoload = program.name in names
            if program.name in names and program.name in TYPES:
                program.type, program.expected_attach_type = TYPES[program.name]
            if program.name in types:
                program.expected_attach_type = types[program.name]
        obj.load()
        yield obj


def count(obj: pylbpf.Object, slot: int) -> int:
    """A number of the map `counts`."""
    value = obj.maps["counts"].lookup(struct.pack("=I", slot))
    return int(struct.unpack("=Q", value)[0])


def take(obj: pylbpf.Object, slot: int) -> int:
    """The same, and zero it."""
    found = count(obj, slot)
    obj.maps["counts"].update(struct.pack("=I", slot), bytes(8))
    return found
