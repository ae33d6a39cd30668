"""The C floor as a library in this process: compiled from floor.c when it has changed."""
from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shlex
import subprocess
import tempfile
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int64, c_long, c_size_t, c_uint64, c_void_p, create_string_buffer
from pathlib import Path
from typing import Any, Callable, Iterator

SOURCE = Path(__file__).with_name("floor.c")
BUILD = SOURCE.parent.parent / "build" / "bench"


class Phases(Structure):
    _fields_ = [(name, c_int64) for name in ("open", "load", "attach", "close")]

    def times(self, *names: str) -> dict[str, int]:
        return {name: getattr(self, name) for name in names}


class Effects(Structure):
    _fields_ = [(name, c_long) for name in ("programs", "loaded", "setup", "prepare_load", "attach")]


class MapTimes(Structure):
    _fields_ = [("update", c_int64), ("lookup", c_int64), ("delete", c_int64), ("sum", c_uint64)]


class Drained(Structure):
    _fields_ = [("records", c_long), ("bytes", c_long), ("copy", c_void_p), ("sum", c_uint64)]


def compiler() -> list[str]:
    return [*shlex.split(os.environ.get("CC", "cc")), "-O2"]


def build(source: Path = SOURCE) -> Path:
    flags = shlex.split(subprocess.check_output(["pkg-config", "--cflags", "--libs", "libbpf"], text=True))
    command = [*compiler(), "-std=gnu11", "-shared", "-fPIC", str(source), *flags]
    made_from = hashlib.sha256(source.read_bytes() + repr(command).encode()).hexdigest()[:16]
    library = BUILD / f"{source.stem}-{made_from}.so"
    if not library.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            subprocess.run([*command, "-o", f"{folder}/floor.so"], check=True)
            os.rename(f"{folder}/floor.so", library)
    return library


class Floor:
    """floor.c with its types; a negative result is an OSError."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(build()))
        self.library.floor_libbpf.restype = c_char_p
        for name, *arguments in (
            ("open", c_char_p, c_void_p, c_size_t, POINTER(Phases), POINTER(Effects)),
            ("handlers", c_char_p, c_char_p, c_int, c_int, POINTER(Phases), POINTER(Effects)),
            ("insns", c_void_p, c_long, POINTER(c_int64), POINTER(c_long)),
            ("variable", c_void_p, c_long, POINTER(c_int64), POINTER(c_int64), POINTER(c_uint64)),
            ("members", c_char_p, POINTER(c_int64), POINTER(c_int64), POINTER(c_long)),
            ("map", c_int, c_uint64, POINTER(MapTimes)),
            ("values", c_int, c_uint64, POINTER(c_int64)),
            ("walk", c_int, POINTER(c_int64), POINTER(c_long)),
            ("run", c_int, c_int),
            ("drain", c_int, c_void_p, c_int, POINTER(c_int64), POINTER(Drained)),
            ("consume", c_int, c_void_p, c_int64, POINTER(Drained)),
            ("links", c_void_p, c_long, POINTER(c_int64), POINTER(c_int64)),
        ):
            function = getattr(self.library, f"floor_{name}")
            function.argtypes = arguments
            function.errcheck = check

    @property
    def libbpf(self) -> str:
        return os.path.realpath(os.fsdecode(self.library.floor_libbpf()))

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """libbpf's print function as it would be without pylbpf."""
        self.library.floor_begin()
        try:
            yield
        finally:
            self.library.floor_end()

    def quietly(self, measure: Callable[[], Any]) -> Callable[[], Any]:
        """The same measurement, without pylbpf listening to libbpf."""

        def run() -> Any:
            with self.silence():
                return measure()

        return run

    def open(self, source: Path | bytes, programs: int) -> dict[str, int]:
        times, effects = Phases(), Effects()
        with self.silence():
            if isinstance(source, bytes):
                self.library.floor_open(None, source, len(source), byref(times), byref(effects))
            else:
                self.library.floor_open(os.fsencode(source), None, 0, byref(times), byref(effects))
        assert effects.programs == programs
        return times.times("open", "close")

    def handlers(
        self, path: Path, section: str, program_type: int, *, callbacks: bool, programs: int
    ) -> dict[str, int]:
        times, effects = Phases(), Effects()
        with self.silence():
            self.library.floor_handlers(
                os.fsencode(path), section.encode(), program_type, callbacks, byref(times), byref(effects)
            )
        called = programs if callbacks else 0
        assert (effects.programs, effects.loaded) == (programs, programs)
        assert (effects.setup, effects.prepare_load, effects.attach) == (called, called, called)
        return times.times("open", "load", *(["attach"] if callbacks else []), "close")

    def insns(self, program: int, times: int, count: int) -> int:
        took, counted = c_int64(), c_long()
        self.library.floor_insns(program, times, byref(took), byref(counted))
        assert counted.value == count
        return took.value

    def variable(self, address: int, times: int) -> dict[str, int]:
        read, write, total = c_int64(), c_int64(), c_uint64()
        self.library.floor_variable(address, times, byref(read), byref(write), byref(total))
        return {"read": read.value, "write": write.value}

    def members(self, name: str) -> dict[str, int]:
        load, find, count = c_int64(), c_int64(), c_long()
        with self.silence():
            self.library.floor_members(name.encode(), byref(load), byref(find), byref(count))
        assert count.value > 0
        return {"load": load.value, "type": find.value}

    def map(self, fd: int, n: int) -> dict[str, int]:
        times = MapTimes()
        self.library.floor_map(fd, n, byref(times))
        assert times.sum == n * (n + 1) // 2
        return {"update": times.update, "lookup": times.lookup, "delete": times.delete}

    def values(self, fd: int, n: int) -> dict[str, int]:
        took = c_int64()
        self.library.floor_values(fd, n, byref(took))
        return {"lookup": took.value}

    def walk(self, fd: int, n: int) -> dict[str, int]:
        took, count = c_int64(), c_long()
        self.library.floor_walk(fd, byref(took), byref(count))
        assert count.value == n
        return {"walk": took.value}

    def drain(self, map_fd: int, records: int, size: int, *, copy: Any = None, total: Any = None) -> int:
        """Count the records, copy them, or sum up their first field."""
        took, drained = c_int64(), Drained()
        with self.silence():
            self.library.floor_drain(map_fd, copy, total is not None, byref(took), byref(drained))
        assert (drained.records, drained.bytes) == (records, records * size)
        assert total is None or drained.sum == total
        return took.value

    def consume(self, map_fd: int, size: int, seconds: float) -> int:
        """Records that come in some seconds, each copied."""
        drained = Drained()
        with self.silence():
            self.library.floor_consume(map_fd, create_string_buffer(size), int(seconds * 1e9), byref(drained))
        return drained.records

    def links(self, program: int, n: int) -> dict[str, int]:
        attach, destroy = c_int64(), c_int64()
        with self.silence():
            self.library.floor_links(program, n, byref(attach), byref(destroy))
        return {"attach": attach.value, "destroy": destroy.value}


def check(result: int, function: Any, arguments: Any) -> int:
    if result < 0:
        raise OSError(-result, f"{function.__name__}: {os.strerror(-result)}")
    return result
