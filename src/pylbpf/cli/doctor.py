"""pylbpf doctor"""
from __future__ import annotations

import json as _json
import os
import platform
import resource
from importlib import metadata
from typing import Iterator, NamedTuple

import click

import pylbpf
from pylbpf import rights as _rights

from . import _screen

STYLES = {"ok": "green", "limited": "yellow", "missing": "red"}
# What is not possible without them.
CAPABILITIES = {
    "CAP_BPF": "maps and programs",
    "CAP_PERFMON": "tracing programs: kprobes, tracepoints, perf events",
    "CAP_NET_ADMIN": "network programs: XDP, traffic control, sockets",
    "CAP_SYS_ADMIN": "some links, and looking things up by number",
}


class Finding(NamedTuple):
    """One line: `status` is ok, limited or missing; `reason` says what will not work, and why."""

    group: str
    name: str
    value: str
    status: str = "ok"
    reason: str = ""


def read(path: str) -> str:
    """A file's only line, or "" where it cannot be read."""
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""


def versions() -> Iterator[Finding]:
    yield Finding("versions", "pylbpf", pylbpf.__version__)
    yield Finding("versions", "python", f"{platform.python_implementation()} {platform.python_version()}")
    for name in ("numpy", "rich", "click"):
        try:
            yield Finding("versions", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding("versions", name, "", "limited", "not installed")
    bundled = pylbpf.get_libraries() != ["bpf"]
    yield Finding("libbpf", "version", pylbpf.libbpf_version_string())
    yield Finding("libbpf", "from", "this package" if bundled else "the system")
    yield Finding("libbpf", "file", pylbpf.libbpf_path() or "")
    for version, what in (((1, 4), "BPF tokens"), ((1, 6), "Object.prepare(), line and function info")):
        if pylbpf.libbpf_version() < version:
            yield Finding("libbpf", what, "no", "limited", f"libbpf {version[0]}.{version[1]} has it")


def kernel() -> Iterator[Finding]:
    yield Finding("kernel", "release", platform.release())
    yield Finding("kernel", "machine", platform.machine())
    if os.path.exists("/sys/kernel/btf/vmlinux"):
        yield Finding("kernel", "BTF", f"{os.path.getsize('/sys/kernel/btf/vmlinux')} bytes")
    else:
        yield Finding("kernel", "BTF", "no", "limited",
                      "no /sys/kernel/btf/vmlinux: CO-RE needs btf_custom_path; no fentry, tp_btf, LSM, iterators")
    jit = read("/proc/sys/net/core/bpf_jit_enable")
    known = {"0": "off", "1": "on", "2": "on, with its output in the log"}
    yield Finding("kernel", "JIT", known.get(jit, jit or "unknown"), "limited" if jit == "0" else "ok",
                  "programs are interpreted, and those that call kernel functions are refused" if jit == "0" else "")
    harden = read("/proc/sys/net/core/bpf_jit_harden")
    yield Finding("kernel", "JIT hardening", {"0": "off", "1": "for the unprivileged", "2": "for all"}.get(harden, "unknown"),
                  "limited" if harden == "2" else "ok", "programs are slower" if harden == "2" else "")
    lockdown = read("/sys/kernel/security/lockdown")
    mode = lockdown.partition("[")[2].partition("]")[0] or "unknown"
    yield Finding("kernel", "lockdown", mode, "limited" if mode == "confidentiality" else "ok",
                  "programs may not read kernel memory: most tracing is refused" if mode == "confidentiality" else "")
    for name, source in (("kprobe", "kprobes"), ("uprobe", "uprobes and USDT")):
        there = os.path.exists(f"/sys/bus/event_source/devices/{name}")
        yield Finding("kernel", source, "yes" if there else "no", "ok" if there else "limited",
                      "" if there else f"no perf event source {name}: the kernel was built without it, or /sys is not mounted")


def rights() -> Iterator[Finding]:
    known = _rights.held()
    if known is None:
        yield Finding("rights", "capabilities", "unknown", "limited", "/proc/self/status cannot be read")
    held = known or set()
    powerless = _rights.in_user_namespace()
    for name, what in () if known is None else CAPABILITIES.items():
        has = name in held
        implied = "CAP_SYS_ADMIN" in held
        reason = f"refused: {what}"
        if has:
            reason = "in a user namespace it does not count for bpf()" if powerless else ""
        elif implied and not powerless:
            reason = "refused: XDP and traffic control without links" if name == "CAP_NET_ADMIN" else ""
        yield Finding("rights", name, "yes" if has else "by CAP_SYS_ADMIN" if implied else "no", "limited" if reason else "ok", reason)
    unprivileged = read("/proc/sys/kernel/unprivileged_bpf_disabled")
    meaning = {"0": "allowed", "1": "off for good", "2": "off"}.get(unprivileged, "unknown")
    yield Finding("rights", "unprivileged bpf()", meaning)
    paranoid = read("/proc/sys/kernel/perf_event_paranoid")
    yield Finding("rights", "perf_event_paranoid", paranoid or "unknown")
    try:
        pylbpf.Map.create(pylbpf.MapType.ARRAY, key_size=4, value_size=4, max_entries=1).close()
        yield Finding("rights", "make a map", "yes")
    except pylbpf.BpfError as error:
        reason = f"bpf() answers: {error.strerror}. Nothing can be loaded"
        yield Finding("rights", "make a map", "no", "missing", reason)


def limits() -> Iterator[Finding]:
    for name, number in (("memlock", resource.RLIMIT_MEMLOCK), ("descriptors", resource.RLIMIT_NOFILE)):
        soft = resource.getrlimit(number)[0]
        value = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
        low = name == "descriptors" and 0 <= soft < 4096
        yield Finding("limits", name, value, "limited" if low else "ok",
                      "each program, map and link takes one: ulimit -n" if low else "")
    try:
        yield Finding("limits", "possible CPUs", str(pylbpf.possible_cpus()))
    except pylbpf.BpfError as error:
        reason = f"/sys/devices/system/cpu/possible: {error.strerror}. No per-CPU maps, no perf buffers"
        yield Finding("limits", "possible CPUs", "unknown", "limited", reason)


def mounts() -> Iterator[Finding]:
    kinds: dict[str, str] = {}
    try:
        with open("/proc/self/mounts") as table:
            for line in table:
                _, folder, kind = line.split()[:3]
                kinds.setdefault(kind, folder)
    except OSError:
        yield Finding("mounts", "mounts", "unknown", "limited", "/proc/self/mounts cannot be read")
        return
    for kind, what in (("bpf", "pinning, tokens"), ("tracefs", "legacy kprobes and tracepoints by name"),
                       ("cgroup2", "cgroup programs")):
        there = kinds.get(kind, "")
        yield Finding("mounts", kind, there or "no", "ok" if there else "limited", "" if there else f"not mounted: no {what}")


def examine() -> list[Finding]:
    """Everything, in the order of the report."""
    return [finding for group in (versions, kernel, rights, limits, mounts) for finding in group()]


def show(findings: list[Finding]) -> None:
    rows = []
    group = ""
    for finding in findings:
        rows.append(["" if finding.group == group else finding.group, *finding[1:]])
        group = finding.group
    _screen.table(("", "what", "found", "status", "what will not work"), rows, STYLES)


@click.command(short_help="What is here: versions, kernel, rights, limits, and what will not work and why.")
@click.option("--json", is_flag=True, help="The same for machines: a list of objects.")
def command(json: bool) -> int:
    """Say what pylbpf finds here: versions, where libbpf comes from, kernel, rights, limits, mounts.

    Nothing is changed; one small map is made and closed, to see whether that is allowed. The exit status is 1 if it is not.
    """
    findings = examine()
    if json:
        click.echo(_json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        show(findings)
    return 1 if any(finding.status == "missing" for finding in findings) else 0
