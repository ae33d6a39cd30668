#!/usr/bin/env python3
"""docs/coverage.md: each function of libbpf, which module calls it, and which test did on which kernel.

    ./run test --libbpf-calls=build/calls.json [TEST...]    # on each machine: what was called there
    tools/libbpf_calls.py build/calls.json...                   # puts it into the page, whose own rows are kept

Functions come from the mirror of libbpf's headers, modules from the sources, tests from what was measured.
"""
from __future__ import annotations

import argparse
import collections
import json
import re
from pathlib import Path
from typing import Iterable, Optional

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src/pylbpf"
PAGE = ROOT / "docs/coverage.md"
HEADERS = ("libbpf", "bpf", "btf")

# Why some are not called: reason -> patterns of names.
ABSENT = {
    "the same with options is called": (
        "bpf_program__attach_(perf_event|kprobe|uprobe|tracepoint)|bpf_prog_(attach|detach|query)|bpf_xdp_query_id"),
    "`bpf_obj_get_info_by_fd()`, which these are other names of, is called": "bpf_(prog|map|btf|link)_get_info_by_fd",
    "what takes descriptors is called, which is also there for maps and links without an object": (
        "bpf_map__((lookup|update|delete|lookup_and_delete)_elem|get_next_key)|bpf_object__find_map_fd_by_name|"
        "bpf_link__update_program"),
    "their options are tokens, and the right to read or write, which is of maps only": "bpf_(prog|btf|link)_get_fd_by_id_opts",
    "pylbpf reads and checks files itself, and gives libbpf the bytes": (
        "bpf_object__open(_file)?|btf__parse_(split|elf|elf_split|raw)"),
    "perf events behind tracepoints are opened by pylbpf, which then knows them": "bpf_program__attach_tracepoint_opts",
    "the same call of the kernel as `bpf_program__attach_netns()`, which every libbpf has": "bpf_program__attach_sockmap",
    "records are read in place, in the rings' memory, without a call for each": (
        "ring_buffer__.*|ring__.*|perf_buffer__(new|poll|consume|consume_buffer)|user_ring_buffer__reserve_blocking"),
    "initial values are written where `bpf_map__initial_value()` is": "bpf_map__set_initial_value",
    "files and memory are linked through paths, as every libbpf can; these are of 1.6": "bpf_linker__(new_fd|add_fd|add_buf)",
    "a skeleton is for C: in Python an object has its programs, maps and variables by name": "bpf_object__.*skeleton",
    "programs and maps are pinned one by one": "bpf_object__(un)?pin(_maps|_programs)?",
    "`Insns`, `ProgramInfo.lines` look lines up themselves": "bpf_prog_linfo__.*",
    "types are read, not made: objects bring theirs along": (
        "btf__add_(?!(int|array)$).*|btf__(dedup|permute|distill_base|relocate|new_empty_split|new_empty_opts|new_split|find_str)|"
        "btf__load_into_kernel|btf__set_(pointer_size|endianness)|btf_ext__.*"),
    "`Btf` knows its base, its byte order, and goes through typedefs by itself": "btf__(base_btf|endianness|resolve_type)",
    "the enumerations have the names": "libbpf_bpf_(attach|link|map)_type_str|libbpf_attach_type_by_name",
    "everything is gone through forwards": "bpf_object__prev_(program|map)",
    "libbpf does it by itself where the kernel needs it": "libbpf_set_memlock_rlim",
    "a map to be like is given to `bpf_map__set_inner_map_fd()`; setters of libbpf 1.7 crash on an inner map, which has no object":
        "bpf_map__inner_map",
}
# Called, but by no test that was measured: name -> (why, test).
UNMEASURED = {
    "libbpf_set_print": ("called when pylbpf is imported", "test_log.py::test_set_print_returns_who_listened_before"),
    "bpf_program__clone": ("needs libbpf 1.8", "test_program.py::test_newer_c24_clone_needs_a_prepared_object"),
    "bpf_program__attach_tracing_multi": ("needs libbpf 1.8", "test_attach_trace.py::test_tracing_multi_options"),
    "bpf_program__attach_ksyscall": ("needs kprobe", "test_attach_probe.py::test_ksyscall"),
    "bpf_program__attach_freplace": ("needs freplace", "test_attach_trace.py::test_freplace"),
    "perf_buffer__buffer_cnt": (
        "called in a forked child", "test_perfbuf.py::test_child_may_only_drop_it_and_the_parent_notices_nothing"),
    "bpf_program__attach_netkit": ("needs netkit", "test_attach_net.py::test_netkit"),
    "btf__load_from_kernel_by_id": (
        "needs freplace", "test_attach_trace.py::test_a_handler_over_freplace_looks_the_function_up_in_the_target"),
}

HEAD = """# Coverage of libbpf

Every function that libbpf has up to 1.8: which module of pylbpf calls it (see [Architecture](architecture.md)), and one test in
which it was seen to be called, on which kernels and with which versions of libbpf. What libbpf calls by itself does not count.
The page is made by `tools/libbpf_calls.py` from the headers' mirror, the sources, and what `./run test --libbpf-calls=FILE` measures
with uprobes on libbpf. All functions can also be called from Cython, through `pylbpf.c`.
"""

Tests = dict[str, set[str]]     # test -> machines, as "6.18/1.7"


def functions() -> dict[str, str]:
    """Exported function -> its header, in the order of the mirror."""
    found = {}
    for header in HEADERS:
        text = (PACKAGE / "c" / f"{header}.pxd").read_text()
        for name in re.findall(r'^ {4}(?!ctypedef)[\w ]+[ *](\w+)(?: "\w+")?\((?!\*)', text, re.M):
            # The others are defined by the headers themselves.
            if not (name.startswith(("btf_", "pylbpf_")) and "__" not in name) and name != "BPF_TC_PARENT":
                found[name] = header
    return found


def versions() -> dict[str, str]:
    """Function newer than 1.1 -> the version that has it."""
    return dict(re.findall(r'PYLBPF_HAS\((\w+), "([\d.]+)"\)', (ROOT / "include/pylbpf/compat.h").read_text()))


def code_of(path: Path) -> str:
    text = path.read_text()
    if path.suffix == ".pyx":
        return re.sub(r'""".*?"""|"[^"\n]*"|#[^\n]*', "", text, flags=re.S)
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def modules() -> dict[str, list[str]]:
    """Function -> the modules that call it."""
    users: dict[str, list[str]] = collections.defaultdict(list)
    for path in sorted(each for kind in ("*.pyx", "*.c") for each in PACKAGE.glob(kind)):
        for name in set(re.findall(r"\b(?:pylbpf_compat_)?(\w+)\b", code_of(path))):
            users[name].append(path.stem)
    return users


def read_page() -> dict[str, Tests]:
    """Function -> its measured tests, as the page has them."""
    rows: dict[str, Tests] = {}
    for line in PAGE.read_text().splitlines() if PAGE.exists() else ():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            name = cells[0].split("`")[1]
            rows[name] = {}
            for test, kernels in re.findall(r"`([^`]+)`: ([^<]+)", cells[2]):
                rows[name][test] = {f"{kernel}/{libbpf}" for kernel, all in re.findall(r"([\d.]+) \(([^)]+)\)", kernels)
                                    for libbpf in all.split(", ")}
    return rows


def add_record(rows: dict[str, Tests], record: dict[str, object]) -> None:
    """What one run has measured. A function keeps its test, if that has called it here too; else the one that calls least."""
    machine = f"{record['kernel']}/{record['libbpf']}"
    callers: dict[str, list[str]] = collections.defaultdict(list)
    tests: dict[str, list[str]] = record["tests"]  # type: ignore[assignment]
    for test in sorted(tests, key=lambda each: (len(tests[each]), each)):
        for name in tests[test]:
            callers[name].append(test.replace("tests/", ""))
    for name, found in callers.items():
        row = rows.setdefault(name, {})
        if not any(machine in machines for machines in row.values()):
            row.setdefault(next((test for test in row if test in found), found[0]), set()).add(machine)


def by_version(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]


def on_machines(machines: Iterable[str]) -> str:
    by_kernel: dict[str, list[str]] = collections.defaultdict(list)
    for machine in sorted(machines, key=by_version):
        kernel, _, libbpf = machine.partition("/")
        by_kernel[kernel].append(libbpf)
    return ", ".join(f"{kernel} ({', '.join(found)})" for kernel, found in by_kernel.items())


def reason_of(name: str) -> Optional[str]:
    return next((reason for reason, names in ABSENT.items() if re.fullmatch(names, name)), None)


def render(rows: dict[str, Tests]) -> str:
    since, users = versions(), modules()
    lines = [HEAD]
    for header in HEADERS:
        lines += [f"## {header}.h", "", "| function | called by | seen in: on Linux (with libbpf) |", "| --- | --- | --- |"]
        for name, found in functions().items():
            if found != header or name not in users:
                continue
            cell = "<br>".join(f"`{test}`: {on_machines(machines)}" for test, machines in sorted(rows.get(name, {}).items()))
            if not cell and name in UNMEASURED:
                cell = "{}: `{}`".format(*UNMEASURED[name])
            newer = f" (since {since[name]})" if name in since else ""
            lines.append(f"| `{name}`{newer} | {', '.join(users[name])} | {cell or 'nowhere yet'} |")
        lines.append("")
    lines += ["## What pylbpf does not call", "", "| because | functions |", "| --- | --- |"]
    for reason in ABSENT:
        names = [f"`{name}`" for name in functions() if name not in users and reason_of(name) == reason]
        if names:
            lines.append(f"| {reason} | {', '.join(names)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", nargs="*", type=Path, help="what --libbpf-calls wrote")
    rows = read_page()
    for record in parser.parse_args().record:
        add_record(rows, json.loads(record.read_text()))
    PAGE.write_text(render(rows))


if __name__ == "__main__":
    main()
