"""Which functions of the kernel a pattern means: what libbpf finds for it, in the same order."""
from __future__ import annotations

import contextlib
import ctypes
import random
import re
import struct
from pathlib import Path

import pytest

import kernel
import loaded
import objects
import pylbpf
from pylbpf.functions import addresses_of

ADDRESSED = b"""ffffffff81000010 __ftrace_invalid_address___16
ffffffff81000020 vfs_read
ffffffff81000030 vfs_readv
ffffffff81000040 vfs_read
ffffffff81000050 do_thing [some_module]
ffffffff81000060 a.b_c.isra.0
"""
PATTERNS = ["vfs_read", "vfs_read?", "vfs_read*", "vfs_*v", "*", "?", "**d*", "*thing", "a.b_c*", "*.isra.?", "do_thing", "*r*a*d*"]


def model(pattern: str, lines: str) -> list[int]:
    rule = re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern))
    words = [line.split() for line in lines.splitlines()]
    return [int(address, 16) for address, name, *_ in words if rule.fullmatch(name[:499])]


def found(pattern: str, **files: bytes) -> list[int]:
    try:
        return addresses_of(pattern.encode(), **files)
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("pattern", [*PATTERNS, "", "nothing", "vfs_readvv", "vfs_re", "fs_read"])
def test_patterns(pattern):
    assert found(pattern, addressed=ADDRESSED) == model(pattern, ADDRESSED.decode())


def test_many_patterns():
    rng = random.Random(7)
    names = ["".join(rng.choices("ab_", k=rng.randint(1, 9))) for _ in range(60)]
    lines = "".join(f"{number:x} {name}\n" for number, name in enumerate(names, 0xFFFF0000))
    for _ in range(2000):
        pattern = "".join(rng.choices("ab_*?", k=rng.randint(1, 9)))
        assert found(pattern, addressed=lines.encode()) == model(pattern, lines), pattern


def test_without_addresses_symbols_tell_them():
    """Also of functions that the kernel lists without the suffix that the compiler gave them."""
    symbols = (b"ffffffff81000010 t first\nffffffff81000020 T second\t[module]\nffffffff81000030 t second.llvm.123\n"
               b"ffffffff81000040 d first\nffffffff81000050 T absent\nffffffff81000060 t other.llvm.9\n")
    files = {"available": b"second\nfirst [module]\nthird\n", "symbols": symbols}
    assert found("first", **files) == [0xFFFFFFFF81000010, 0xFFFFFFFF81000040]
    assert found("s*", **files) == [0xFFFFFFFF81000020, 0xFFFFFFFF81000030]
    assert found("second", **files) == [0xFFFFFFFF81000020]
    assert found("*3", **files) == []       # it matches, but not by the name that the kernel lists
    assert found("*", **files) == [0xFFFFFFFF81000000 + at for at in (0x10, 0x20, 0x30, 0x40)]
    assert found("third", **files) == found("absent", **files) == found("other*", **files) == []


def test_odd_files():
    assert found("*", addressed=b"") == found("*", addressed=b"\n\n") == []
    assert found("*", addressed=b"ff name") == [0xFF]
    assert found("n*", addressed=b"ff  " + b"n" * 900 + b" more\n\nfe next\n") == [0xFF, 0xFE]
    assert found("n" * 499, addressed=b"ff " + b"n" * 900) == [0xFF]
    for damaged in (b"ff\n", b"ff name\nfe", b"ff name\nfe\nfd name\n"):
        with pytest.raises(OSError, match="functions"):
            addresses_of(b"*", addressed=damaged)
    with pytest.raises(OSError, match="functions"):
        addresses_of(b"*", available=b"name\n", symbols=b"ff t\nfe t name\n")


@pytest.fixture
def folder(tracefs):
    old = Path("/sys/kernel/debug/tracing")
    return old if old.exists() else tracefs


def test_of_this_kernel(folder):
    path = folder / "available_filter_functions_addrs"
    try:
        lines = path.read_text()
    except OSError as error:
        pytest.skip(f"available_filter_functions_addrs: cannot be read ({error.strerror})")
    for pattern in ["vfs_*", "*", "schedule", "tcp_*_?c*", "no_such_function"]:
        assert found(pattern) == model(pattern, lines)
    # The other way, which is that of older kernels, takes every symbol of such a name, and where the symbol begins.
    files = {"available": (folder / "available_filter_functions").read_bytes(),
             "symbols": Path("/proc/kallsyms").read_bytes()}
    for pattern in ["vfs_*", "tcp_*_?c*"]:
        assert len(found(pattern, **files)) >= len(model(pattern, lines)) > 0


# ---------------------------------------------------------------- attached


def attached_to(link: pylbpf.Link) -> list[int]:
    """The addresses that a kprobe.multi link is on. Linux 6.6."""
    addresses = (ctypes.c_uint64 * 4096)()
    info = ctypes.create_string_buffer(struct.pack("=IIIIQII", 0, 0, 0, 0, ctypes.addressof(addresses), 4096, 0), 128)
    kernel.bpf(loaded.GET_INFO_BY_FD, struct.pack("=IIQ", link.fd, 128, ctypes.addressof(info)))
    return list(addresses[: struct.unpack_from("=I", info, 24)[0]])


SECTIONS = ["kprobe.multi/vfs_*", "kretprobe.multi/vfs_read*", "kprobe.multi/vfs_read", "kprobe.multi/tcp_*_?c*",
            "raw_tp/task_rename", "kprobe.multi/vfs_*"]


@pytest.fixture
def multi(tracefs):
    if reason := kernel.no_kprobe_multi():
        pytest.skip(reason)
    with pylbpf.open(objects.build(objects.many(len(SECTIONS), SECTIONS, with_map=True), "multi")) as obj:
        obj.load()
        yield obj


@pytest.mark.bpf
def test_many_are_attached_to_what_each_would_be(multi):
    with contextlib.ExitStack() as stack:
        alone = [stack.enter_context(program.attach()) for program in multi.programs.values()]
        with pylbpf.attach_many(multi.programs.values()) as links:
            assert [link.program.name for link in links] == list(multi.programs)
            for link, other, section in zip(links, alone, SECTIONS):
                if "multi" in section:
                    assert attached_to(link) == attached_to(other), section
    with multi.attach() as links:
        before = int.from_bytes(multi.maps["counts"].lookup(bytes(4)), "little")
        Path("/proc/version").read_bytes()
        assert int.from_bytes(multi.maps["counts"].lookup(bytes(4)), "little") > before


@pytest.mark.bpf
def test_what_is_not_there_is_told_for_its_program(tracefs):
    if reason := kernel.no_kprobe_multi():
        pytest.skip(reason)
    sections = ["kprobe.multi/vfs_*", "kprobe.multi/there_is_no_such_*", "kprobe.multi/vfs_r*"]
    with pylbpf.open(objects.build(objects.many(3, sections), "multi_missing")) as obj:
        obj.load()
        with pytest.raises(FileNotFoundError) as alone:
            obj.programs["p0001"].attach()
        with pytest.raises(FileNotFoundError, match="p0001") as raised:
            obj.attach()
        assert raised.value.errno == alone.value.errno
        with pylbpf.attach_many([obj], rollback=False) as links:
            assert [link.program.name for link in links] == ["p0000", "p0002"] and len(links.errors) == 1


@pytest.mark.bpf
def test_a_changed_type_is_as_unknown_as_to_libbpf(multi):
    with pylbpf.open(objects.build(objects.many(2, "kprobe.multi/vfs_*"), "multi_changed")) as obj:
        program = obj.programs["p0000"]
        program.type = pylbpf.ProgramType.SOCKET_FILTER
        program.type = pylbpf.ProgramType.KPROBE
        obj.load()
        outcomes = []
        for attach in (program.attach, lambda: pylbpf.attach_many([obj.programs["p0001"], program], rollback=False)):
            try:
                made = attach()
            except pylbpf.BpfError as error:
                outcomes.append(error.errno)
            else:
                outcomes.append(0 if isinstance(made, pylbpf.Link) or len(made) == 2 else 95)
                made.close()
        assert outcomes[0] == outcomes[1]
