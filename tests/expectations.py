"""Which tests may be skipped: those whose capability is missing here.

The reason of a skip is "capability: words". A capability is a row of capabilities.txt, a module that a test imports,
or a version, as in "libbpf >= 1.3" or "Linux < 6.4". A test that is skipped although this machine has the capability fails.
"""
from __future__ import annotations

import functools
import operator
import os
import platform
import re
from pathlib import Path

import pylbpf

TABLE = Path(__file__).with_name("capabilities.txt")
VERSION = re.compile(r"(libbpf|Linux|Python) (>=|<) (\d+)\.(\d+)")
IMPORT = re.compile(r"could not import '([\w.]+)'")
COMPARE = {">=": operator.ge, "<": operator.lt}

# What the run is on: "trixie", or "bookworm+sid" for the kernel of sid under bookworm; anything else is nobody's table.
ROOT, _, KERNEL = os.environ.get("PYLBPF_MACHINE", "").partition("+")


def rounds(number: int) -> int:
    """So many, or a quarter on a virtual machine, whose processor may be emulated."""
    return number // 4 if ROOT else number


def capability_of(reason: str) -> str:
    reason = reason[len("Skipped: "):] if reason.startswith("Skipped: ") else reason
    found = IMPORT.match(reason)
    return found.group(1) if found else reason.partition(":")[0]


@functools.lru_cache(maxsize=None)
def table() -> dict[str, tuple[str, frozenset[str]]]:
    """capability -> where it belongs, "kernel" or "root", and the suites that have it."""
    rows: dict[str, tuple[str, frozenset[str]]] = {}
    part, suites = "", [""]
    for line in TABLE.read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        name, *cells = re.split(r"\s{2,}", line.strip())
        if name.startswith("["):
            part, suites = name.strip("[]"), cells
        else:
            assert len(cells) == len(suites) and set(cells) <= {"yes", "-"} and name not in rows, f"{TABLE.name}: {line}"
            rows[name] = part, frozenset(suite for suite, cell in zip(suites, cells) if cell == "yes")
    return rows


def version_of(what: str) -> tuple[int, int]:
    if what == "libbpf":
        return pylbpf.libbpf_version()[:2]
    text = os.uname().release if what == "Linux" else platform.python_version()
    major, minor = re.findall(r"\d+", text)[:2]
    return int(major), int(minor)


def objection(reason: str) -> str:
    """What is wrong with a skip for this reason; "" if nothing is."""
    capability = capability_of(reason)
    if found := VERSION.fullmatch(capability):
        what, comparison, *numbers = found.groups()
        here = version_of(what)
        if COMPARE[comparison](here, tuple(map(int, numbers))):
            return f"skipped though {what} here is {here[0]}.{here[1]}: {reason}"
        return ""
    if capability not in table():
        return f"skipped for a reason that begins with no capability of {TABLE.name}: {reason}"
    part, suites = table()[capability]
    if (KERNEL or ROOT if part == "kernel" else ROOT) in suites:
        return f"skipped though {KERNEL or ROOT if part == 'kernel' else ROOT} has it: {reason}"
    return ""
