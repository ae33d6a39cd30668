"""pylbpf btf"""
from __future__ import annotations

from typing import Any

from .. import query
from . import _things


def rows() -> list[dict[str, Any]]:
    owners = query.owners()
    return [{**_things.fields(info, "id", "name", "size", "kernel_btf"),
             "held by": _things.holders("btf", owners, info.id)} for info in query.btfs()]


def details(id: int) -> dict[str, Any]:
    info = query.btf(id)
    return {**_things.fields(info, "id", "name", "size", "kernel_btf"),
            "held by": _things.holders("btf", query.owners(), id)}


command = _things.group("btf", "sets of types", rows, details)
