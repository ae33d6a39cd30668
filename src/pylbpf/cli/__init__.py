"""The command line: each module here is a command of its name, its function `command`, imported when it is used."""
from __future__ import annotations

import importlib
import io
import pkgutil
import sys
from typing import Optional, Sequence

import click

from ..errors import BpfError


class Commands(click.Group):
    """The commands that are there."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))

    def get_command(self, context: click.Context, name: str) -> Optional[click.Command]:
        if name not in self.list_commands(context):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{name}").command
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Work with BPF objects from the command line."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; return the exit status: its own, 2 for wrong use, 1 for what failed, 130 after Ctrl-C."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")   # names may have what the encoding has not
    try:
        status = commands.main(arguments, "pylbpf", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except (BpfError, OSError, ImportError) as error:
        print(f"pylbpf: {error}", file=sys.stderr)
        return 1
    return status if isinstance(status, int) else 0
