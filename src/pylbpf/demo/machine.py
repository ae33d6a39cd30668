"""What differs from machine to machine: numbers of system calls, places of their arguments, CPUs, perf events."""
from __future__ import annotations

import ctypes
import os
import platform
import struct

# Numbers of system calls, and where struct pt_regs keeps their first two arguments at entry.
_MACHINES = {
    "x86_64": (
        {"execve": 59, "openat": 257, "unlinkat": 263, "connect": 42, "ptrace": 101, "perf_event_open": 298},
        (112, 104),
    ),
    "aarch64": (
        {"execve": 221, "openat": 56, "unlinkat": 35, "connect": 203, "ptrace": 117, "perf_event_open": 241},
        (272, 8),  # x0 is overwritten by the result; its old value is kept at the end
    ),
}

_PERF_TYPE_SOFTWARE, _PERF_COUNT_SW_CPU_CLOCK = 1, 0
_PERF_ATTR_FREQ = 1 << 10
_PERF_ATTR_SIZE_VER5 = 112
_PERF_FLAG_FD_CLOEXEC = 8


def syscall_number(name: str) -> int | None:
    """The number of a system call here, or None if this machine or call is not in the table."""
    numbers, _ = _MACHINES.get(platform.machine(), ({}, ()))
    return numbers.get(name)


def argument_offset(index: int) -> int:
    """Where struct pt_regs has the argument of that index, in bytes."""
    return _MACHINES[platform.machine()][1][index]


def online_cpus() -> list[int]:
    with open("/sys/devices/system/cpu/online") as file:
        ranges = file.read().strip()
    cpus: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def open_cpu_clock(cpu: int, frequency: int) -> int:
    """A perf event that fires on one CPU `frequency` times a second: its descriptor, else OSError."""
    number = syscall_number("perf_event_open")
    if number is None:
        raise OSError(38, f"the number of perf_event_open on {platform.machine()} is not known here")
    attr = struct.pack(
        "=IIQQQQQ", _PERF_TYPE_SOFTWARE, _PERF_ATTR_SIZE_VER5, _PERF_COUNT_SW_CPU_CLOCK, frequency, 0, 0, _PERF_ATTR_FREQ
    )
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(
        ctypes.c_long(number), ctypes.create_string_buffer(attr, _PERF_ATTR_SIZE_VER5),
        ctypes.c_int(-1), ctypes.c_int(cpu), ctypes.c_int(-1), ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC),
    )
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd
