"""pylbpf prog"""
from __future__ import annotations

from typing import Any

from .. import query
from . import _things


def rows() -> list[dict[str, Any]]:
    owners = query.owners()
    return [{**_things.fields(info, "id", "type", "name", "tag", "xlated_size", "jited_size", "run_cnt", "run_time_ns"),
             "held by": _things.holders("program", owners, info.id)} for info in query.programs()]


def details(id: int) -> dict[str, Any]:
    info = query.program(id)
    return {**_things.fields(info, "id", "type", "name", "tag", "uid", "load_time", "gpl_compatible", "ifindex", "btf_id",
                             "attach_btf_obj_id", "attach_btf_id", "verified_insns", "xlated_size", "jited_size",
                             "run_cnt", "run_time_ns", "recursion_misses", "map_ids"),
            "held by": _things.holders("program", query.owners(), id)}


command = _things.group("prog", "programs", rows, details)
