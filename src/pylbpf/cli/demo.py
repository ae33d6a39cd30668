"""pylbpf demo"""
from __future__ import annotations

import math

import click


def positive(context: click.Context, parameter: click.Parameter, value: float) -> float:
    if not 0 < value < math.inf:
        raise click.BadParameter(f"{value} is not a number of seconds")
    return value


@click.command(short_help="Custom sections at work on this kernel.")
@click.option("--seconds", type=float, default=5.0, callback=positive, metavar="N",
              help="How long to show records (5).")
@click.option("--no-activity", is_flag=True,
              help="Show only what happens anyway, without a small process that keeps a quiet machine busy.")
def command(seconds: float, no_activity: bool) -> int:
    """Open, load and attach an object with custom sections, and show what its programs see."""
    from .. import demo

    return demo.run(seconds, activity=not no_activity)
