"""Results as bar charts: one SVG for each group, ratios to the reference, with the target as a line.

A group is a benchmark with all its parameters: "open[1-one-file]" and "open[1-one-memory]" are in one picture.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from race import Result

COLORS = {"pylbpf": "#2a6fbb", "ctypes": "#d98a2b"}
OTHER = "#8a8f98"
REFERENCE = "#5c6370"


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """A file for each group that has a ratio to show."""
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.ratio is not None:
            groups.setdefault(result.benchmark.partition("[")[0], []).append(result)
    return [draw(name, group, folder / f"{file_name(name)}.svg") for name, group in groups.items()]


def file_name(group: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in group).strip("-")


def draw(group: str, results: Sequence[Result], path: Path) -> Path:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "pylbpf", "font.size": 9}):
        figure = Figure(figsize=(8, 1.1 + 0.34 * len(results)), layout="constrained")
        axes = figure.subplots()
        widest = max(max(result.ratio or 0, wanted(result) or 0, *(result.ratio_quartiles or ())) for result in results)
        logarithmic = widest > 20
        if logarithmic:
            axes.set_xscale("log")
        for place, result in enumerate(results):
            assert result.ratio is not None
            axes.barh(place, result.ratio, height=0.62, color=color(result), zorder=2)
            spread(axes, place, result)
            if (target := wanted(result)) is not None:
                axes.plot([target, target], [place - 0.42, place + 0.42], color="#b3261e", linewidth=1.6, zorder=4)
            end = max(result.ratio, *(result.ratio_quartiles or (0,)))
            axes.annotate(f"{result.ratio:.3g}", (end, place), (4, 0), textcoords="offset points", va="center", zorder=5,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        axes.axvline(1, color=REFERENCE, linewidth=1, zorder=3)
        axes.set_yticks(range(len(results)), [label(result) for result in results])
        axes.set_ylim(len(results) - 0.4, -0.6)
        axes.set_xlim(right=widest * (2 if logarithmic else 1.15), **({} if logarithmic else {"left": 0}))
        against = sorted({result.reference or "" for result in results})
        clocks = sorted({result.clock for result in results})
        axes.set_xlabel(f"{' and '.join(clocks)} time, {' or '.join(against)} = 1; red: target; thin: middle half of the rounds")
        axes.set_title(group.replace("_", " "), loc="left", fontweight="bold")
        axes.grid(axis="x", color="#e3e5e8", zorder=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.savefig(path, metadata={"Date": None})
    return path


def color(result: Result) -> str:
    """By the first word: "pylbpf, 2 threads" is pylbpf."""
    return COLORS.get(result.contestant.replace(",", " ").split()[0], OTHER)


def label(result: Result) -> str:
    parameters = result.benchmark.partition("[")[2].rstrip("]")
    return f"{parameters}  {result.row}  {result.contestant}".strip()


def wanted(result: Result) -> float | None:
    """The target as a ratio, if it is one."""
    words = (result.target or "").split()
    return float(words[1]) if "×" in words else None


def spread(axes: Any, place: int, result: Result) -> None:
    if result.ratio_quartiles is not None:
        axes.plot(result.ratio_quartiles, [place, place], color="#1f2328", linewidth=1, zorder=4)
