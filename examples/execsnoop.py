#!/usr/bin/env python3
"""Show each program that is executed, with its arguments."""
from __future__ import annotations

import pwd
import shlex
import time

import click
from common import duration, loaded

NEEDS = "Linux 5.8 or later with BTF"
# Time stamps are of the clock that stops in suspend; this is what they lack to the time of day.
EPOCH = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def arguments(event) -> str:
    """As one would type them; the kernel keeps them one behind the other."""
    raw = event.args[:event.args_size]
    text = " ".join(shlex.quote(word.decode(errors="replace")) for word in raw.rstrip(b"\0").split(b"\0"))
    return text + " ..." if event.args_size > 256 else text


@click.command()
@click.option("-n", "--name", metavar="TEXT", help="Only commands whose name has this in it.")
@click.option("-u", "--user", metavar="NAME", help="Only of this user, by name or number.")
@click.option("-T", "--time", "stamps", is_flag=True, help="Show the time of day.")
@duration
def main(name: str | None, user: str | None, stamps: bool, duration: float | None) -> None:
    """Show each program that is executed: its process, its parent, its arguments.

    Programs that could not be executed do not appear, and of arguments no more than 256 bytes. Needs Linux 5.8 or later with
    BTF.
    """
    uid = None
    if user is not None:
        try:
            uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        except KeyError:
            raise click.ClickException(f"there is no user {user}") from None
    with loaded("execsnoop", NEEDS) as obj:
        events = obj.ring_buffer("events", type="event")
        obj.attach()
        click.echo(f"{'TIME     ' if stamps else ''}{'COMMAND':16} {'PID':>7} {'PPID':>7} {'UID':>6} ARGUMENTS")
        for event in events.records(duration):
            command = event.comm.decode(errors="replace")
            if (name is None or name in command) and (uid is None or uid == event.uid):
                when = time.strftime("%H:%M:%S ", time.localtime((EPOCH + event.time) / 1e9)) if stamps else ""
                click.echo(f"{when}{command:16} {event.pid:7} {event.ppid:7} {event.uid:6} {arguments(event)}")


if __name__ == "__main__":
    main()
