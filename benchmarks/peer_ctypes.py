"""The peer: libbpf called through ctypes, as one would without pylbpf. No checks, no life-cycles, no error objects."""
from __future__ import annotations

import contextlib
import ctypes
import os
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_long, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from time import thread_time_ns as now
from typing import Any, Callable, Iterator, Optional

libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)

Setup = CFUNCTYPE(c_int, c_void_p, c_long)
PrepareLoad = CFUNCTYPE(c_int, c_void_p, c_void_p, c_long)
Attach = CFUNCTYPE(c_int, c_void_p, c_long, POINTER(c_void_p))
Sample = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


class HandlerOpts(Structure):
    _fields_ = [
        ("sz", c_size_t), ("cookie", c_long), ("setup", Setup), ("prepare_load", PrepareLoad), ("attach", Attach),
    ]


for _name, _result, *_arguments in (
    ("bpf_object__open_file", c_void_p, c_char_p, c_void_p),
    ("bpf_object__open_mem", c_void_p, c_char_p, c_size_t, c_void_p),
    ("bpf_object__load", c_int, c_void_p),
    ("bpf_object__close", None, c_void_p),
    ("bpf_object__next_program", c_void_p, c_void_p, c_void_p),
    ("bpf_object__find_program_by_name", c_void_p, c_void_p, c_char_p),
    ("bpf_object__find_map_fd_by_name", c_int, c_void_p, c_char_p),
    ("bpf_program__fd", c_int, c_void_p),
    ("bpf_program__set_autoload", c_int, c_void_p, c_int),
    ("bpf_program__insns", c_void_p, c_void_p),
    ("bpf_program__insn_cnt", c_size_t, c_void_p),
    ("bpf_program__attach", c_void_p, c_void_p),
    ("bpf_program__attach_iter", c_void_p, c_void_p, c_void_p),
    ("bpf_link__destroy", c_int, c_void_p),
    ("bpf_map_update_elem", c_int, c_int, c_void_p, c_void_p, c_uint64),
    ("bpf_map_lookup_elem", c_int, c_int, c_void_p, c_void_p),
    ("bpf_map_delete_elem", c_int, c_int, c_void_p),
    ("libbpf_register_prog_handler", c_int, c_char_p, c_uint32, c_uint32, POINTER(HandlerOpts)),
    ("libbpf_unregister_prog_handler", c_int, c_int),
    ("ring_buffer__new", c_void_p, c_int, Sample, c_void_p, c_void_p),
    ("ring_buffer__consume", c_int, c_void_p),
    ("ring_buffer__free", None, c_void_p),
):
    _function = getattr(libbpf, _name)
    _function.restype = _result
    _function.argtypes = _arguments


def failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def programs_of(object: int) -> list[int]:
    found = []
    program = libbpf.bpf_object__next_program(object, None)
    while program:
        found.append(program)
        program = libbpf.bpf_object__next_program(object, program)
    return found


def open_object(source: Path | bytes) -> int:
    if isinstance(source, bytes):
        object = libbpf.bpf_object__open_mem(source, len(source), None)
    else:
        object = libbpf.bpf_object__open_file(os.fsencode(source), None)
    if not object:
        raise failed()
    return object


def open_and_close(source: Path | bytes, programs: int) -> dict[str, int]:
    start = now()
    object = open_object(source)
    opened = now() - start
    assert len(programs_of(object)) == programs
    start = now()
    libbpf.bpf_object__close(object)
    return {"open": opened, "close": now() - start}


def handlers(path: Path, section: str, program_type: int, *, programs: int) -> dict[str, int]:
    """Open and load with two callbacks in Python."""
    calls = {"setup": 0, "prepare_load": 0}

    def setup(program: int, cookie: int) -> int:
        calls["setup"] += 1
        return 0

    def prepare_load(program: int, opts: int, cookie: int) -> int:
        calls["prepare_load"] += 1
        return 0

    opts = HandlerOpts(ctypes.sizeof(HandlerOpts), 0, Setup(setup), PrepareLoad(prepare_load), Attach())
    registered = libbpf.libbpf_register_prog_handler(section.encode(), program_type, 0, byref(opts))
    if registered < 0:
        raise OSError(-registered, os.strerror(-registered))
    times = {}
    start = now()
    object = open_object(path)
    times["open"] = now() - start
    start = now()
    error = libbpf.bpf_object__load(object)
    times["load"] = now() - start
    found = programs_of(object)
    assert not error and len(found) == programs and all(libbpf.bpf_program__fd(program) >= 0 for program in found)
    start = now()
    libbpf.bpf_object__close(object)
    times["close"] = now() - start
    libbpf.libbpf_unregister_prog_handler(registered)
    assert calls == dict.fromkeys(calls, programs)
    return times


@contextlib.contextmanager
def dispatching(path: Path, section: str, program_type: int) -> Iterator[Callable[[], dict[str, int]]]:
    """A function that attaches all programs of an object, whose handler returns no link."""

    def attach(program: int, cookie: int, link: Any) -> int:
        return 0

    opts = HandlerOpts(ctypes.sizeof(HandlerOpts), 0, Setup(), PrepareLoad(), Attach(attach))
    registered = libbpf.libbpf_register_prog_handler(section.encode(), program_type, 0, byref(opts))
    object = open_object(path)
    assert libbpf.bpf_object__load(object) == 0

    def run() -> dict[str, int]:
        next_program, attach_program = libbpf.bpf_object__next_program, libbpf.bpf_program__attach
        start = now()
        program = next_program(object, None)
        while program:
            attach_program(program)
            program = next_program(object, program)
        return {"attach": now() - start}

    yield run
    libbpf.bpf_object__close(object)
    libbpf.libbpf_unregister_prog_handler(registered)


class Insn(Structure):
    _fields_ = [("code", ctypes.c_uint8), ("regs", ctypes.c_uint8), ("off", ctypes.c_int16), ("imm", ctypes.c_int32)]


def insns(program: int, times: int, count: int) -> int:
    """The instructions as a ctypes array on libbpf's memory."""
    insns, insn_cnt = libbpf.bpf_program__insns, libbpf.bpf_program__insn_cnt
    start = now()
    for _ in range(times):
        view = (Insn * insn_cnt(program)).from_address(insns(program))
    took = now() - start
    assert len(view) == count
    return took


def map_elements(fd: int, keys: list[bytes], values: list[bytes]) -> dict[str, int]:
    lookup, update, delete = libbpf.bpf_map_lookup_elem, libbpf.bpf_map_update_elem, libbpf.bpf_map_delete_elem
    times = {}
    start = now()
    for key, value in zip(keys, values):
        if update(fd, key, value, 0):
            raise failed()
    times["update"] = now() - start
    buffer = ctypes.create_string_buffer(8)
    found = []
    start = now()
    for key in keys:
        if lookup(fd, key, buffer):
            raise failed()
        found.append(buffer.raw)
    times["lookup"] = now() - start
    assert found == values
    start = now()
    for key in keys:
        if delete(fd, key):
            raise failed()
    times["delete"] = now() - start
    return times


def drain(map_fd: int, callback: Callable[[Optional[int], int, int], int]) -> int:
    function = Sample(callback)
    ring = libbpf.ring_buffer__new(map_fd, function, None, None)
    start = now()
    code = libbpf.ring_buffer__consume(ring)
    took = now() - start
    libbpf.ring_buffer__free(ring)
    assert code >= 0
    return took


def links(program: int, n: int) -> dict[str, int]:
    attach, destroy = libbpf.bpf_program__attach_iter, libbpf.bpf_link__destroy
    start = now()
    made = [attach(program, None) for _ in range(n)]
    attached = now() - start
    assert all(made)
    start = now()
    for link in made:
        destroy(link)
    return {"attach": attached, "destroy": now() - start}
