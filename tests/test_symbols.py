"""Names for addresses of the kernel and of processes."""
from __future__ import annotations

import ctypes
import os
import resource
import shutil
import struct
import subprocess
import sys
import tracemalloc

import pytest

from pylbpf import symbols

GETPID = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value or 0


def test_of_this_process():
    me = symbols.Process(os.getpid())
    found = me.resolve(GETPID)
    assert "getpid" in found.name and found.offset == 0 and "libc" in found.module
    assert me.resolve(GETPID + 1)._replace(offset=0) == found and str(found).endswith("+0x0")
    assert me.resolve(1) is None and me.resolve(1 << 63) is None and len(me) > 3


def test_of_the_vdso_only_its_name_is_known():
    [start] = [start for start, _, _, path in symbols.Process(os.getpid()).maps if path == "[vdso]"][:1] or [None]
    assert start is None or symbols.Process(os.getpid()).resolve(start) == ("", 0, "[vdso]")


def test_of_a_process_that_is_gone():
    gone = symbols.Process(0x7FFFFFFF)
    assert len(gone) == 0 and gone.resolve(GETPID) is None


def test_of_another_process_whose_file_was_deleted(tmp_path):
    copy = tmp_path / "sleep"
    shutil.copy(shutil.which("sleep"), copy)
    with subprocess.Popen([copy, "60"]) as child:
        try:
            copy.unlink()
            process = symbols.Process(child.pid)
            assert all(process.resolve(start) is not None for start, *_ in process.maps)
        finally:
            child.kill()


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200, b"#!/bin/sh"], ids=len)
def test_files_that_are_no_elf(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    file = symbols.File(str(tmp_path / "file"))
    assert file.resolve(0) is None and file.segments == []


def test_files_are_read_once():
    here = symbols.Process(os.getpid())
    one = [here.file(start, end, path) for start, end, _, path in here.maps if path.startswith("/")]
    other = [here.file(start, end, path) for start, end, _, path in here.maps if path.startswith("/")]
    assert all(a is b for a, b in zip(one, other)) and sys.executable


def test_of_the_kernel():
    kernel = symbols.kernel()
    if not len(kernel):
        pytest.skip("kernel addresses: hidden by kernel.kptr_restrict")
    [address] = kernel.addresses["schedule"][:1]
    assert kernel.resolve(address).name in {name for name, places in kernel.addresses.items() if address in places}
    assert kernel.resolve(address + 1).offset == 1 and kernel.resolve(0) is None
    assert symbols.kernel() is kernel and len(symbols.Kernel()) > 0


@pytest.mark.parametrize("strings", [b"x" * (1 << 20), (b"x" * 65535 + b"\0") * 16])
def test_names_that_overlap_cost_no_memory(tmp_path, strings):
    """3000 symbols in a megabyte without an end, and in 16 strings of 64 KiB."""
    count = 3000
    table = b"".join(struct.pack("=IBBHQQ", at, 2, 0, 1, at, 1) for at in range(count))
    header = b"\x7fELF" + bytes([2, 1 if sys.byteorder == "little" else 2, 1]) + bytes(9) + struct.pack(
        "=HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64 + len(table) + len(strings), 0, 64, 56, 0, 64, 2, 0)
    sections = struct.pack("=IIQQQQIIQQ", 0, 2, 0, 0, 64, len(table), 1, 0, 8, 24)
    sections += struct.pack("=IIQQQQIIQQ", 0, 3, 0, 0, 64 + len(table), len(strings), 0, 0, 1, 0)
    (tmp_path / "forged").write_bytes(header + table + strings + sections)
    tracemalloc.start()
    try:
        symbols.File(str(tmp_path / "forged"))
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_could_not_be_opened_is_tried_again(tmp_path):
    identity = (1, 2, 3, 4)
    (tmp_path / "later").write_text("x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        first = symbols.file_of(str(tmp_path / "later"), identity)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert first.again and identity not in symbols._files
    assert not symbols.file_of(str(tmp_path / "later"), identity).again
    del symbols._files[identity]
