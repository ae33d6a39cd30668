"""Tests on several machines: shared out, counted, and none of attaching that ran nowhere."""
from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

import objects
from hooks import KINDS
from outcomes import Share

if not (objects.ROOT / "tools/matrix.py").exists():
    pytest.skip("checkout: these tests are about its tools", allow_module_level=True)
sys.path.insert(0, str(objects.ROOT / "tools"))
import matrix  # noqa: E402

pytestmark = pytest.mark.no_c


def machine(**tests: tuple[str, str]) -> dict[str, object]:
    return {"kernel": "6.12.1", "python": "3.13", "libbpf": "v1.5", "seconds": 90,
            "tests": {f"tests/test_every_kind.py::{name}": outcome for name, outcome in tests.items()}}


def test_each_file_is_taken_by_one_run(tmp_path):
    runs = [Share(tmp_path / "taken") for _ in range(3)]
    files = [Path(f"test_{name}.py") for name in "abcdef"]
    taken = [[run.take(file) for run in (*runs[at % 3:], *runs[:at % 3])] for at, file in enumerate(files)]
    assert taken == [[True, False, False]] * len(files)
    assert [sum(map(run.take, files)) for run in runs] == [2, 2, 2], "what is taken is kept"


def test_what_was_run_again_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "folder_of", lambda machine: tmp_path)
    for at, (name, outcomes) in enumerate((("outcomes.2", "failed passed"), ("outcomes", "passed"))):
        tests = {f"test_{number}": (outcome, "") for number, outcome in enumerate(outcomes.split())}
        (tmp_path / f"{name}.json").write_text(json.dumps({**machine(), "tests": tests, "ended": True}))
        os.utime(tmp_path / f"{name}.json", (at, at))
    assert matrix.result("sid", 0)["tests"] == {"test_0": ["passed", ""], "test_1": ["passed", ""]}
    (tmp_path / "outcomes.3.json").write_text(json.dumps({**machine(), "ended": False}))
    assert "(broken off)" in matrix.result("sid", 0)["tests"]


def test_what_ran_nowhere_is_told():
    one = machine(a=("passed", ""), b=("skipped", "tcx"), c=("skipped", "lirc"))
    two = machine(a=("skipped", "kprobe"), b=("failed", ""), c=("skipped", "libbpf >= 1.9"))
    assert matrix.ran_nowhere({"one": one, "two": two}) == {"tests/test_every_kind.py::c": ["libbpf >= 1.9", "lirc"]}


def test_table():
    shown = matrix.table({"host": machine(a=("passed", ""), b=("skipped", "tcx")), "sid": machine(a=("failed", ""))})
    assert [line.split() for line in shown.splitlines()][4:] == [
        ["passed", "1", "0"], ["failed", "0", "1"], ["skipped", "1", "0"], ["tcx", "1"], ["minutes", "2", "2"]]


def test_kinds_of_attaching_by_machine():
    one = machine(**{"test_it_fires[fexit]": ("passed", ""), "test_it_stops[fexit]": ("passed", ""), "test_it_fires[tcx]": ("skipped", "tcx"),
                     "test_it_stops[tcx]": ("passed", ""), "test_it_fires[lsm]": ("failed", "")})
    one["tests"]["tests/test_attach_trace.py::test_freplace"] = "passed", ""
    rows = {kind: cells for kind, *cells in matrix.kinds({"one": one, "two": machine()})}
    assert rows["fexit"] == ["yes", "-"] and rows["tcx"] == ["tcx", "-"] and rows["lsm"] == ["failed", "-"]
    assert rows["freplace"] == ["yes", "-"] and rows["struct_ops"] == ["-", "-"]


def test_page_of_kernels_has_every_kind_and_where_it_ran():
    rows = dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", matrix.PAGE.read_text().partition(matrix.MARK)[2], re.MULTILINE))
    assert rows.keys() == KINDS.keys() | matrix.OTHERS.keys()
    assert all("yes" in cells.split(" | ") and "failed" not in cells for cells in rows.values())
