"""pylbpf features"""
from __future__ import annotations

import click

from . import _screen, _things

WORDS = {True: "yes", False: "no", None: "?"}


@click.command(short_help="What this kernel can do.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--missing", is_flag=True, help="Only what it cannot.")
def command(as_json: bool, missing: bool) -> int:
    """Try which types of programs, maps and links, and which instructions the kernel has; "?" is what cannot be tried."""
    from .. import features

    found = {kind: {getattr(member, "name", member): has for member, has in members.items() if not (missing and has)}
             for kind, members in features.all().items()}
    if as_json:
        _things.write_json(found)
    else:
        _screen.table(["what", "type", "there"],
                      [[kind[:-1].replace("_", " "), name, WORDS[has]] for kind, members in found.items()
                       for name, has in members.items()], {"no": "red", "yes": "green"})
    return 0
