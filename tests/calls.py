"""--libbpf-calls=FILE: which functions of libbpf each test calls, for tools/libbpf_calls.py.

Counted by uprobes of our own on the libbpf that is loaded, in this process only: what children do is not seen. Calls of
libbpf into itself do not count.
"""
from __future__ import annotations

import collections
import json
import os
import platform
from pathlib import Path
from typing import Generator

import pytest

import objects
import pylbpf

import libbpf_calls  # in tools/, where objects has shown the way

def loaded_libbpf() -> tuple[str, int, int]:
    """Path of the libbpf in use, where its code begins in this process, and how long it is."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/libbpf.so" in line and " r-xp " in line:
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            return line.split(maxsplit=5)[5], begin, end - begin
    raise pytest.UsageError("--libbpf-calls: no shared libbpf is loaded")


class Calls:
    """A plugin that watches from its making to the end of the session."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, list[str]] = {}
        self.failed: set[str] = set()
        self.names: list[str] = []
        library, begin, size = loaded_libbpf()
        self.object = pylbpf.open(objects.build(objects.SOURCES / "calls.bpf.c"))
        self.object.globals.code_begin, self.object.globals.code_size = begin, size
        self.object.load()
        self.links = []
        for name in libbpf_calls.functions():
            try:
                self.links.append(self.object.programs["call"].attach_uprobe(
                    library, function=name, pid=os.getpid(), cookie=len(self.names)))
            except OSError:
                continue        # newer than this libbpf, or not exported
            self.names.append(name)
        self.called = self.object.globals.called

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.called[:] = 0
        result = yield
        self.tests[item.nodeid] = [self.names[at] for at in self.called.nonzero()[0]]
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        pylbpf.detach_many(self.links)
        merged: dict[str, set[str]] = collections.defaultdict(set)
        for test, names in self.tests.items():
            if test not in self.failed:
                merged[test.partition("[")[0]].update(names)
        self.path.write_text(json.dumps({
            "kernel": ".".join(os.uname().release.split(".")[:2]).partition("-")[0],
            "libbpf": ".".join(map(str, pylbpf.libbpf_version()[:2])), "python": platform.python_version(),
            "tests": {test: sorted(names) for test, names in merged.items()}}))
