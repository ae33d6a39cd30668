"""The C floor of calls on many things at once, floor_batch.c, as a library in this process."""
from __future__ import annotations

import contextlib
import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int64, c_long, c_void_p
from pathlib import Path
from typing import Iterator, Sequence

from floor import build, check

SOURCE = Path(__file__).with_name("floor_batch.c")


class LoadTimes(Structure):
    _fields_ = [("load", c_int64), ("close", c_int64), ("loaded", c_long), ("programs", c_long)]


class VerifyTimes(Structure):
    _fields_ = [("took", c_int64), ("refused", c_long), ("accepted", c_long), ("rejected", c_long)]


class LinkTimes(Structure):
    _fields_ = [("attach", c_int64), ("destroy", c_int64), ("links", c_long)]


class BatchFloor:
    """floor_batch.c with its types; a negative result is an OSError."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(build(SOURCE)))
        for name, *arguments in (
            ("load", POINTER(c_char_p), c_long, POINTER(LoadTimes)),
            ("verify", POINTER(c_char_p), c_long, POINTER(VerifyTimes)),
            ("links", c_void_p, c_long, POINTER(LinkTimes)),
            ("xdp", c_void_p, POINTER(c_int), c_long, POINTER(LinkTimes)),
            ("tcx", c_void_p, POINTER(c_int), c_long, POINTER(LinkTimes)),
        ):
            function = getattr(self.library, f"batch_{name}")
            function.argtypes = arguments
            function.errcheck = check
        self.library.batch_open.restype = c_void_p
        self.library.batch_open.argtypes = [c_char_p, POINTER(c_int)]
        self.library.batch_close.argtypes = [c_void_p]

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """What libbpf prints is dropped, and does not come to pylbpf."""
        self.library.batch_begin()
        try:
            yield
        finally:
            self.library.batch_end()

    def load(self, paths: Sequence[Path], programs: int | None = None) -> dict[str, int]:
        """Open and load each; `programs` is how many there must be in the end."""
        times = LoadTimes()
        with self.silence():
            self.library.batch_load(names(paths), len(paths), byref(times))
        assert times.loaded == len(paths) and times.programs == (programs or times.programs)
        return {"load": times.load, "close": times.close}

    def verify(self, paths: Sequence[Path]) -> VerifyTimes:
        times = VerifyTimes()
        with self.silence():
            self.library.batch_verify(names(paths), len(paths), byref(times))
        return times

    @contextlib.contextmanager
    def loaded(self, path: Path) -> Iterator[int]:
        """A loaded bpf_object, for the links."""
        error = c_int()
        with self.silence():
            found = self.library.batch_open(os.fsencode(path), byref(error))
        check(error.value, self.library.batch_open, ())
        try:
            yield found
        finally:
            self.library.batch_close(found)

    def links(self, loaded: int, n: int) -> dict[str, int]:
        """Attach the first n programs by their sections, and destroy the links."""
        times = LinkTimes()
        with self.silence():
            self.library.batch_links(loaded, n, byref(times))
        assert times.links == n
        return {"attach": times.attach, "destroy": times.destroy}

    def interfaces(self, loaded: int, kind: str, indexes: Sequence[int]) -> dict[str, int]:
        """Attach a program to each interface, as "xdp" or "tcx", and destroy the links."""
        times = LinkTimes()
        with self.silence():
            attach = getattr(self.library, f"batch_{kind}")
            attach(loaded, (c_int * len(indexes))(*indexes), len(indexes), byref(times))
        assert times.links == len(indexes)
        return {"attach": times.attach, "destroy": times.destroy}


def names(paths: Sequence[Path]) -> ctypes.Array[c_char_p]:
    return (c_char_p * len(paths))(*map(os.fsencode, paths))
