"""pylbpf link"""
from __future__ import annotations

import dataclasses
from typing import Any

from .. import query
from ..linkinfo import LinkInfo
from . import _things


def target(info: LinkInfo) -> str:
    """What it is attached to, in a few words."""
    own = [field.name for field in dataclasses.fields(info)][3:]
    return ", ".join(f"{name} {_things.shown(getattr(info, name))}" for name in own if getattr(info, name))


def rows() -> list[dict[str, Any]]:
    owners = query.owners()
    return [{**_things.fields(info, "id", "type", "prog_id"), "target": target(info),
             "held by": _things.holders("link", owners, info.id)} for info in query.links()]


def details(id: int) -> dict[str, Any]:
    info = query.link(id)
    return {**_things.fields(info, "id", "type", *(field.name for field in dataclasses.fields(info)[2:])),
            "held by": _things.holders("link", query.owners(), id)}


command = _things.group("link", "links", rows, details)
