"""Handlers that remember what was done with them, and the libbpf of this process as somebody else would use it."""
from __future__ import annotations

import contextlib
import ctypes
import os
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


def run_python(code: str, *, timeout: float = 60, **variables: str) -> str:
    """Run code in a fresh interpreter that finds these tests; what it printed."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False,
                            env={**environment(), **variables})
    assert result.returncode == 0, result.stderr
    return result.stdout


def libbpf() -> ctypes.CDLL:
    """The very library that pylbpf uses; skips where that is not a shared one."""
    with open("/proc/self/maps") as maps:
        found = {line.split()[-1] for line in maps if "/libbpf.so" in line}
    if len(found) != 1:
        pytest.skip(f"libbpf: pylbpf does not use one shared libbpf.so here ({len(found)} are loaded)")
    library = ctypes.CDLL(found.pop(), use_errno=True)
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


def compile_c(source: str, output: Path) -> Path:
    """A shared library of C that uses libbpf and pylbpf's header."""
    for tool in ("cc", "pkg-config"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool}: not installed")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libbpf"], capture_output=True, text=True, check=False)
    if flags.returncode:
        pytest.skip("libbpf: its headers are not installed")
    made = subprocess.run(
        ["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-x", "c", "-", "-o", output, "-I", pylbpf.get_include(),
         *flags.stdout.split()],
        input=source, capture_output=True, text=True, check=False,
    )
    assert made.returncode == 0, made.stderr
    return output
