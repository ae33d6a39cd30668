"""The C floor of whole maps, as a library in this process."""
from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_int, c_int64, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from floor import build, check

SOURCE = Path(__file__).with_name("floor_elements.c")
CHUNK = 1 << 16


class ElementsFloor:
    """floor_elements.c with its types; a negative result is an OSError."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(build(SOURCE)))
        for name, *arguments in (
            ("read", c_int, c_uint32, c_uint32, POINTER(c_int64), POINTER(c_uint64)),
            ("read_into", c_int, c_void_p, c_void_p, c_uint32, c_uint32, POINTER(c_int64), POINTER(c_uint32)),
            ("update", c_int, c_void_p, c_void_p, c_uint32, c_uint32, POINTER(c_int64)),
            ("delete", c_int, c_void_p, c_uint32, c_uint32, POINTER(c_int64)),
        ):
            function = getattr(self.library, f"elements_{name}")
            function.argtypes = arguments
            function.errcheck = check

    def read(self, fd: int, n: int) -> tuple[int, int]:
        """Time, and the sum of the values."""
        took, total = c_int64(), c_uint64()
        self.library.elements_read(fd, n, CHUNK, byref(took), byref(total))
        return took.value, total.value

    def read_into(self, fd: int, keys: Any, values: Any) -> int:
        took, count = c_int64(), c_uint32()
        self.library.elements_read_into(fd, keys.ctypes.data, values.ctypes.data, len(keys), CHUNK, byref(took), byref(count))
        assert count.value == len(keys)
        return took.value

    def update(self, fd: int, keys: Any, values: Any) -> int:
        took = c_int64()
        self.library.elements_update(fd, keys.ctypes.data, values.ctypes.data, len(keys), CHUNK, byref(took))
        return took.value

    def delete(self, fd: int, keys: Any) -> int:
        took = c_int64()
        self.library.elements_delete(fd, keys.ctypes.data, len(keys), CHUNK, byref(took))
        return took.value
