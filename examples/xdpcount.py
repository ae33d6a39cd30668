#!/usr/bin/env python3
"""Show live what arrives at a network interface, by protocol."""
from __future__ import annotations

import socket
import sys
import time

import click
import numpy
import pylbpf
from common import Seconds, loaded
from rich.console import Console
from rich.live import Live
from rich.table import Table

NEEDS = "Linux 5.9 or later, and an interface without another XDP program"
NAMES = {getattr(socket, name): name[len("IPPROTO_"):] for name in dir(socket) if name.startswith("IPPROTO_")} | {256: "not IP"}
TRAFFIC = numpy.dtype([("packets", "u8"), ("bytes", "u8")])


def counted(obj: pylbpf.Object) -> dict[int, tuple[int, int]]:
    """Protocol -> packets and bytes, summed over all CPUs."""
    found = {}
    for protocol in range(257):
        each = numpy.frombuffer(obj.maps["traffic"].lookup(protocol.to_bytes(4, sys.byteorder)), TRAFFIC)
        if each["packets"].any():
            found[protocol] = int(each["packets"].sum()), int(each["bytes"].sum())
    return found


def table(interface: str, now: dict, before: dict, seconds: float) -> Table:
    shown = Table(title=f"arriving at {interface}")
    shown.add_column("protocol")
    for name in ("packets", "bytes", "packets/s", "kB/s"):
        shown.add_column(name, justify="right")
    for protocol, (packets, bytes_) in sorted(now.items(), key=lambda item: -item[1][1]):
        earlier = before.get(protocol, (0, 0))
        shown.add_row(NAMES.get(protocol, str(protocol)), f"{packets:,}", f"{bytes_:,}",
                      f"{(packets - earlier[0]) / seconds:,.0f}", f"{(bytes_ - earlier[1]) / seconds / 1000:,.1f}")
    return shown


@click.command()
@click.option("-i", "--interval", type=Seconds(0.05), default=1.0, help="Seconds between two looks (1).")
@click.option("-c", "--count", type=click.IntRange(min=1), help="End after so many looks; else with Ctrl-C.")
@click.argument("interface")
def main(interval: float, count: int | None, interface: str) -> None:
    """Count the packets that arrive at INTERFACE by protocol, and let all of them pass.

    Needs Linux 5.9 or later, and that no other XDP program is attached there.
    """
    console = Console()
    with loaded("xdpcount", NEEDS) as obj:
        link = obj.programs["count"].attach_xdp(interface)
        before, since = counted(obj), time.monotonic()
        with link, Live(table(interface, before, before, 1), console=console, auto_refresh=False) as live:
            while count is None or count > 0:
                time.sleep(interval)
                now, at = counted(obj), time.monotonic()
                live.update(table(interface, now, before, at - since), refresh=True)
                before, since = now, at
                count = None if count is None else count - 1


if __name__ == "__main__":
    main()
