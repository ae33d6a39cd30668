"""How contestants are timed against each other, and what is made of it.

In each round every contestant runs once, in an order that is drawn anew, so that what else the machine does hits all
alike. A contestant times itself, checks outside of that what it did, and returns nanoseconds by phase: CPU time of the
thread, kernel side included, or wall time where several threads work or where the kernel sleeps. Ratios are of the
minima, and of the rounds one by one.
"""
from __future__ import annotations

import gc
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional, Sequence

Times = Mapping[str, int]
PAUSE = 0.01  # seconds between contestants: the kernel frees what the last one closed


class Clock:
    """Stands still but for what is measured: with it pytest-benchmark times one contestant within a round."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Row:
    """One line of results: some phases of all contestants, as time per item."""

    name: str
    phases: Sequence[str]
    items: int
    unit: str = "ns"
    against: str = "C"
    # What we aim for: a ratio, or with `unit` an absolute time.
    ratios: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    # A contestant's own reference where it is not `against`.
    references: Mapping[str, str] = field(default_factory=dict)
    # Whose time is taken off from all others.
    over: Optional[str] = None
    # What the contestants measure: "CPU" or "wall" time.
    clock: str = "CPU"


UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "MiB": 1.0, "count": 1.0}


@dataclass
class Result:
    """What one row of one benchmark came to; all figures are per item, in `unit`."""

    benchmark: str
    row: str
    unit: str
    contestant: str
    minimum: float
    median: float
    quartiles: tuple[float, float]
    rounds: int
    reference: Optional[str] = None
    ratio: Optional[float] = None
    ratio_median: Optional[float] = None
    ratio_quartiles: Optional[tuple[float, float]] = None
    target: Optional[str] = None
    met: Optional[str] = None
    clock: str = "CPU"


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def verdict(best: float, typical: float, wanted: float) -> str:
    """Whether both the minima and the middle of the rounds say so."""
    return {0: "NO", 1: "nearly", 2: "yes"}[(best <= wanted) + (typical <= wanted)]


def run_round(
    contestants: Mapping[str, Callable[[], Times]], samples: dict[str, list[Times]], draw: random.Random
) -> None:
    order = list(contestants)
    draw.shuffle(order)
    for name in order:
        gc.collect()
        time.sleep(PAUSE)
        gc.disable()
        try:
            times = contestants[name]()
        finally:
            gc.enable()
        samples[name].append(times)


def evaluate(benchmark: str, rows: Sequence[Row], samples: Mapping[str, Sequence[Times]]) -> list[Result]:
    results = []
    for row in rows:
        scale = row.items * UNITS[row.unit]
        values = {
            name: [sum(times[phase] for phase in row.phases) / scale for times in rounds]
            for name, rounds in samples.items()
            if all(phase in rounds[0] for phase in row.phases)
        }
        for name, own in values.items():
            best, typical = min(own), statistics.median(own)
            result = Result(benchmark, row.name, row.unit, name, best, typical, quartiles(own), len(own), clock=row.clock)
            reference = row.references.get(name, row.against)
            if reference in values and name != reference:
                ratios = [mine / theirs for mine, theirs in zip(own, values[reference])]
                result.reference = reference
                result.ratio = min(own) / min(values[reference])
                result.ratio_median = statistics.median(ratios)
                result.ratio_quartiles = quartiles(ratios)
            if row.over in values and name != row.over:
                result.minimum -= min(values[row.over])
                result.median -= statistics.median(values[row.over])
            if name in row.ratios and result.ratio is not None and result.ratio_median is not None:
                result.target = f"≤ {row.ratios[name]:g} × {reference}"
                result.met = verdict(result.ratio, result.ratio_median, row.ratios[name])
            if name in row.limits:
                result.target = f"≤ {row.limits[name]:g} {row.unit}"
                result.met = verdict(result.minimum, result.median, row.limits[name])
            results.append(result)
    return results
