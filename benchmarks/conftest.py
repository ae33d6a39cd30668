"""Makes what the benchmarks share, and shows what came out: one table of ratios, and a JSON file in build/bench."""
from __future__ import annotations

import dataclasses
import gc
import json
import random
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Iterator, List, Mapping, Sequence

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import chart  # noqa: E402
import compare  # noqa: E402
import kernel  # noqa: E402
import machine  # noqa: E402
import objects  # noqa: E402
import peer_others  # noqa: E402
import race as racing  # noqa: E402
from floor import BUILD, Floor  # noqa: E402
from floor_batch import BatchFloor  # noqa: E402

ROUNDS = 40
RESULTS: list[racing.Result] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pylbpf")
    group.addoption("--rounds", type=int, help=f"rounds of each race (default {ROUNDS}, for imports half)")
    group.addoption("--compare", type=Path, metavar="JSON", help="results of an earlier run, as written to build/bench")
    group.addoption("--fail-on-regression", action="store_true", help="with --compare: fail if anything got worse")
    group.addoption("--smoke", action="store_true", help="two rounds of each: whether it works, not how fast")


@pytest.fixture(scope="session")
def floor() -> Floor:
    return Floor()


@pytest.fixture(scope="session")
def batch_floor() -> BatchFloor:
    return BatchFloor()


@pytest.fixture(scope="session")
def size(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """size(1000, 10): how many, in earnest and in a smoke test."""
    smoke = request.config.getoption("smoke")
    return lambda full, small: small if smoke else full


@pytest.fixture(scope="session")
def bpf() -> None:
    reason = kernel.no_bpf()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def many() -> Callable[..., Path]:
    """many(n, sections, ...): the file of an object of n programs, see tests/objects.py."""

    def make(n: int, sections: str = "many/{i}", **options: Any) -> Path:
        return objects.build(objects.many(n, sections, **options), "many")

    return make


@pytest.fixture
def race(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., list[racing.Result]]:
    """race(contestants, rows): some rounds of all, into the table; pytest-benchmark gets the first row of `timed`."""

    def run(
        contestants: Mapping[str, Callable[[], racing.Times]],
        rows: Sequence[racing.Row],
        *,
        timed: str = "pylbpf",
        share: float = 1.0,
    ) -> list[racing.Result]:
        samples: dict[str, list[racing.Times]] = {name: [] for name in contestants}
        draw = random.Random(1)
        clock = racing.Clock()
        first = rows[0]

        def one_round() -> None:
            racing.run_round(contestants, samples, draw)
            clock.seconds += sum(samples[timed][-1][phase] for phase in first.phases) / first.items / 1e9

        rounds = request.config.getoption("rounds") or max(3, int(ROUNDS * share))
        if request.config.getoption("smoke"):
            rounds = 2
        gc.freeze()  # pytest's own objects are none of the collector's business here
        racing.run_round(contestants, {name: [] for name in contestants}, draw)  # one to warm up
        benchmark._timer = clock
        benchmark.pedantic(one_round, rounds=rounds, iterations=1)
        name = request.node.name.replace("test_", "", 1)
        results = racing.evaluate(name, rows, samples)
        RESULTS.extend(results)
        benchmark.extra_info.update(results=[dataclasses.asdict(result) for result in results])
        return results

    return run


# ---------------------------------------------------------------- the table


def pytest_report_header() -> list[str]:
    return [f"{key}: {value}" for key, value in machine.describe().items()]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not RESULTS:
        return
    from rich.console import Console

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 150)
    console.print(table(RESULTS))
    if absent := peer_others.missing():
        console.print(f"Not compared with: {absent}", markup=False)
    if config.stash.get(CHANGES, None) is not None:
        console.print(compare.table(config.stash[CHANGES], f"Compared with {config.getoption('compare')}"))
    folder = BUILD / ("smoke" if config.getoption("smoke") else time.strftime("%Y%m%d-%H%M%S"))
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"machine": machine.describe(), "results": [dataclasses.asdict(result) for result in RESULTS]}
    (folder / "results.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    if config.getoption("smoke"):
        changes = compare.compare(compare.load(folder / "results.json"), RESULTS)
        console.print(compare.table(changes, "Compared with itself"))
    charts = f"{len(chart.write(RESULTS, folder))} charts" if find_spec("matplotlib") else "no charts, for want of matplotlib"
    terminalreporter.write_line(f"written: {folder}/results.json and {charts}")


CHANGES = pytest.StashKey[List[compare.Change]]()


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("fail_on_regression") and not config.getoption("compare"):
        raise pytest.UsageError("--fail-on-regression needs --compare")
    if config.getoption("compare"):
        compare.load(config.getoption("compare"))       # to complain now, not after minutes


def pytest_sessionfinish(session: pytest.Session) -> None:
    earlier = session.config.getoption("compare")
    if not earlier or not RESULTS:
        return
    chosen = {result.benchmark for result in RESULTS}
    changes = compare.compare([result for result in compare.load(earlier) if result.benchmark in chosen], RESULTS)
    session.config.stash[CHANGES] = changes
    if session.config.getoption("fail_on_regression") and any(change.verdict == "worse" for change in changes):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def table(results: Sequence[racing.Result]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="CPU time per item, or wall time where it says so. Ratio: of the minima, and the middle half of"
                        " the rounds")
    for column in ("benchmark", "what", "who"):
        table.add_column(column)
    for column in ("min", "median", "ratio", "rounds' ratios", "target", ""):
        table.add_column(column, justify="right")
    before = ("", "")
    for result in results:
        place = result.benchmark, result.row
        if place != before and before[0]:
            table.add_section()
        ratios = ""
        if result.ratio_quartiles is not None and result.ratio_median is not None:
            ratios = f"{result.ratio_median:.3g} ({result.ratio_quartiles[0]:.3g}–{result.ratio_quartiles[1]:.3g})"
        table.add_row(
            Text(result.benchmark if place[0] != before[0] else ""),
            (result.row if result.clock == "CPU" else f"{result.row} ({result.clock})") if place != before else "",
            result.contestant,
            f"{number(result.minimum)} {result.unit}",
            number(result.median),
            "" if result.ratio is None else f"{result.ratio:.3f}",
            ratios,
            result.target or "",
            result.met or "",
        )
        before = place
    return table


@pytest.fixture(scope="session", autouse=True)
def one_libbpf(floor: Floor) -> Iterator[None]:
    """All contestants must run on the same libbpf."""
    import peer_ctypes  # noqa: F401
    import pylbpf  # noqa: F401

    with open("/proc/self/maps") as maps:
        loaded = {line.split(maxsplit=5)[5].strip() for line in maps if "libbpf.so" in line}
    assert loaded == {floor.libbpf}
    yield
