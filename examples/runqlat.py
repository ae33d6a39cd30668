#!/usr/bin/env python3
"""Show as a histogram how long tasks wait for a CPU."""
from __future__ import annotations

import struct

import click
from common import PID, Seconds, loaded
from histogram import repeat
from rich.console import Console

NEEDS = "Linux 5.14 or later with BTF"


@click.command()
@click.option("-p", "--pid", type=PID, help="Only the threads of this process.")
@click.argument("interval", type=Seconds(0.01), default=None, required=False)
@click.argument("count", type=click.IntRange(min=1), default=None, required=False)
def main(pid: int | None, interval: float | None, count: int | None) -> None:
    """Show how long tasks wait for a CPU, from when they could run until they do, in microseconds.

    Every INTERVAL seconds, COUNT times; without them once, after Ctrl-C. Needs Linux 5.14 or later with BTF.
    """
    console = Console()
    with loaded("runqlat", NEEDS) as obj:
        obj.maps["only"].update(bytes(4), struct.pack("=I", pid or 0))
        obj.attach()
        console.print("Measuring how long tasks wait for a CPU... Ctrl-C ends it.")
        repeat(obj, "µs", interval, count, console)


if __name__ == "__main__":
    main()
