"""Tables for people: coloured and fitted to a terminal, plain and whole elsewhere."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 100_000


def console(*, stderr: bool = False) -> Console:
    shown = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not shown.is_terminal:
        shown = Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=WIDE)
    return shown


def printable(text: str) -> str:
    """What a terminal would obey is escaped."""
    return "".join(each if each.isprintable() else escaped(each) for each in text)


def escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def line(text: str, *, stderr: bool = False) -> None:
    console(stderr=stderr).print(Text(printable(text)))


def table(titles: Sequence[str], rows: Sequence[Sequence[Any]], styles: Mapping[str, str]) -> None:
    """Numbers to the right; on a terminal the last column gives way to the others."""
    shown = console()
    grid = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for at, title in enumerate(titles):
        numbers = any(isinstance(row[at], (int, float)) for row in rows)
        grid.add_column(title, justify="right" if numbers else "left", no_wrap=True, overflow="ellipsis",
                        min_width=None if at == len(titles) - 1 else min(16, width(title, rows, at)))
    for row in rows:
        grid.add_row(*(Text(cell(value), styles.get(value, "") if isinstance(value, str) else "") for value in row))
    if shown.is_terminal:
        shown.print(grid)
    else:
        with shown.capture() as plain:
            shown.print(grid)
        shown.print(Text("\n".join(row.rstrip() for row in plain.get().splitlines())))


def cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, (int, float)) else printable(str(value))


def width(title: str, rows: Sequence[Sequence[Any]], at: int) -> int:
    return max([len(title), *(len(cell(row[at])) for row in rows)])
