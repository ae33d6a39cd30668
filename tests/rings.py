"""rings.bpf.c at work: records that come when the test wants them, and are numbered from 0.

A task that takes a certain name makes the program run, so other processes on the machine do not disturb the count.
"""
from __future__ import annotations

import os
import struct
from typing import Union

import pylbpf

NAME, COUNT, FLAGS, NUMBER = (struct.pack("=I", slot) for slot in range(4))
NO_WAKEUP, FORCE_WAKEUP = 1, 2


def loaded(path: Union[str, os.PathLike]) -> pylbpf.Object:
    """The object, loaded and told whose name to look for; not attached."""
    obj = pylbpf.open(path)
    obj.load()
    obj.maps["config"].update(NAME, own_name())
    configure(obj)
    return obj


def own_name() -> bytes:
    return b"plb%05x" % (os.getpid() & 0xFFFFF)


def configure(obj: pylbpf.Object, *, count: int = 1, flags: int = 0) -> None:
    """How many records one send() is, and how they are sent."""
    obj.maps["config"].update(COUNT, struct.pack("=Q", count))
    obj.maps["config"].update(FLAGS, struct.pack("=Q", flags))


def send(times: int = 1, name: bytes = b"") -> None:
    with open("/proc/self/comm", "rb+", buffering=0) as comm:
        before = comm.read().rstrip(b"\n")
        for _ in range(times):
            comm.write(name or own_name())
            comm.write(before)


def sent(obj: pylbpf.Object) -> int:
    """How many records there were; with a count of 1, how often the program ran."""
    return struct.unpack("=Q", obj.maps["config"].lookup(NUMBER))[0]


def number(record: bytes) -> int:
    first, again = struct.unpack("=QQ", record)
    assert first == again
    return first
