#!/usr/bin/env python3
"""Show where the CPUs spend their time, by stacks."""
from __future__ import annotations

import collections
import struct
import time
from pathlib import Path

import click
import numpy
import pylbpf
from common import PID, Seconds, loaded
from flamegraph import svg
from pylbpf.symbols import Process, kernel
from rich.console import Console
from rich.table import Table
from rich.text import Text

NEEDS = "Linux 4.9 or later with perf events: CONFIG_PERF_EVENTS"


def frames(obj: pylbpf.Object, number: int) -> list[int]:
    """The addresses of a stack, outermost first."""
    raw = obj.maps["stacks"].lookup(struct.pack("=i", number)) if number >= 0 else None
    return [] if raw is None else [int(address) for address in numpy.frombuffer(raw, "u8") if address][::-1]


def named(found: pylbpf.symbols.Symbol | None) -> str:
    if found is None:
        return "[unknown]"
    return found.name or f"[{Path(found.module).name or 'unknown'}]"


def stacks(obj: pylbpf.Object) -> dict[tuple[str, ...], int]:
    """Command and names of functions, outermost first -> samples."""
    processes: dict[int, Process] = {}
    found: collections.Counter[tuple[str, ...]] = collections.Counter()
    for key, value in obj.maps["counts"].raw.items():
        pid, user, inner, comm = struct.unpack("=Iii16s", key)
        process = processes.get(pid) or processes.setdefault(pid, Process(pid))
        names = [comm.rstrip(b"\0").decode(errors="replace")]
        names += [named(process.resolve(address)) for address in frames(obj, user)]
        names += [f"{named(kernel().resolve(address)).replace('[unknown]', '[kernel]')}_[k]" for address in frames(obj, inner)]
        found[tuple(names)] += struct.unpack("=Q", value)[0]
    return dict(found)


def show(found: dict[tuple[str, ...], int], console: Console) -> None:
    """The functions that were running most often."""
    inner: collections.Counter[tuple[str, str]] = collections.Counter()
    for stack, count in found.items():
        inner[stack[0], stack[-1] if len(stack) > 1 else "[no stack]"] += count
    total = sum(inner.values()) or 1
    table = Table("command", "function", box=None, pad_edge=False)
    table.add_column("samples", justify="right")
    table.add_column("share", justify="right")
    for (command, name), count in inner.most_common(15):
        table.add_row(Text(command), Text(name), str(count), f"{100 * count / total:.1f} %")
    console.print(table)


def writable(context: click.Context, parameter: click.Parameter, path: str | None) -> str | None:
    """Say it before there are samples if a file cannot be written."""
    if path not in (None, "-"):
        try:
            open(path, "a").close()
        except OSError as error:
            raise click.BadParameter(f"{path}: {error.strerror}") from None
    return path


OUTPUT = click.Path(dir_okay=False, allow_dash=True)


@click.command()
@click.option("-F", "--frequency", type=click.IntRange(1, 10000), default=49, help="Samples a second on each CPU (49).")
@click.option("-p", "--pid", type=PID, help="Only this process.")
@click.option("-I", "--idle", is_flag=True, help="Count idle CPUs too.")
@click.option("-e", "--event", default="cpu-clock", help="What is sampled (cpu-clock); cpu-cycles needs hardware counters.")
@click.option("--folded", type=OUTPUT, callback=writable, help="Write folded stacks into this file (- is stdout).")
@click.option("--svg", "picture", type=OUTPUT, callback=writable, help="Draw a flame graph into this file.")
@click.argument("duration", type=Seconds(0.01), default=5.0)
def main(frequency: int, pid: int | None, idle: bool, event: str, folded: str | None, picture: str | None, duration: float) -> None:
    """Sample all CPUs for DURATION seconds (5), and show what was running: functions, folded stacks or a flame graph.

    Stacks of user programs are whole only if these were compiled with frame pointers. Needs Linux 4.9 or later.
    """
    console = Console()
    with loaded("profile", NEEDS) as obj:
        obj.maps["settings"].update(bytes(4), struct.pack("=II", pid or 0, idle))
        try:
            events = pylbpf.PerfEvent(event, frequency=frequency)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        with events, events.attach(obj.programs["on_sample"]):
            try:
                time.sleep(duration)
            except KeyboardInterrupt:
                pass
        found = stacks(obj)
        title = f"{sum(found.values())} samples of {event}, {frequency} a second"
        try:
            if folded is not None:
                with click.open_file(folded, "w") as file:
                    file.writelines(f"{';'.join(stack)} {count}\n" for stack, count in sorted(found.items()))
            if picture is not None:
                with click.open_file(picture, "w") as file:
                    file.write(svg(found, title))
        except OSError as error:
            show(found, console)        # the samples are not lost for that
            raise click.ClickException(str(error)) from None
        if folded is None and picture is None:
            show(found, console)


if __name__ == "__main__":
    main()
