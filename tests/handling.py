"""Handlers that remember what was done with them, and the libbpf of this process as somebody else would use it."""
from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

import objects
import pylbpf

RAW = pylbpf.ProgramType.RAW_TRACEPOINT
HIT = "task_rename"  # where programs are attached: kernel.rename_task() trips it


class Recorder(pylbpf.ProgramHandler):
    """Makes raw tracepoint programs, and remembers its calls."""

    program_type = RAW

    def __init__(self, section: str | None = None, **declared: Any) -> None:
        super().__init__(section=section, **declared)
        self.calls: list[tuple[str, str]] = []

    def setup(self, program: pylbpf.Program) -> None:
        self.calls.append(("setup", program.name))

    def prepare_load(self, program: pylbpf.Program, opts: pylbpf.LoadOpts) -> None:
        self.calls.append(("prepare_load", program.name))

    def attach(self, program: pylbpf.Program) -> pylbpf.Link:
        self.calls.append(("attach", program.name))
        return program.attach_raw_tracepoint(HIT)

    def names(self, kind: str) -> list[str]:
        return [name for called, name in self.calls if called == kind]


def steady(value: object) -> str:
    """For ids=: repr() without addresses. Tests have the same names in each process, so they can be shared out."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def rest() -> pylbpf.ProgramHandler:
    """A declarative handler for every program that has no other, so that the object can be loaded."""
    return pylbpf.ProgramHandler(program_type=RAW)


def value(map: pylbpf.Map, slot: int) -> int:
    """The 64-bit number in a slot of an array map."""
    return int.from_bytes(map.lookup(slot.to_bytes(4, sys.byteorder)), sys.byteorder)


def count_this_process(obj: pylbpf.Object) -> None:
    """Tell a loaded object of objects.many(by_process=True) what to count."""
    counts = obj.maps["counts"]
    counts.update((counts.max_entries - 1).to_bytes(4, sys.byteorder), os.getpid().to_bytes(8, sys.byteorder))


@contextlib.contextmanager
def registered(*handlers: pylbpf.ProgramHandler) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for handler in handlers:
            stack.enter_context(pylbpf.register(handler))
        yield


def gil_takes() -> int:
    return pylbpf.handler_stats().gil_acquired


def environment() -> dict[str, str]:
    """For another interpreter that is to find this pylbpf and these tests, wherever it runs."""
    paths = [str(objects.ROOT / "tests"), str(Path(pylbpf.__file__).resolve().parent.parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_python(code: str, *, timeout: float = 240, **variables: str) -> str:
    """Run code in a fresh interpreter that finds these tests; what it printed."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False,
                            env={**environment(), **variables})
    assert result.returncode == 0, result.stderr
    return result.stdout


def libbpf() -> ctypes.CDLL:
    """The very library that pylbpf uses; skips where that is not a shared one."""
    return declared(SharedLibbpf(pylbpf.libbpf_path(), use_errno=True))


class SharedLibbpf(ctypes.CDLL):
    """libbpf under its own names, also where pylbpf has brought it along under others."""

    def __getattr__(self, name: str):
        if pylbpf.get_libraries() != ["bpf"]:
            function = self["pylbpf__" + name]
            setattr(self, name, function)
            return function
        return super().__getattr__(name)


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer = ctypes.c_void_p
    library.bpf_object__open_mem.restype = pointer
    library.bpf_object__open_mem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, pointer]
    library.bpf_object__load.argtypes = [pointer]
    library.bpf_object__close.argtypes = [pointer]
    library.bpf_object__close.restype = None
    library.bpf_object__gen_loader.argtypes = [pointer, pointer]
    library.bpf_object__find_program_by_name.restype = pointer
    library.bpf_object__find_program_by_name.argtypes = [pointer, ctypes.c_char_p]
    library.bpf_object__next_program.restype = pointer
    library.bpf_object__next_program.argtypes = [pointer, pointer]
    library.bpf_program__type.argtypes = [pointer]
    library.bpf_program__flags.argtypes = [pointer]
    library.bpf_program__set_type.argtypes = [pointer, ctypes.c_int]
    library.bpf_program__fd.argtypes = [pointer]
    library.bpf_program__set_autoload.argtypes = [pointer, ctypes.c_bool]
    library.bpf_program__attach.restype = pointer
    library.bpf_program__attach.argtypes = [pointer]
    library.bpf_link__destroy.argtypes = [pointer]
    return library


def overridden(name: str) -> bool:
    """Whether an entry in libbpf's own table stands before a section that can be attached: it has no answer then."""
    library = libbpf()
    kind = ctypes.c_int()
    return library.libbpf_attach_type_by_name(name.encode(), ctypes.byref(kind)) < 0


def compiler_flags(*, cflags: bool = True, libs: bool = True) -> list[str]:
    """What C code needs to use the libbpf that pylbpf uses; skips where that cannot be compiled."""
    if shutil.which("cc") is None:
        pytest.skip("C compiler: not installed")
    flags = []
    if cflags:
        flags += ["-I", pylbpf.get_include()]
    if libs:
        flags += [*(f"-L{folder}" for folder in pylbpf.get_library_dirs()), *(f"-l{name}" for name in pylbpf.get_libraries())]
    if pylbpf.get_libraries() == ["bpf"]:
        flags += system_flags(*["--cflags"] * cflags, *["--libs"] * libs)
    return flags


def system_flags(*options: str) -> list[str]:
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config: not installed")
    found = subprocess.run(["pkg-config", *options, "libbpf"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("libbpf headers: not installed")
    return found.stdout.split()


def compile_c(source: str, output: Path) -> Path:
    """A shared library of C that uses libbpf and pylbpf's header."""
    made = subprocess.run(
        ["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-x", "c", "-", "-o", output, *compiler_flags()],
        input=source, capture_output=True, text=True, check=False,
    )
    assert made.returncode == 0, made.stderr
    return output
