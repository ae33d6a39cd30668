"""docs/coverage.md is true: every function of libbpf has a row, and what it says is in the sources."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

import objects  # noqa: F401  which shows the way to tools/
import libbpf_calls
import test_mirror
from libbpf_calls import ABSENT, PAGE, UNMEASURED, functions, modules, read_page, reason_of, render

pytestmark = pytest.mark.no_c
TESTS = Path(__file__).parent

if not (PAGE.exists() and libbpf_calls.PACKAGE.exists()):
    pytest.skip("checkout: this is about the sources and a page of the documentation", allow_module_level=True)


def exists(test: str) -> bool:
    file, *names = test.split("::")
    return re.search(rf"^ *def {names[-1]}\(", (TESTS / file).read_text(), re.MULTILINE) is not None


def test_every_function_is_known():
    """Those of the installed headers, of 1.7 where its source is here, and what compat.h adds."""
    exported = set()
    for headers in {test_mirror.installed_headers(), Path(test_mirror.SOURCE or test_mirror.installed_headers(), "src")}:
        if headers.exists():
            text = "".join(test_mirror.without_comments((headers / name).read_text()) for name in test_mirror.HEADERS)
            exported |= set(re.findall(r"^(?:LIBBPF_API|int(?= libbpf_set_memlock))\b[^;(]*?(\w+)\(", text, re.MULTILINE))
    assert exported | libbpf_calls.versions().keys() <= functions().keys()


def test_every_function_is_called_or_there_is_a_reason_why_not():
    called, reasons = modules(), {name: reason_of(name) for name in functions()}
    assert not [name for name in functions() if name not in called and not reasons[name]]
    assert not [name for name in functions() if name in called and reasons[name]], "it is called: no reason is needed"
    assert ABSENT.keys() <= set(reasons.values()), "a reason for nothing"


def test_every_function_that_is_called_was_seen_in_a_test():
    rows, called = read_page(), modules()
    measured = {name for name, tests in rows.items() if tests}
    assert not [name for name in functions() if name in called and name not in measured and name not in UNMEASURED]
    assert not measured & UNMEASURED.keys(), "it was measured: no entry is needed"


def test_every_test_exists():
    tests = {test for tests in read_page().values() for test in tests} | {test for _, test in UNMEASURED.values()}
    assert not [test for test in tests if not exists(test)]


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == render(read_page()), "run tools/libbpf_calls.py"
