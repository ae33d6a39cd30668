"""What this process may do: its capabilities."""
from __future__ import annotations

import re
from pathlib import Path

# As in <linux/capability.h>.
NUMBERS = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}


def status(field: str) -> str:
    """A field of /proc/self/status, or "" where that cannot be read."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return ""
    found = re.search(rf"^{field}:\s*(\S+)", text, re.MULTILINE)
    return found.group(1) if found else ""


def in_user_namespace() -> bool:
    """Whether what capabilities this process has are none in the eyes of bpf(2)."""
    try:
        names = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return False
    return bool(names) and names != ["0", "0", "4294967295"]


def held() -> set[str] | None:
    """Which of NUMBERS are effective, or None if nobody says. Asked each time: a process may give them up."""
    mask = status("CapEff")
    return {name for name, number in NUMBERS.items() if int(mask, 16) >> number & 1} if mask else None


def missing(*names: str) -> list[str]:
    """Those of the names that bpf(2) would ask for in vain: CAP_SYS_ADMIN stands in for all of them. None where nobody says."""
    have = held()
    return [] if have is None or "CAP_SYS_ADMIN" in have else [name for name in names if name not in have]
