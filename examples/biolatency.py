#!/usr/bin/env python3
"""Show as a histogram how long block devices take."""
from __future__ import annotations

import click
from common import Seconds, loaded
from histogram import repeat
from rich.console import Console

NEEDS = "Linux 5.11 or later with BTF and CONFIG_BLOCK"


@click.command()
@click.option("-Q", "--queued", is_flag=True, help="Include the time in the queue of the kernel.")
@click.argument("interval", type=Seconds(0.01), default=None, required=False)
@click.argument("count", type=click.IntRange(min=1), default=None, required=False)
def main(queued: bool, interval: float | None, count: int | None) -> None:
    """Show how long requests to block devices take, from issue to completion, in microseconds.

    Every INTERVAL seconds, COUNT times; without them once, after Ctrl-C. Needs Linux 5.11 or later with BTF.
    """
    console = Console()
    with loaded("biolatency", NEEDS) as obj:
        obj.programs["on_insert"].autoattach = queued
        obj.attach()
        console.print("Measuring block devices... Ctrl-C ends it.")
        repeat(obj, "µs", interval, count, console)


if __name__ == "__main__":
    main()
