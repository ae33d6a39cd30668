"""Values of global variables that are more than a number: how they are shown, and what they may be set to."""
from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .btf import Btf
    from .variable import Variable

KALLSYMS = "/proc/kallsyms"
ARRAY, STRUCT, UNION, DATASEC = 3, 4, 5, 15


def enum_members(btf: Btf, number: int) -> dict[int, Any]:
    """Number -> member of an IntEnum; empty if Python cannot have one of these names."""
    from .btfnames import bare, enum_of
    names = enum_of(btf, bare(btf, number))
    return {member.value: member for member in names} if names else {}


def read(variable: Variable) -> Any:
    """Bytes, an int of 128 bits, or a numpy array or record."""
    if variable.is_text():
        return variable.load().rstrip(b"\0")
    import numpy
    btf, number = variable.types()
    dtype = btf.dtype(number)
    if _is_wide(dtype, btf, number):
        return int.from_bytes(variable.load(), sys.byteorder, signed=_is_signed(btf, number))
    memory = variable.live_memory()
    data = variable.load() if memory is None else memory
    base, shape = dtype.base, dtype.shape
    if not dtype.itemsize:
        found = numpy.zeros(shape, base)
    else:
        found = numpy.frombuffer(data, base).reshape(shape)
    if base.names is not None:
        from .structs import Structs
        found = found.view(Structs)
        return found if shape else found[()]
    return found


def write(variable: Variable, value: Any) -> None:
    """Set it as a whole, or not at all."""
    if variable.is_text():
        variable.store(_text(variable, value, variable.place()[1]))
        return
    import numpy
    btf, number = variable.types()
    dtype = btf.dtype(number)
    raw: bytes
    if _is_wide(dtype, btf, number):
        try:
            raw = value.__index__().to_bytes(16, sys.byteorder, signed=_is_signed(btf, number))
        except (AttributeError, OverflowError) as error:
            raise (ValueError if isinstance(error, OverflowError) else TypeError)(
                f"{variable.describe()} cannot be {value!r}: {error}") from None
    elif isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
    else:
        from .fields import put
        new = numpy.frombuffer(bytearray(variable.load()), dtype.base).reshape(1, *dtype.shape)
        put(new, value, variable.describe())        # what a dict leaves out stays
        raw = new.tobytes()
    variable.store(raw)


def _is_wide(dtype: Any, btf: Btf, number: int) -> bool:
    from .btfnames import bare
    return dtype.shape == (2,) and btf.kind(bare(btf, number)) != ARRAY


def _is_signed(btf: Btf, number: int) -> bool:
    from .btfnames import bare
    return "unsigned" not in btf.name(bare(btf, number))


def _text(variable: Variable, value: Any, size: int) -> bytes:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"{variable.describe()} ends at a NUL, of which there is one in {value!r}")
        value = value.encode("utf-8", "surrogateescape")
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{variable.describe()} is text: it takes bytes or str, not {type(value).__name__}")
    if len(value) > size:
        raise ValueError(f"{variable.describe()} has {size} bytes, not {len(value)}")
    return bytes(value).ljust(size, b"\0")


# ---------------------------------------------------------------- symbols of the kernel

def symbol_address(name: str) -> int:
    """The address of a symbol of the kernel, 0 if it has none of this name. Where addresses are hidden, PermissionError."""
    hidden = False
    with open(KALLSYMS, errors="surrogateescape") as file:
        for line in file:
            address, _, rest = line.partition(" ")
            if rest[2:].split(maxsplit=1)[0] == name:
                if int(address, 16):
                    return int(address, 16)
                hidden = True
    if hidden:
        raise PermissionError(f"the kernel hides addresses in {KALLSYMS}: CAP_SYSLOG is needed")
    return 0
