"""Types of BTF by their names: what they are called, and the enum that Python makes of one."""
from __future__ import annotations

import enum

from .btf import Btf

# Kinds as in BtfKind, which is made only when somebody asks for it.
STRUCT, UNION, ENUM, ENUM64 = 4, 5, 6, 19
ALIASES = (8, 9, 10, 11, 14, 18)    # typedef, the qualifiers, variables, tags
WORDS = {STRUCT: "struct ", UNION: "union ", ENUM: "enum ", ENUM64: "enum "}


def bare(btf: Btf, number: int) -> int:
    """The number of a type without typedefs and qualifiers."""
    while btf.kind(number) in ALIASES:
        number = btf.target(number)
    return number


def words(btf: Btf, number: int) -> str:
    """A type for messages: "struct event"."""
    return WORDS.get(btf.kind(number), "") + btf.name(number)


def enum_of(btf: Btf, number: int) -> type[enum.IntEnum] | None:
    """An IntEnum of an enum's names; None if they cannot be one."""
    made = btf._classes()
    if (number, "enum") not in made:
        try:
            made[number, "enum"] = enum.IntEnum(btf.name(number) or "enum", btf.enumerators(number))
        except (ValueError, TypeError):     # names that Python keeps for itself
            made[number, "enum"] = None
    found: type[enum.IntEnum] | None = made[number, "enum"]
    return found
