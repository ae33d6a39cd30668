"""Reads the verifier's log: which instruction failed, and why."""
from __future__ import annotations

import re

_INSN = re.compile(r"^(\d+): \([0-9a-f]{2}\)")
_STATISTICS = ("processed ", "verification time ", "stack depth ", "mark_precise", "BPF program load failed")


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
