"""pylbpf map"""
from __future__ import annotations

from typing import Any

from .. import query
from . import _things


def rows() -> list[dict[str, Any]]:
    owners = query.owners()
    return [{**_things.fields(info, "id", "type", "name", "key_size", "value_size", "max_entries", "flags"),
             "held by": _things.holders("map", owners, info.id)} for info in query.maps()]


def details(id: int) -> dict[str, Any]:
    info = query.map(id)
    return {**_things.fields(info, "id", "type", "name", "key_size", "value_size", "max_entries", "flags", "map_extra",
                             "ifindex", "btf_id", "btf_key_type_id", "btf_value_type_id"),
            "held by": _things.holders("map", query.owners(), id)}


command = _things.group("map", "maps", rows, details)
