#!/usr/bin/env python3
"""The tests on this machine and on every kernel that tools/vm has, as one table:

    matrix.py [--kept] [--docs] [MACHINE...] [-- PYTEST ARGUMENT...]

A machine is "host", a suite, or SUITE+KERNEL. Fails if a test fails anywhere, if a machine could not be had, or if a way to
attach ran nowhere. With --kept nothing runs: the table is of the last runs. --docs writes docs/kernels.md.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parent.parent
MACHINES = ("host", "bookworm", "trixie", "sid")
NO_MACHINE = 75  # of tools/vm
EVERYWHERE = ("tests/test_every_kind.py", "tests/test_attach", "tests/test_structops.py")
PAGE = ROOT / "docs/kernels.md"
MARK = "<!-- What follows is written by ./run matrix --docs -->\n"
# Ways to attach that make no link of the kernel's, or need more than a place: by the names of their tests.
OTHERS = {
    "freplace": "test_freplace", "struct_ops": "tests/test_structops.py", "XDP by netlink": "test_xdp_by_netlink",
    "tc by netlink": "test_tc_", "socket filter": "test_filter_of_a_socket", "reuseport": "test_program_of_a_group_of_sockets",
}


def folder_of(machine: str) -> Path:
    return ROOT / "build" / ("matrix" if machine == "host" else f"vm/{machine.partition('+')[0]}")


def run(machine: str, arguments: list[str]) -> int:
    """The status of the tests there."""
    suite, _, kernel = machine.partition("+")
    print(f"· {machine}", file=sys.stderr, flush=True)
    folder = folder_of(machine)
    for left in folder.glob("outcomes*.json"):
        left.unlink()
    if machine == "host":
        command = [sys.executable, "-m", "pytest", f"--outcomes={folder}/outcomes.json", "-n", str(os.cpu_count() or 1)]
    else:
        command = [sys.executable, str(ROOT / "tools/vm"), suite, *(["--kernel", kernel] if kernel else []), "test",
                   "--outcomes=build/outcomes.json"]
    return subprocess.run([*command, *arguments], cwd=ROOT).returncode


def result(machine: str, status: int) -> Optional[dict[str, Any]]:
    """What became of the tests there, of those that ran again the last time; None if there was no machine."""
    paths = sorted(folder_of(machine).glob("outcomes*.json"), key=lambda path: path.stat().st_mtime)
    parts = [json.loads(path.read_text()) for path in paths]
    if status == NO_MACHINE:
        return None
    parts = parts or [{"kernel": "", "python": "", "libbpf": "", "seconds": 0, "ended": True, "tests": {}}]
    tests = {name: outcome for part in parts for name, outcome in part["tests"].items()}
    if not all(part["ended"] for part in parts):
        tests["(broken off)"] = ("failed", "")
    if status not in (0, 1, 5):
        tests[f"(all of it: status {status})"] = ("failed", "")
    return {**parts[0], "tests": tests, "seconds": max(part["seconds"] for part in parts)}


def ran_nowhere(found: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """The tests of attaching that each machine skipped, with what they missed there."""
    names = {name for each in found.values() for name in each["tests"] if name.startswith(EVERYWHERE)}
    verdicts = {name: [each["tests"].get(name, ("absent", "")) for each in found.values()] for name in sorted(names)}
    return {name: sorted({reason for outcome, reason in each if outcome == "skipped"})
            for name, each in verdicts.items() if all(outcome in ("skipped", "absent") for outcome, _ in each)}


def table(found: dict[str, dict[str, Any]]) -> str:
    rows = [["", *found], *([name, *(str(each[name]) for each in found.values())] for name in ("kernel", "python", "libbpf"))]
    outcomes = {machine: Counter(outcome for outcome, _ in each["tests"].values()) for machine, each in found.items()}
    missed = {machine: Counter(reason for outcome, reason in each["tests"].values() if outcome == "skipped")
              for machine, each in found.items()}
    for outcome in ("passed", "failed", "skipped"):
        rows.append([outcome, *(str(outcomes[machine][outcome]) for machine in found)])
    for capability in sorted({reason for each in missed.values() for reason in each}):
        rows.append([f"  {capability}", *(str(missed[machine][capability] or "") for machine in found)])
    rows.append(["minutes", *(f"{each['seconds'] / 60:.0f}" for each in found.values())])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
                     for row in rows)


def kinds(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Ways to attach, and for each machine "yes", if all of its tests ran there, or what is missing."""
    tests: dict[str, list[str]] = {}
    for name in {name: None for each in found.values() for name in each["tests"]}:
        if name.startswith(EVERYWHERE[0]) and (kind := re.search(r"\[(\w+)\]$", name)):
            tests.setdefault(kind[1], []).append(name)
    for kind, part in OTHERS.items():
        tests[kind] = [name for each in found.values() for name in each["tests"]
                       if name.startswith(EVERYWHERE) and part in name]
    rows = []
    for kind, names in tests.items():
        cells = []
        for each in found.values():
            verdicts = {tuple(each["tests"].get(name, ("absent", ""))) for name in names}
            outcomes = {outcome for outcome, _ in verdicts}
            wanted = "passed" in outcomes and (kind in OTHERS or outcomes == {"passed"})
            cells.append("failed" if "failed" in outcomes else "yes" if wanted else
                         ", ".join(sorted({reason for _, reason in verdicts if reason})) or "-")
        rows.append([kind, *cells])
    return rows


def page(found: dict[str, dict[str, Any]]) -> str:
    """The tables of docs/kernels.md; this machine is nobody else's."""
    found = {machine: each for machine, each in found.items() if machine != "host"}
    head = [["", *found], ["---"] * (len(found) + 1)]
    versions = [[title, *(each[name] for each in found.values())]
                for title, name in (("Linux", "kernel"), ("Python", "python"), ("libbpf", "libbpf"))]
    return "\n\n".join("\n".join(f"| {' | '.join(row)} |" for row in rows)
                       for rows in (head + versions, head + [[f"`{kind}`", *cells] for kind, *cells in kinds(found)]))


def main() -> int:
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    options = {word for word in words[:at] if word in ("--kept", "--docs")}
    machines = [word for word in words[:at] if word not in options] or MACHINES
    results = {machine: result(machine, 0 if "--kept" in options else run(machine, words[at + 1:])) for machine in machines}
    found = {machine: result for machine, result in results.items() if result is not None}
    absent = [machine for machine, result in results.items() if result is None]
    failed = [f"{machine}: {name}: {reason}".rstrip(": ") for machine, each in found.items()
              for name, (outcome, reason) in each["tests"].items() if outcome == "failed"]
    nowhere = ran_nowhere(found) if found.keys() >= set(MACHINES) else {}
    print(table(found))
    if "--docs" in options:
        PAGE.write_text(PAGE.read_text().partition(MARK)[0] + MARK + "\n" + page(found) + "\n")
    for title, lines in (("failed", failed), ("no machine", absent),
                         ("ran nowhere", [f"{name} ({', '.join(missing)})" for name, missing in nowhere.items()])):
        if lines:
            print(f"\n{title}:", *lines, sep="\n  ")
    return 1 if failed or absent or any(name.startswith(EVERYWHERE[0]) for name in nowhere) else 0


if __name__ == "__main__":
    sys.exit(main())
