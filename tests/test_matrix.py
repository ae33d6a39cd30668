"""Tests on several machines: shared out, counted, and none of attaching that ran nowhere."""
from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import objects
from hooks import KINDS
from outcomes import part_of

if not (objects.ROOT / "tools/matrix.py").exists():
    pytest.skip("checkout: these tests are about its tools", allow_module_level=True)
sys.path.insert(0, str(objects.ROOT / "tools"))
import matrix  # noqa: E402

pytestmark = pytest.mark.no_c


def machine(**tests: tuple[str, str]) -> dict[str, object]:
    return {"kernel": "6.12.1", "python": "3.13", "libbpf": "v1.5", "seconds": 90,
            "tests": {f"tests/test_every_kind.py::{name}": outcome for name, outcome in tests.items()}}


def test_parts_are_all_tests_and_whole_files():
    items = [SimpleNamespace(path=Path(f"{name}.py")) for name in "aaaaabbbccd" for _ in range(3)]
    parts = [part_of(items, f"{number}/3") for number in (1, 2, 3)]
    assert sum(map(len, parts)) == len(items) and [len(part) for part in parts] == [15, 9, 9]
    assert not {item.path for item in parts[0]} & {item.path for item in parts[1]}


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
