"""records.bpf.c at work: records on request, and what they should hold."""
from __future__ import annotations

import ctypes
import struct
import sys
import threading
from contextlib import contextmanager

import kernel
import numpy as np
import pylbpf

PROG_TEST_RUN = 10
PLAIN, MIXED, TYPED = range(3)
NO_WAKEUP, FORCE_WAKEUP = 1, 2
CAPACITY = 256 * 1024
OPEN = np.dtype([("type", "u4"), ("pid", "u4"), ("number", "u8"), ("comm", "S16")])
EXIT = np.dtype([("type", "u4"), ("code", "i4"), ("number", "u8")])
NUMBER = np.dtype([("number", "u8")])
REQUEST = struct.Struct("=QQIIIIII")


def loaded(path) -> pylbpf.Object:
    obj = pylbpf.open(path)
    obj.load()
    return obj


def run(program: pylbpf.Program, request: bytes) -> bytes:
    """Run a syscall program with a context, which it may change."""
    context = ctypes.create_string_buffer(request, len(request))
    # prog_fd, retval, sizes and data, repeat, duration, ctx_size_in, ctx_size_out, ctx_in, ctx_out
    attr = struct.pack("=IIIIQQIIIIQQ", program.fd, 0, 0, 0, 0, 0, 0, 0, len(request), 0,
                       ctypes.addressof(context) if request else 0, 0)
    kernel.bpf(PROG_TEST_RUN, attr)
    return context.raw


def emit(obj, count=1, *, first=0, size=8, mode=PLAIN, flags=0, ring=0, every=0) -> int:
    """Send records numbered from `first`; return how many there was room for."""
    request = REQUEST.pack(first, 0, count, size, flags, mode, ring, every)
    return REQUEST.unpack(run(obj.programs["emit"], request))[1]


def fill(obj, data: bytes) -> None:
    """What plain records hold, but for the number in the first 8 bytes."""
    obj.maps["scratch"].update(bytes(4), data.ljust(1 << 17, b"\0"))


@contextmanager
def held(obj, number=0, discard=False):
    """A record that is reserved, and submitted or discarded at the end of the block."""
    release = obj.maps["release"]
    for slot in (0, 1):
        release.update(struct.pack("=I", slot), bytes(8))
    request = REQUEST.pack(number, 0, 0, 0, 0, 0, 0, discard)
    holder = threading.Thread(target=run, args=(obj.programs["hold"], request))
    holder.start()
    while not any(release.lookup(struct.pack("=I", 1))):
        pass
    try:
        yield
    finally:
        release.update(bytes(4), (1).to_bytes(8, sys.byteorder))
        holder.join()


def size_of(number: int) -> int:
    """Of a mixed record, as the program has it."""
    return 8 + ((number * 2654435761 & 0xFFFFFFFFFFFFFFFF) >> 13) % 700


def number(record) -> int:
    return int.from_bytes(bytes(record)[:8], sys.byteorder)
