"""`python -m pylbpf`, and the command `pylbpf`."""
from __future__ import annotations

import argparse
import sys
from typing import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="pylbpf", description="Work with BPF objects from the command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo", help="custom sections at work on this kernel",
        description="Open, load and attach an object with custom sections, and show what its programs see.",
    )
    demo.add_argument("--seconds", type=positive, default=5.0, metavar="N", help="how long to show records (5)")
    demo.add_argument("--no-activity", dest="activity", action="store_false",
                      help="show only what happens anyway, without a small process that keeps a quiet machine busy")
    arguments = parser.parse_args(argv)

    from . import demo as room

    try:
        return room.run(arguments.seconds, activity=arguments.activity)
    except KeyboardInterrupt:
        return 130


def positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return number


if __name__ == "__main__":
    sys.exit(main())
