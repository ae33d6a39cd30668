"""Histograms with a slot for each power of two, drawn in the terminal."""
from __future__ import annotations

import time

import numpy
import pylbpf
from rich.bar import Bar
from rich.console import Console
from rich.table import Table


def slots(obj: pylbpf.Object) -> numpy.ndarray:
    """The sums over all CPUs of what log2.bpf.h has counted so far."""
    return numpy.frombuffer(obj.maps["histogram"].lookup(bytes(4)), "u8").reshape(-1, 32).sum(axis=0)


def draw(counts: numpy.ndarray, unit: str, console: Console) -> None:
    """A line for each slot, up to the last that is not empty."""
    if not counts.any():
        console.print("nothing was counted")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(unit, justify="right", no_wrap=True)
    table.add_column("count", justify="right")
    table.add_column("distribution")
    for slot, count in enumerate(counts[:int(counts.nonzero()[0][-1]) + 1]):
        low = 0 if slot == 0 else 1 << slot
        table.add_row(f"{low} → {(2 << slot) - 1}", str(count), Bar(int(counts.max()), 0, int(count), width=40, color="cyan"))
    console.print(table)


def repeat(obj: pylbpf.Object, unit: str, interval: float | None, count: int | None, console: Console) -> None:
    """Draw what was counted in each interval, `count` times; with Ctrl-C for a last time."""
    before, rounds = slots(obj), 0
    try:
        while count is None or rounds < count:
            time.sleep(3600 if interval is None else interval)
            now = slots(obj)
            console.print(time.strftime("\n%H:%M:%S"))
            draw(now - before, unit, console)
            before, rounds = now, rounds + 1
    except KeyboardInterrupt:
        console.print()
        draw(slots(obj) - before, unit, console)
