"""Records of the demo's ring buffer and counters: from bytes to words."""
from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_RECORD = struct.Struct("=QIIII16s80s")  # struct record of demo.bpf.c
_COUNT = struct.Struct("=QQQ")  # struct count

# What a program's record says, and its colour.
VERBS = {
    "on_cpu": ("is on the CPU", "bright_black"),
    "on_exit": ("ends", "magenta"),
    "execve": ("runs", "green"),
    "openat": ("opens", "cyan"),
    "unlinkat": ("removes", "red"),
    "connect": ("connects to", "yellow"),
    "ptrace": ("traces", "red"),
    "on_switch": ("leaves the CPU", "blue"),
}


class Record(NamedTuple):
    time: float  # of the clock of time.monotonic()
    slot: int
    cpu: int
    pid: int
    uid: int
    comm: str
    data: bytes


def record(raw: bytes) -> Record:
    time, slot, cpu, pid, uid, comm, data = _RECORD.unpack_from(raw)
    return Record(time / 1e9, slot, cpu, pid, uid, printable(comm), data)


def printable(raw: bytes) -> str:
    """A C string as text that cannot upset a terminal."""
    text = raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def detail(program: str, data: bytes) -> str:
    """What the caller of a system call said: a path, or an address."""
    return address(data) if program == "connect" else printable(data)


def address(raw: bytes) -> str:
    """A struct sockaddr in the usual notation."""
    (family,) = struct.unpack_from("=H", raw)
    if family == socket.AF_INET:
        (port,) = struct.unpack_from("!H", raw, 2)
        return f"{socket.inet_ntop(family, raw[4:8])}:{port}"
    if family == socket.AF_INET6:
        (port,) = struct.unpack_from("!H", raw, 2)
        return f"[{socket.inet_ntop(family, raw[8:24])}]:{port}"
    if family == socket.AF_UNIX:
        return printable(raw[2:]) if raw[2] else f"@{printable(raw[3:])}"
    return f"address family {family}"


class Count(NamedTuple):
    hits: int = 0
    sent: int = 0
    lost: int = 0


def count(per_cpu: bytes) -> Count:
    """The sum over all CPUs of one element of the map `counts`."""
    return Count(*map(sum, zip(*_COUNT.iter_unpack(per_cpu))))
