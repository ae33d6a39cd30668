"""Two runs side by side: what got better or worse by more than the rounds differ among themselves."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

from race import Result


@dataclass
class Change:
    """One figure, then and now: ratios to the reference where there are such, else times."""

    benchmark: str
    row: str
    contestant: str
    then: Optional[float]
    now: Optional[float]
    unit: str
    verdict: str    # "same", "better", "worse", "new", "gone"

    @property
    def factor(self) -> Optional[float]:
        return self.now / self.then if self.then and self.now is not None else None


def load(path: Path) -> list[Result]:
    try:
        stored = json.loads(path.read_text())
        return [Result(**result) for result in stored["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} is no result of an earlier run: {error}") from None


def figure(result: Result) -> tuple[float, tuple[float, float], str]:
    """What is compared, its middle half, and the unit. Ratios do not depend on how busy the machine was."""
    if result.ratio_median is not None and result.ratio_quartiles is not None:
        return result.ratio_median, tuple(result.ratio_quartiles), f"× {result.reference}"  # type: ignore[return-value]
    return result.median, tuple(result.quartiles), result.unit  # type: ignore[return-value]


def compare(then: Sequence[Result], now: Sequence[Result]) -> list[Change]:
    """Contestants that are a reference themselves say nothing but of the machine; they are left out."""
    def by_name(results: Sequence[Result]) -> dict[tuple[str, str, str], Result]:
        references = {(result.benchmark, result.row, result.reference) for result in results}
        return {key: result for result in results
                if (key := (result.benchmark, result.row, result.contestant)) not in references}

    before, after = by_name(then), by_name(now)
    changes = []
    for key in [*after, *(key for key in before if key not in after)]:
        old, new = before.get(key), after.get(key)
        changes.append(Change(*key, old and figure(old)[0], new and figure(new)[0],  # type: ignore[arg-type]
                              figure(new or old)[2], judge(old, new)))  # type: ignore[arg-type]
    return changes


def judge(old: Optional[Result], new: Optional[Result]) -> str:
    if old is None or new is None:
        return "new" if old is None else "gone"
    (typical_old, spread_old, unit_old), (typical_new, spread_new, unit_new) = figure(old), figure(new)
    if unit_old != unit_new:
        return "new"
    if spread_new[0] > spread_old[1] and typical_new > 1.02 * typical_old:
        return "worse"
    if spread_new[1] < spread_old[0] and typical_old > 1.02 * typical_new:
        return "better"
    return "same"


def table(changes: Sequence[Change], title: str) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for column in ("benchmark", "what", "who"):
        table.add_column(column)
    for column in ("then", "now", "", "change", ""):
        table.add_column(column, justify="right")
    for change in changes:
        table.add_row(
            change.benchmark, change.row, change.contestant,
            *("" if value is None else f"{value:.3g}" for value in (change.then, change.now)), change.unit,
            "" if change.factor is None else f"{100 * (change.factor - 1):+.1f} %",
            {"same": "", "worse": "[bold red]worse", "better": "[green]better"}.get(change.verdict, change.verdict),
        )
    return table
