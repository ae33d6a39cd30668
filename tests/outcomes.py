"""--outcomes=FILE: what became of each test, for tools/matrix.py; --share=FOLDER: the tests are shared out among several runs."""
from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Optional, Union

import pytest

import expectations
import pylbpf

RANK = ("passed", "skipped", "failed")
SECONDS = 30    # between writings: a machine that dies takes no more along


class Outcomes:
    def __init__(self, path: Path) -> None:
        self.path, self.begin = path, time.monotonic()
        self.written = self.begin
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
        elif report.failed:
            self.note(report.nodeid, "failed", failure(report.longreprtext))
        elif report.when == "call":
            self.note(report.nodeid, "passed")
        if time.monotonic() - self.written > SECONDS:
            self.write(ended=False)

    def pytest_sessionfinish(self) -> None:
        self.write(ended=True)

    def write(self, ended: bool) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.written = time.monotonic()
        self.path.write_text(json.dumps({
            "kernel": os.uname().release, "python": platform.python_version(), "libbpf": pylbpf.libbpf_version_string(),
            "seconds": round(self.written - self.begin), "ended": ended, "tests": self.tests}))


def failure(text: str) -> str:
    """The line of a traceback that says what was wrong."""
    lines = text.splitlines() or [""]
    return next((line for line in lines if line.startswith("E  ")), lines[-1]).lstrip("E ")[:200]


class Share:
    """Runs take file after file, each the next that none of them has taken: which ones they have is seen in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours: dict[Path, bool] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, path: Path) -> bool:
        if path not in self.ours:
            try:
                (self.folder / path.name).mkdir()
                self.ours[path] = True
            except FileExistsError:
                self.ours[path] = False
        return self.ours[path]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Optional[bool]:
        return None if self.take(item.path) else True


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, metavar="FILE", help="write what became of each test to FILE, as JSON")
    parser.addoption("--libbpf-calls", type=Path, metavar="FILE", help="write which functions of libbpf each test calls to FILE")
    parser.addoption("--share", type=Path, metavar="FOLDER", help="run the files that no other run with this FOLDER has taken")


def pytest_configure(config: pytest.Config) -> None:
    if (path := config.getoption("--outcomes")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(path))
    if folder := config.getoption("--share"):
        config.pluginmanager.register(Share(folder))
    if calls := config.getoption("--libbpf-calls"):
        from calls import Calls
        config.pluginmanager.register(Calls(calls))
