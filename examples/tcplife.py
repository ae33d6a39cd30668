#!/usr/bin/env python3
"""Show TCP connections when they end."""
from __future__ import annotations

import socket

import click
from common import PID, PORT, duration, loaded

NEEDS = "Linux 5.8 or later with BTF and CONFIG_INET"


def address(family: int, raw) -> str:
    return socket.inet_ntop(family, bytes(raw)[:4 if family == socket.AF_INET else 16])


@click.command()
@click.option("-p", "--pid", type=PID, help="Only this process.")
@click.option("-L", "--local-port", type=PORT, help="Only this local port.")
@click.option("-D", "--remote-port", type=PORT, help="Only this remote port.")
@duration
def main(pid: int | None, local_port: int | None, remote_port: int | None, duration: float | None) -> None:
    """Show each TCP connection when it ends: its process, its two ends, kilobytes sent and received, milliseconds.

    The process is known of connections that were opened, or are closed, by one. Needs Linux 5.8 or later with BTF.
    """
    with loaded("tcplife", NEEDS) as obj:
        events = obj.ring_buffer("events", type="event")
        obj.attach()
        click.echo(f"{'PID':>7} {'COMMAND':16} {'LOCAL':>15} {'PORT':>5} {'REMOTE':>15} {'PORT':>5} "
                   f"{'SENT KB':>9} {'RECV KB':>9} {'MS':>9}")
        for event in events.records(duration):
            if ((pid is None or event.pid == pid) and (local_port is None or event.local_port == local_port)
                    and (remote_port is None or event.remote_port == remote_port)):
                click.echo(f"{event.pid:7} {event.comm.decode(errors='replace'):16} "
                           f"{address(event.family, event.local):>15} {event.local_port:5} "
                           f"{address(event.family, event.remote):>15} {event.remote_port:5} "
                           f"{event.sent / 1024:9.1f} {event.received / 1024:9.1f} {event.duration / 1e6:9.2f}")


if __name__ == "__main__":
    main()
