"""pylbpf top"""
from __future__ import annotations

import json
import time
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .. import query
from ..runstats import stats_enabled
from . import _screen, _things

COLUMNS = ("id", "type", "name", "runs/s", "ns/run", "cpu %", "held by")
Seen = dict[int, tuple[int, int]]


def sample() -> tuple[Seen, list[Any]]:
    """How often each program has run, and for how many nanoseconds."""
    infos = query.programs()
    return {info.id: (info.run_cnt, info.run_time_ns) for info in infos}, infos


def rates(before: Seen, after: Seen, infos: list[Any], seconds: float, everything: bool) -> list[dict[str, Any]]:
    """What ran in between, the busiest first; a program that is new counts from its start."""
    owners = query.owners()
    found = []
    for info in infos:
        runs = after[info.id][0] - before.get(info.id, (0, 0))[0]
        took = after[info.id][1] - before.get(info.id, (0, 0))[1]
        if runs > 0 or everything:
            found.append({
                "id": info.id, "type": info.type.name, "name": info.name, "runs/s": round(runs / seconds, 1),
                "ns/run": round(took / runs) if runs > 0 else 0, "cpu %": round(100 * took / seconds / 1e9, 3),
                "held by": _things.holders("program", owners, info.id)})
    return sorted(found, key=lambda row: (-row["cpu %"], -row["runs/s"], row["id"]))


def grid(rows: list[dict[str, Any]], height: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in ("id", "runs/s", "ns/run", "cpu %") else "left", no_wrap=True)
    for row in rows[:height]:
        table.add_row(*(Text(_screen.cell(_things.shown(row[name]) if name == "held by" else row[name])) for name in COLUMNS))
    return table


def show(rows: list[dict[str, Any]], as_json: bool, live: Live | None, console: Console) -> None:
    if as_json:
        click.echo(json.dumps(rows))
    elif live is not None:
        live.update(grid(rows, max(console.height - 2, 1)), refresh=True)
    else:
        _screen.table(list(COLUMNS), [[_things.shown(row[name]) if name == "held by" else row[name] for name in COLUMNS] for row in rows], {})


@click.command("top", short_help="Which programs run now, how often, for how long.",
               context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-i", "--interval", type=click.FloatRange(0.05, 3600), default=1.0, help="Seconds between two looks (1).")
@click.option("-n", "--count", type=click.IntRange(1), default=None,
              help="Looks until it ends; by default one, on a terminal without end.")
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects as JSON, one line for each look.")
def command(interval: float, count: int | None, everything: bool, as_json: bool) -> int:
    """Which programs run now: how often, how long each time, and what part of one CPU that is.

    The kernel measures while this runs, which costs each run of a program some 20 nanoseconds. Needs CAP_SYS_ADMIN, Linux 5.8.
    """
    if interval != interval:    # not a number, which is in every range
        raise click.BadParameter("not a number", param_hint="--interval")
    console = _screen.console()
    live = Live(console=console, auto_refresh=False, screen=True) if console.is_terminal and not as_json else None
    left = count if count is not None else (-1 if live is not None else 1)
    try:
        with stats_enabled():
            if live is not None:
                live.start()
            before, _ = sample()
            start = time.monotonic()
            while left:
                time.sleep(interval)
                after, infos = sample()
                now = time.monotonic()
                show(rates(before, after, infos, now - start, everything), as_json, live, console)
                before, start = after, now
                left -= 1
    except KeyboardInterrupt:
        pass    # as one ends it
    finally:
        if live is not None:
            live.stop()
    return 0
