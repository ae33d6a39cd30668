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
    if dtype.metadata and "enum" in dtype.metadata:
        raw = _enum(variable, value, dtype)
    elif _is_wide(dtype, btf, number):
        try:
            raw = value.__index__().to_bytes(16, sys.byteorder, signed=_is_signed(btf, number))
        except (AttributeError, OverflowError) as error:
            raise (ValueError if isinstance(error, OverflowError) else TypeError)(
                f"{variable.describe()} cannot be {value!r}: {error}") from None
    elif isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
    else:
        new = numpy.frombuffer(bytearray(variable.load()), dtype.base).reshape(dtype.shape)
        assign(new, value, variable.describe())
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


def _enum(variable: Variable, value: Any, dtype: Any) -> bytes:
    import numpy
    if isinstance(value, str):
        value = _enumerator(value, dtype, variable.describe())
    if not isinstance(value, (int, numpy.integer)):
        raise TypeError(f"{variable.describe()} takes a number or a name of its enum, not {type(value).__name__}")
    _check_range(int(value), int(value), dtype, variable.describe())
    return int(value).to_bytes(dtype.itemsize, sys.byteorder, signed=dtype.kind == "i")


def _enumerator(name: str, dtype: Any, what: str) -> int:
    names: dict[str, int] = dtype.metadata["enum"]
    if name not in names:
        from difflib import get_close_matches
        close = get_close_matches(name, names, 3) or list(names)[:10]
        raise ValueError(f"{what} cannot be {name!r}: did you mean {' or '.join(map(repr, close))}?")
    return names[name]


# ---------------------------------------------------------------- arrays and structs

def _check_range(least: int, most: int, dtype: Any, what: str) -> None:
    import numpy
    low, high = (0, 1) if dtype.kind == "b" else (numpy.iinfo(dtype).min, numpy.iinfo(dtype).max)
    if least < low or most > high:
        raise ValueError(f"{what} is from {low} to {high}, not {least if least < low else most}")


def _fit_floats(values: Any, dtype: Any, what: str) -> Any:
    """Floats of a smaller type; what would become infinite does not fit."""
    import numpy
    try:
        wide = values.astype(float) if values.dtype.kind == "O" else values
    except OverflowError:
        raise ValueError(f"{what} is {dtype}: an integer does not fit") from None
    with numpy.errstate(over="ignore"):
        fitted = wide.astype(dtype)
    lost = numpy.isfinite(wide) & ~numpy.isfinite(fitted)
    if lost.any():
        raise ValueError(f"{what} is {dtype}: {wide[lost].flat[0]} does not fit")
    return fitted


def assign(target: Any, value: Any, what: str) -> None:
    """Set an array, or a struct as an array without dimensions."""
    import numpy

    from .bitfields import exact, is_whole
    if target.dtype.names is not None:
        if isinstance(value, (numpy.ndarray, numpy.void)) and value.dtype.names is not None:
            if value.dtype != target.dtype or value.shape != target.shape:
                raise TypeError(f"{what} is of another type than the value")
            target[...] = value
        elif target.shape:
            _assign_each(target, value, what)
        else:
            _assign_members(target, value, what)
        return
    if target.dtype.kind == "S":
        _assign_texts(target, value, what)
        return
    if isinstance(value, str) and not target.shape and "enum" in (target.dtype.metadata or {}):
        value = _enumerator(value, target.dtype, what)
    try:
        new = exact(value)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{what} cannot be {value!r}: {error}") from None
    if new.shape != target.shape:
        raise ValueError(f"{what} has the shape {target.shape}, not {new.shape}")
    floats = target.dtype.kind == "f"
    if new.size and new.dtype.kind not in ("biuf" if floats else "biu") and not is_whole(new, floats):
        raise TypeError(f"{what} holds {target.dtype}, not {new.dtype}")
    if floats:
        new = _fit_floats(new, target.dtype, what)
    elif new.size:
        _check_range(int(new.min()), int(new.max()), target.dtype, what)
    target[...] = new


def _assign_each(target: Any, values: Any, what: str) -> None:
    if isinstance(values, (str, dict)) or not hasattr(values, "__len__"):
        raise TypeError(f"{what} is an array: it takes a sequence, not {type(values).__name__}")
    if len(values) != len(target):
        raise ValueError(f"{what} has {len(target)} elements, not {len(values)}")
    for i, value in enumerate(values):
        assign(target[i:i + 1].reshape(target.shape[1:]), value, f"{what}[{i}]")


def _assign_members(target: Any, value: Any, what: str) -> None:
    from .bitfields import set_bit_field
    if isinstance(value, tuple):
        # Bytes that hold bit fields have no place in a tuple.
        names = [name for name in target.dtype.names if not name.startswith("bits@")]
        if len(value) != len(names):
            raise ValueError(f"{what} has {len(names)} members ({', '.join(names)}), not {len(value)}")
        value = dict(zip(names, value))
    if not isinstance(value, dict):
        raise TypeError(f"{what} is a struct: it takes a dict, a tuple, a numpy record or bytes, not {type(value).__name__}")
    bits = (target.dtype.metadata or {}).get("bits", {})
    for name, part in value.items():
        if name in bits:
            set_bit_field(target, name, part)
        elif name in target.dtype.names:
            assign(target[name], part, f"{what}.{name}")
        else:
            raise KeyError(no_member(what, name, target.dtype))


def no_member(what: str, name: object, dtype: Any) -> str:
    from difflib import get_close_matches
    close = get_close_matches(str(name), [*dtype.names, *(dtype.metadata or {}).get("bits", {})], 3)
    return f"{what} has no member {name!r}{'; did you mean ' + ' or '.join(map(repr, close)) + '?' if close else ''}"


def _assign_texts(target: Any, value: Any, what: str) -> None:
    import numpy
    if target.shape and (isinstance(value, (str, bytes)) or len(value) != len(target)):
        raise ValueError(f"{what} has the shape {target.shape}")
    if target.shape:
        for i, part in enumerate(value):
            _assign_texts(target[i:i + 1].reshape(target.shape[1:]), part, f"{what}[{i}]")
        return
    raw = value.encode() if isinstance(value, str) else value
    if not isinstance(raw, (bytes, numpy.bytes_)):
        raise TypeError(f"{what} is text: it takes bytes or str, not {type(value).__name__}")
    if len(raw) > target.dtype.itemsize:
        raise ValueError(f"{what} has {target.dtype.itemsize} bytes, not {len(raw)}")
    target[...] = raw


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
