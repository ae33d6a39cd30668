"""Skips: for a reason that names a capability, and only where that is missing."""
from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from typing import Iterator

import pytest

import expectations
import pylbpf

TESTS = Path(__file__).parent


@pytest.fixture
def on(monkeypatch):
    def machine(root: str, kernel: str = "") -> None:
        monkeypatch.setattr(expectations, "ROOT", root)
        monkeypatch.setattr(expectations, "KERNEL", kernel)

    return machine


def test_what_a_machine_has_is_not_skipped(on):
    on("trixie")
    assert expectations.objection("kprobe.multi: the kernel has none") == (
        "skipped though trixie has it: kprobe.multi: the kernel has none")
    assert not expectations.objection("fsession: the kernel has none")
    assert not expectations.objection("could not import 'pandas': No module named 'pandas'")
    assert expectations.objection("could not import 'numpy': No module named 'numpy'")


def test_kernel_and_root_image_may_be_of_two_suites(on):
    on("bookworm", "sid")
    assert "sid has it" in expectations.objection("fsession: none")
    assert "bookworm has it" in expectations.objection("numpy: none")


def test_other_machines_may_lack_anything(on):
    on("")
    for capability in expectations.table():
        assert not expectations.objection(f"{capability}: none here")


def test_versions_are_known_everywhere(on):
    on("")
    major, minor = pylbpf.libbpf_version()[:2]
    assert expectations.objection(f"libbpf >= {major}.{minor}: x") and not expectations.objection(f"libbpf < {major}.{minor}: x")
    assert not expectations.objection(f"libbpf >= {major}.{minor + 1}: x") and expectations.objection("Linux >= 4.0: x")
    assert expectations.objection(f"Python >= 3.{sys.version_info[1]}: x") and not expectations.objection("Python < 3.2: x")


@pytest.mark.parametrize("reason", ["", "too bad", "kprobes: none", "libbpf 1.3: none", "libbpf > 1.3: none"])
def test_reasons_that_name_no_capability(on, reason):
    on("")
    assert "no capability" in expectations.objection(reason)


def reasons(path: Path) -> Iterator[tuple[int, str]]:
    """The text that each skip of a file begins with, as far as it stands there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        values = [each.value for each in node.keywords if each.arg == "reason"]
        if called == "pytest.skip":
            values += node.args[:1]
        elif called not in ("pytest.mark.skipif", "pytest.mark.skip", "pytest.importorskip"):
            continue
        for value in values:
            first = value.values[0] if isinstance(value, ast.JoinedStr) else value
            if isinstance(first, ast.Constant) and ":" in str(first.value):
                yield node.lineno, str(first.value)


@pytest.mark.no_c
def test_all_reasons_are_uniform(on):
    on("")
    wrong = [f"{path.name}:{line}: {text}" for path in sorted(TESTS.glob("*.py")) for line, text in reasons(path)
             if not expectations.VERSION.fullmatch(text.partition(":")[0]) and expectations.objection(text)]
    assert not wrong


@pytest.mark.no_c
def test_all_capabilities_are_asked_for():
    """A row that no test names is a row that nobody looks at."""
    text = "".join(path.read_text() for path in TESTS.rglob("*.py") if path.name != os.path.basename(__file__))
    for capability in expectations.table():
        word = "MapType" if capability.startswith("map ") else capability
        assert re.search(rf"\b{re.escape(word)}", text), capability
