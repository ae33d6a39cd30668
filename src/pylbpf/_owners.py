"""Which processes hold descriptors of BPF things, as /proc shows them."""
from __future__ import annotations

import os
from typing import Any

FIELDS = {"prog_id:": "program", "map_id:": "map", "link_id:": "link", "btf_id:": "btf"}
KINDS = {"anon_inode:bpf-prog": "prog_id:", "anon_inode:bpf-map": "map_id:", "anon_inode:bpf_link": "link_id:",
         "anon_inode:bpf-link": "link_id:", "anon_inode:[perf_event]": "", "anon_inode:btf": "btf_id:"}


def find(owner: Any) -> dict[tuple[str, int], list[Any]]:
    found: dict[tuple[str, int], list[Any]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", errors="surrogateescape") as file:
                me = owner(int(pid), file.read().rstrip("\n"))
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:     # gone, or none of our business
            continue
        for thing in {thing for fd in descriptors if (thing := held(pid, fd))}:
            found.setdefault(thing, []).append(me)
    return found


def held(pid: str, fd: str) -> tuple[str, int] | None:
    try:
        field = KINDS.get(os.readlink(f"/proc/{pid}/fd/{fd}"))
        if not field:
            return None
        with open(f"/proc/{pid}/fdinfo/{fd}") as file:
            for line in file:
                if line.startswith(field):
                    return FIELDS[field], int(line.split()[1])
    except OSError:
        pass
    return None
