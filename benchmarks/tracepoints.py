"""Tracepoints to attach many programs to, and something that makes many of them fire."""
from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from pathlib import Path

import kernel

# What files, packets, timers and tasks come by, first.
GROUPS = ("task", "sched", "signal", "timer", "net", "skb", "sock", "napi", "udp", "filemap", "writeback", "workqueue",
          "irq", "kmem", "block", "ext4", "jbd2", "vmscan", "xfs", "btrfs", "cgroup", "power", "percpu", "tcp", "fib",
          "neigh", "qdisc", "mmap", "oom", "io_uring", "page_pool")


def sections(n: int) -> list[str]:
    """SEC() names of n different tracepoints, or of as many as there are."""
    events = kernel.tracefs()
    found = []
    for group in GROUPS:
        folder = Path(events or "/none", "events", group)
        found += [f"tp/{group}/{path.parent.name}" for path in sorted(folder.glob("*/id"))]
    return found[:n]


class Stir:
    """While entered, a thread does a little of everything, so that tracepoints fire; `turns` counts how often."""

    def __init__(self) -> None:
        self.turns = 0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets, tempfile.TemporaryFile() as file:
            packets.bind(("127.0.0.1", 0))
            while not self.ending.is_set():
                kernel.rename_task()
                packets.sendto(b"x", packets.getsockname())
                packets.recv(1)
                file.write(b"x")
                file.flush()
                os.sched_yield()
                time.sleep(0.0005)
                self.turns += 1

    def wait(self, turns: int) -> None:
        """Until it has gone round so many times more."""
        wanted = self.turns + turns
        while self.turns < wanted and self.thread.is_alive():
            time.sleep(0.001)
        assert self.turns >= wanted, "what makes tracepoints fire has ended"

    def __enter__(self) -> Stir:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.thread.join()
