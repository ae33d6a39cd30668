"""Why bpf(2) is refused: which capability this process lacks, and what else may be in the way."""
from __future__ import annotations

import re
from pathlib import Path

from pylbpf import rights


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def missing() -> list[str]:
    """Names of the capabilities that tracing programs need and this process does not have."""
    return rights.missing("CAP_BPF", "CAP_PERFMON")  # to make maps and programs; to let programs read kernel memory


def explain() -> list[str]:
    """What is missing or in the way, a sentence a line; only what applies here."""
    lines = []
    lacking = missing()
    if lacking:
        one_for_all = "in their place" if len(lacking) > 1 else "in its place"
        lines.append(f"missing: {' and '.join(lacking)} (CAP_SYS_ADMIN would do {one_for_all})")
    else:
        lines.append("no capability is missing: something else refuses")
    if rights.in_user_namespace():
        lines.append("this process lives in a user namespace, where capabilities do not count for bpf()")
    unprivileged = _read("/proc/sys/kernel/unprivileged_bpf_disabled")
    if unprivileged in ("1", "2"):
        lines.append(f"kernel.unprivileged_bpf_disabled = {unprivileged}: nobody may use bpf() without CAP_BPF")
    elif unprivileged == "0":
        lines.append("kernel.unprivileged_bpf_disabled = 0: without CAP_BPF socket filters only, no tracing")
    lockdown = re.search(r"\[(\w+)\]", _read("/sys/kernel/security/lockdown"))
    if lockdown and lockdown.group(1) != "none":
        lines.append(f"kernel lockdown is in mode {lockdown.group(1)}: it limits what programs may read")
    if rights.status("Seccomp") == "2":
        lines.append("a seccomp filter is active, as in most containers: it may refuse bpf() to anyone")
    return lines
