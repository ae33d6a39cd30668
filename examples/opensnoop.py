#!/usr/bin/env python3
"""Show each file that is opened."""
from __future__ import annotations

import errno
import os
import struct

import click
from common import PID, duration, loaded

NEEDS = "Linux 5.8 or later with CONFIG_FTRACE_SYSCALLS"
MODES = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}


def outcome(result: int) -> str:
    return str(result) if result >= 0 else errno.errorcode.get(-result, str(result))


@click.command()
@click.option("-p", "--pid", type=PID, help="Only this process.")
@click.option("-x", "--failed", is_flag=True, help="Only what could not be opened.")
@click.option("-n", "--name", metavar="TEXT", help="Only commands whose name has this in it.")
@duration
def main(pid: int | None, failed: bool, name: str | None, duration: float | None) -> None:
    """Show each file that is opened with openat(2) or openat2(2): its descriptor, or why it could not be.

    Paths are shown as the program gave them, up to 255 bytes. Needs Linux 5.8 or later with CONFIG_FTRACE_SYSCALLS.
    """
    with loaded("opensnoop", NEEDS) as obj:
        obj.maps["settings"].update(bytes(4), struct.pack("=II", pid or 0, failed))
        events = obj.ring_buffer("events", type="event")
        obj.attach()
        own = os.getpid()
        click.echo(f"{'COMMAND':16} {'PID':>7} {'UID':>6} {'FD':>7} MODE PATH")
        for event in events.records(duration):
            command = event.comm.decode(errors="replace")
            if event.pid != own and (name is None or name in command):
                path = event.path.decode(errors="replace")
                mode = MODES.get(event.flags & os.O_ACCMODE, "?")
                click.echo(f"{command:16} {event.pid:7} {event.uid:6} {outcome(event.result):>7} {mode:4} {path}")


if __name__ == "__main__":
    main()
