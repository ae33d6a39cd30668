"""--outcomes=FILE: what became of each test, for tools/matrix.py; --part=I/N: some of the tests."""
from __future__ import annotations

import collections
import json
import os
import platform
import time
from pathlib import Path
from typing import Union

import pytest

import expectations
import pylbpf

RANK = ("passed", "skipped", "failed")


class Outcomes:
    def __init__(self, path: Path) -> None:
        self.path, self.begin = path, time.monotonic()
        self.tests: dict[str, tuple[str, str]] = {}

    def note(self, name: str, outcome: str, reason: str = "") -> None:
        if RANK.index(outcome) >= RANK.index(self.tests.get(name, (RANK[0],))[0]):
            self.tests[name] = outcome, reason

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.take(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self.take(report)

    def take(self, report: Union[pytest.TestReport, pytest.CollectReport]) -> None:
        if hasattr(report, "wasxfail"):
            self.note(report.nodeid, "passed")
        elif report.skipped and isinstance(report.longrepr, tuple):
            self.note(report.nodeid, "skipped", expectations.capability_of(report.longrepr[2]))
        elif report.failed or report.when == "call":
            self.note(report.nodeid, report.outcome)

    def pytest_sessionfinish(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({
            "kernel": os.uname().release, "python": platform.python_version(), "libbpf": pylbpf.libbpf_version_string(),
            "seconds": round(time.monotonic() - self.begin), "tests": self.tests}))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, metavar="FILE", help="write what became of each test to FILE, as JSON")
    parser.addoption("--libbpf-calls", type=Path, metavar="FILE", help="write which functions of libbpf each test calls to FILE")
    parser.addoption("--part", metavar="I/N", help="run the I-th of N parts; a file is in one of them as a whole")


def pytest_configure(config: pytest.Config) -> None:
    path, part = config.getoption("--outcomes"), config.getoption("--part")
    if path and part:
        path = path.with_suffix(f".{part.partition('/')[0]}{path.suffix}")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(path))
    if calls := config.getoption("--libbpf-calls"):
        from calls import Calls
        config.pluginmanager.register(Calls(calls))


def part_of(items: list[pytest.Item], part: str) -> list[pytest.Item]:
    """Whole files, in parts with about as many tests."""
    number, parts = map(int, part.split("/"))
    sizes = collections.Counter(item.path for item in items)
    loads, chosen = [0] * parts, set()
    for path, size in sorted(sizes.items(), key=lambda each: (-each[1], each[0])):
        least = loads.index(min(loads))
        loads[least] += size
        if least == number - 1:
            chosen.add(path)
    return [item for item in items if item.path in chosen]
