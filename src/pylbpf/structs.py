"""A struct among the global variables: its members are attributes, which live and are set as a whole or not at all."""
from __future__ import annotations

from typing import Any

import numpy


class Struct(numpy.record):  # type: ignore[misc]  # final, say the stubs of numpy
    """A record of numpy's whose members come before what numpy itself has of that name, such as size, flags and data.

    What does not fit a member is refused: numpy would cut it.
    """

    def __getattribute__(self, name: str) -> Any:
        if name[:2] != "__":
            names = numpy.void.__getattribute__(self, "dtype").names
            if names and name in names:
                return self[name]
        return super().__getattribute__(name)

    def __getitem__(self, index: Any) -> Any:
        return _shown(numpy.void.__getitem__(self, index))

    def __setattr__(self, name: str, value: Any) -> None:
        _set(self, name, value, AttributeError)

    def __setitem__(self, name: Any, value: Any) -> None:
        if isinstance(name, str):
            _set(self, name, value, KeyError)
        else:
            _set(self, numpy.void.__getattribute__(self, "dtype").names[name], value, KeyError)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *numpy.void.__getattribute__(self, "dtype").names})


class Structs(numpy.recarray):
    """An array of them."""

    def __getitem__(self, index: Any) -> Any:
        return _shown(super().__getitem__(index))


def _shown(found: Any) -> Any:
    """What is a struct, or an array of structs, as one of ours."""
    if getattr(found, "dtype", None) is None or found.dtype.names is None:
        return found
    return found.view(Structs) if isinstance(found, numpy.ndarray) else found.view((Struct, found.dtype))


def _set(struct: Struct, name: str, value: Any, error: type[Exception]) -> None:
    from .fields import no_field, put
    dtype = numpy.void.__getattribute__(struct, "dtype")
    if name not in dtype.names:
        raise error(no_field(dtype, name, "the struct"))
    member = dtype.fields[name][0]
    new = numpy.zeros((1, *member.shape), member.base)
    new[0] = numpy.void.__getitem__(struct, name)       # what a dict leaves out stays
    put(new, value, f"field {name!r}")
    numpy.void.__setitem__(struct, name, new[0])
