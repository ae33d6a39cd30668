"""pylbpf verify"""
from __future__ import annotations

import contextlib
import functools
import os
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional

import click

from ..verify import VerifyComparison, VerifyReport, VerifyResult
from . import _filter, _screen

if TYPE_CHECKING:
    from ..program import Program

# What the table shows: title and field.
COLUMNS = (
    ("object", "object"), ("program", "program"), ("verdict", "verdict"), ("insns", "insns_processed"),
    ("states", "total_states"), ("peak", "peak_states"), ("stack", "stack_depth"), ("size", "insn_count"),
    ("jited", "jited_size"), ("ms", "seconds"), ("reason", "reason"),
)
STYLES = {
    "accepted": "green", "rejected": "red", "failed": "yellow", "refused": "yellow", "better": "green", "worse": "red",
}


def read_filters(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Callable[[Any], bool]:
    try:
        return _filter.parse(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def read_report(context: click.Context, parameter: click.Parameter, path: Optional[str]) -> Optional[VerifyReport]:
    if path is None:
        return None
    try:
        return VerifyReport.from_json(path) if path.endswith(".json") else VerifyReport.from_csv(path)
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path}: {error}") from None


def check_number(context: click.Context, parameter: click.Parameter, number: float) -> float:
    if number != number:
        raise click.BadParameter("nan is not a number")
    return number


def check_paths(context: click.Context, parameter: click.Parameter, paths: tuple[str, ...]) -> tuple[str, ...]:
    if "" in paths:
        raise click.BadParameter("a path is empty")
    return paths


def check_folder(context: click.Context, parameter: click.Parameter, path: Optional[str]) -> Optional[str]:
    """What cannot be written is told before hours of work, not after them."""
    folder = os.path.dirname(path or "") or "."
    if path not in (None, "-") and not os.path.exists(path or "") and not os.access(folder, os.W_OK):
        raise click.BadParameter(f"{path}: cannot write to {folder}")
    return path


@click.command(short_help="What the kernel's verifier says of each program of many objects.")
@click.argument("paths", nargs=-1, required=True, callback=check_paths, metavar="DIR|FILE...")
@click.option("-j", "--jobs", type=click.IntRange(1, 1024), metavar="N", help="Threads; one for each usable CPU.")
@click.option("-p", "--programs", multiple=True, metavar="GLOB", help="Only programs of such names.")
@click.option("-f", "--filter", "wanted", multiple=True, callback=read_filters, metavar="EXPR",
              help="Show only programs of which this is true: FIELD=GLOB, FIELD!=GLOB, FIELD>NUMBER (or <, >=, <=), "
                   "or a GLOB for the name of the object or program. Several must all be true.")
@click.option("-s", "--sort", type=click.Choice(_filter.FIELDS), metavar="FIELD",
              help="Numbers largest first, names in order.")
@click.option("--csv", type=click.Path(dir_okay=False, writable=True, allow_dash=True), callback=check_folder, metavar="FILE",
              help="Write all that was found, without logs; - for standard output, instead of the table.")
@click.option("--json", type=click.Path(dir_okay=False, writable=True, allow_dash=True), callback=check_folder, metavar="FILE",
              help="Likewise, with logs.")
@click.option("-c", "--compare", "before", type=click.Path(), callback=read_report, metavar="FILE",
              help="Show what is worse and better than in an earlier FILE of --csv, or .json of --json.")
@click.option("--threshold", type=click.FloatRange(0), default=0, callback=check_number, metavar="PERCENT",
              help="What differs by no more is the same (0).")
@click.option("--fail-on", multiple=True, type=click.Choice(["rejected", "failed", "refused", "worse"]),
              help="Exit with status 1 if there is one; may be given several times.")
@click.option("--log-level", type=click.IntRange(0, 2), default=1, metavar="N",
              help="Logs, for --json: 0 statistics only, 1 the way to a failure (1), 2 all ways of all programs.")
@click.option("-q", "--quiet", is_flag=True, help="No table, only the summary.")
def command(
    paths: tuple[str, ...], jobs: Optional[int], programs: tuple[str, ...], wanted: Callable[[Any], bool],
    sort: Optional[str], csv: Optional[str], json: Optional[str], before: Optional[VerifyReport], threshold: float,
    fail_on: tuple[str, ...], log_level: int, quiet: bool,
) -> int:
    """Load every program by itself, and show what the kernel's verifier says of it. Nothing stays loaded.

    Of a folder, every *.o below it is taken. The exit status is 0 whatever the verdicts are, 1 if there is something
    that --fail-on names, 2 for wrong use, and 130 after Ctrl-C, when what was found so far is shown.
    """
    if "worse" in fail_on and before is None:
        raise click.UsageError("--fail-on worse needs --compare")
    if csv == json == "-":
        raise click.UsageError("--csv and --json cannot both go to standard output")
    report, interrupted = verify(list(paths), jobs, programs, log_level)
    if not report and not interrupted:
        raise click.UsageError("no program was found")
    shown = sorted(filter(wanted, report), key=_filter.order(sort)) if sort else list(filter(wanted, report))
    quiet = quiet or "-" in (csv, json)
    for path, write in ((csv, report.to_csv), (json, report.to_json)):
        if path == "-":
            click.echo(write(), nl=False)
        elif path is not None:
            write(path)
    if not quiet:
        show_results(shown)
    comparison = None if before is None else report.compare(before, threshold=threshold / 100)
    if comparison and not quiet:
        show_changes(comparison)
    summary(report, comparison, interrupted)
    if interrupted:
        return 130
    worse = "worse" in fail_on and comparison is not None and comparison.worse
    return 1 if worse or any(result.verdict in fail_on for result in report) else 0


def verify(
    paths: list[str], jobs: Optional[int], programs: tuple[str, ...], log_level: int
) -> tuple[VerifyReport, bool]:
    """The report, and whether it was interrupted."""
    from ..verify import verify_many

    select = functools.partial(matches, programs) if programs else None
    with progress_bar() as on_progress:
        try:
            return verify_many(paths, threads=jobs, select=select, on_progress=on_progress, log_level=log_level), False
        except KeyboardInterrupt as interrupt:
            return getattr(interrupt, "report", VerifyReport()), True


def matches(globs: tuple[str, ...], program: Program) -> bool:
    return any(fnmatchcase(program.name, glob) for glob in globs)


@contextlib.contextmanager
def progress_bar() -> Iterator[Optional[Callable[[int, int, VerifyResult], None]]]:
    console = _screen.console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    last = TextColumn("{task.fields[last]}", markup=False)
    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), last, console=console,
                  transient=True) as progress:
        task = progress.add_task("", total=None, last="")

        def on_progress(done: int, total: int, result: VerifyResult) -> None:
            name = _screen.printable(f"{result.object} {result.program}")
            progress.update(task, completed=done, total=total, last=name)

        yield on_progress


def show_results(results: list[VerifyResult]) -> None:
    rows = [[value_of(result, field) for _, field in COLUMNS] for result in results]
    _screen.table([title for title, _ in COLUMNS], rows, STYLES)


def value_of(result: VerifyResult, field: str) -> Any:
    return round(result.seconds * 1e3, 2) if field == "seconds" else getattr(result, field)


def show_changes(changes: VerifyComparison) -> None:
    rows = [
        [each.change, each.object, each.program, each.field, each.before, each.after,
         "" if each.ratio is None else f"{each.ratio - 1:+.1%}"] for each in changes
    ]
    _screen.line("")
    _screen.table(["change", "object", "program", "field", "before", "after", "by"], rows, STYLES)


def summary(report: VerifyReport, comparison: Optional[VerifyComparison], interrupted: bool) -> None:
    """On standard error, so that what goes into a pipe is all table."""
    from ..demo import rights

    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.verdicts().items()) or "nothing was verified"
    _screen.line(f"{'interrupted: ' if interrupted else ''}{counts}, {report.seconds:.2f} s", stderr=True)
    if comparison is not None:
        changes = {kind: len(getattr(comparison, kind)) for kind in ("worse", "better", "appeared", "vanished")}
        told = ", ".join(f"{count} {kind}" for kind, count in changes.items() if count)
        _screen.line(f"compared: {told or 'no difference'}", stderr=True)
    if rights.missing() and any(result.verdict == "failed" and result.errno in (1, 13) for result in report):
        for line in rights.explain():
            _screen.line(line, stderr=True)
