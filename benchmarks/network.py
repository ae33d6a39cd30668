"""Interfaces that nobody else uses: pairs of veth in a network namespace that dies with its last user."""
from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from typing import Iterator

import kernel

CLONE_NEWNET = 0x40000000


def missing() -> str:
    """Why there can be none, or ""."""
    if reason := kernel.no_net_admin():
        return reason
    try:
        with interfaces(2):
            return ""
    except FileNotFoundError:
        return "network: ip (iproute2) is not installed"
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network: no namespace with veth interfaces can be made ({getattr(error, 'stderr', None) or error})"


@contextlib.contextmanager
def interfaces(n: int) -> Iterator[list[int]]:
    """The indexes of n interfaces that are up, in a namespace that the calling thread is in meanwhile."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(kernel.libc.unshare(CLONE_NEWNET))
        try:
            yield make(n)
        finally:
            enter(kernel.libc.setns(before, CLONE_NEWNET))
    finally:
        os.close(before)


def enter(result: int) -> None:
    if result:
        code = kernel.ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def make(n: int) -> list[int]:
    pairs = [(f"v{i}a", f"v{i}b") for i in range((n + 1) // 2)]
    lines = [f"link add {one} type veth peer name {other}" for one, other in pairs]
    lines += [f"link set {end} arp off up" for pair in pairs for end in pair]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), stderr=subprocess.PIPE, text=True, check=True)
    return [socket.if_nametoindex(end) for pair in pairs for end in pair][:n]
