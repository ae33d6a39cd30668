"""perf_event_open(2) for one event: the clock of a CPU, so many times a second."""
import ctypes
import os
import platform
import struct

NUMBER = {"x86_64": 298, "s390x": 331, "ppc64le": 319}.get(platform.machine(), 241)
SOFTWARE, CPU_CLOCK, FREQUENCY = 1, 0, 1 << 10

libc = ctypes.CDLL(None, use_errno=True)


def open_cpu_clock(cpu, hertz):
    # struct perf_event_attr: type, size, config, sample_freq, sample_type, read_format, flags; the rest is zero
    attr = struct.pack("=IIQQQQQ", SOFTWARE, 112, CPU_CLOCK, hertz, 0, 0, FREQUENCY).ljust(112, b"\0")
    fd = libc.syscall(
        ctypes.c_long(NUMBER), attr, ctypes.c_int(-1), ctypes.c_int(cpu), ctypes.c_int(-1), ctypes.c_ulong(8)
    )
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd
