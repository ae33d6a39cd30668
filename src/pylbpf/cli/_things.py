"""What the commands prog, map, link and btf share: a list and one of it, as a table or as JSON."""
from __future__ import annotations

import enum
import json
from typing import Any, Callable, Mapping, Sequence

import click

from . import _screen

Row = Mapping[str, Any]


def group(name: str, several: str, rows: Callable[[], Sequence[Row]], details: Callable[[int], Row]) -> click.Group:
    """A command with the commands list and show."""

    @click.group(name, short_help=f"{several.capitalize()} that the kernel holds.",
                 context_settings={"help_option_names": ["-h", "--help"]})
    def command() -> None:
        pass

    command.__doc__ = command.help = f"{several.capitalize()} that the kernel holds, whoever put them there."

    @command.command("list", short_help=f"All {several}.")
    @click.option("--json", "as_json", is_flag=True, help="As JSON, numbers and all.")
    def list_all(as_json: bool) -> int:
        found = rows()
        if as_json:
            write_json(found)
        elif found:
            _screen.table(list(found[0]), [[shown(value) for value in row.values()] for row in found], {})
        return 0

    @command.command("show", short_help="One of them, with all that is known of it.")
    @click.argument("id", type=click.IntRange(1, 0xFFFFFFFF))
    @click.option("--json", "as_json", is_flag=True, help="As JSON.")
    def show(id: int, as_json: bool) -> int:
        found = details(id)
        if as_json:
            write_json(found)
        else:
            _screen.table(["what", "value"], [[key, shown(value)] for key, value in found.items()], {})
        return 0

    list_all.help = f"List all {several}."
    show.help = f"Show one of the {several}, by its number."
    return command


def shown(value: Any) -> Any:
    """For people: numbers that are names stay plain."""
    if isinstance(value, enum.Flag):
        return "|".join(member.name or "" for member in type(value) if member.value and member in value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(shown(each)) for each in value)
    if isinstance(value, int):
        return str(value)
    return value


def write_json(value: Any) -> None:
    click.echo(json.dumps(value, default=lambda each: each.name if isinstance(each, enum.Enum) else str(each), indent=2))


def fields(info: Any, *names: str) -> dict[str, Any]:
    found = {}
    for name in names:
        value = getattr(info, name)
        found[name] = value.name if isinstance(value, enum.IntEnum) else value
    return found


def holders(kind: str, owners: Mapping[tuple[str, int], Sequence[Any]], id: int) -> list[str]:
    return [f"{owner.name} ({owner.pid})" for owner in owners.get((kind, id), ())]
