"""Reads the verifier's log: which instruction failed, and why, and what was counted."""
from __future__ import annotations

import re

_COUNTED = re.compile(r"^processed (\d+) insns(.*)", re.MULTILINE)
_COUNT = re.compile(r"(\w+) (\d+)")
_DEPTHS = re.compile(r"\bstack depth ([\d+]+)")
_TIME = re.compile(r"^verification time (\d+) usec", re.MULTILINE)
_INSN = re.compile(r"^(\d+): \([0-9a-f]{2}\)")
_STATISTICS = ("processed ", "insns processed ", "verification time ", "stack depth ", "mark_precise", "BPF program load failed")


def explain(log: str) -> tuple[str | None, int | None, str | None]:
    """Return (reason, index of the failing instruction, line of source) as far as the log tells."""
    lines = log.splitlines()
    while lines and (not lines[-1].strip() or lines[-1].startswith(_STATISTICS)):
        lines.pop()
    summary: str | None = None
    insn: int | None = None
    source: str | None = None
    if lines and not _INSN.match(lines[-1]):
        summary = lines.pop().strip()
    for line in reversed(lines):
        found = _INSN.match(line)
        if insn is None and found:
            insn = int(found.group(1))
        elif line.startswith("; "):
            source = line[2:].strip()
            break
    return summary, insn, source


def statistics(log: str) -> tuple[dict[str, int], tuple[int, ...], float | None]:
    """Return (counts by the verifier's names, bytes of stack of each function, seconds); of what is not there, nothing.

    The number of instructions processed is called "insns_processed".
    """
    counted = time = depths = None
    for counted in _COUNTED.finditer(log):      # the last one counts, as of the rest
        pass
    for depths in _DEPTHS.finditer(log):
        pass
    for time in _TIME.finditer(log):
        pass
    counts = {"insns_processed": int(counted[1])} if counted else {}
    if counted:
        counts.update((name, int(count)) for name, count in _COUNT.findall(counted[2]))
    return (
        counts,
        tuple(int(depth) for depth in depths[1].split("+") if depth) if depths else (),
        int(time[1]) / 1e6 if time else None,
    )
