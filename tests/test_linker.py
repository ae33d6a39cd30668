"""Several object files made into one."""
from __future__ import annotations

import os

import pytest

import objects
import pylbpf
from pylbpf import Linker, link_files

MAIN = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
extern int twice(int x);
SEC("raw_tp/task_rename") int on_rename(void *ctx) { return twice(0); }
char _license[] SEC("license") = "GPL";
"""
LIBRARY = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int twice(int x);
__noinline int twice(int x) { asm volatile("" : "+r"(x)); return 2 * x; }
"""


@pytest.fixture(scope="module")
def parts(bpf_objects):
    return objects.build(MAIN, "link_main"), objects.build(LIBRARY, "link_library")


def test_files_are_linked(parts, tmp_path):
    output = tmp_path / "whole.bpf.o"
    link_files(output, *parts)
    with pylbpf.open(output) as obj:
        assert "on_rename" in obj.programs
    assert os.listdir(tmp_path) == ["whole.bpf.o"]
    assert output.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.bpf
def test_linked_program_loads(parts, tmp_path):
    link_files(tmp_path / "whole.bpf.o", parts[0].read_bytes(), parts[1])
    with pylbpf.open(tmp_path / "whole.bpf.o") as obj:
        obj.load()
        assert [program.fd >= 0 for program in obj.programs.values()] == [True]


def test_what_is_there_stays_if_linking_fails(parts, tmp_path):
    output = tmp_path / "whole.bpf.o"
    output.write_bytes(b"before")
    with pytest.raises(pylbpf.BpfError, match="link .*link_library"):
        link_files(output, parts[0], parts[1], parts[1])  # twice() twice
    assert output.read_bytes() == b"before" and os.listdir(tmp_path) == ["whole.bpf.o"]
    with pytest.raises(FileNotFoundError):
        link_files(output, parts[0], tmp_path / "missing.o")
    with pytest.raises(pylbpf.BpfError, match="link buffer into"):
        link_files(output, b"no object at all")
    with pytest.raises(pylbpf.BpfError):
        link_files(output, parts[0].read_bytes()[:500])
    with pytest.raises(ValueError, match="nothing to link"):
        link_files(output)
    assert output.read_bytes() == b"before" and os.listdir(tmp_path) == ["whole.bpf.o"]


def test_linker_by_hand(parts, tmp_path):
    output = tmp_path / "whole.bpf.o"
    with Linker(output) as linker:
        linker.add_file(parts[0])
        assert repr(linker).endswith("open>")
        linker.add_buffer(memoryview(parts[1].read_bytes()), name="library " * 40)
        linker.finalize()
        for operation in (linker.finalize, lambda: linker.add_file(parts[0]), lambda: linker.add_buffer(b"")):
            with pytest.raises(ValueError, match="is closed"):
                operation()
    linker.close()
    assert output.exists() and linker.path == str(output)


def test_linker_that_is_left_leaves_nothing(parts, tmp_path):
    with Linker(tmp_path / "whole.bpf.o") as linker:
        linker.add_file(parts[0])
    del linker
    Linker(tmp_path / "whole.bpf.o")
    assert os.listdir(tmp_path) == []


def test_linker_with_half_a_file_is_of_no_use(parts, tmp_path):
    with Linker(tmp_path / "whole.bpf.o") as linker:
        linker.add_file(parts[1])
        with pytest.raises(pylbpf.BpfError):
            linker.add_file(parts[1])
        with pytest.raises(pylbpf.StateError, match="begin anew"):
            linker.finalize()


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        Linker(tmp_path / "none" / "whole.bpf.o")


def test_a_forked_child_leaves_the_parents_linker_alone(parts, tmp_path):
    output = tmp_path / "all.bpf.o"
    with pylbpf.Linker(output) as linker:
        linker.add_file(parts[0])
        child = os.fork()
        if child == 0:
            try:
                linker.finalize()
            except pylbpf.StateError:
                linker.close()
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        linker.finalize()
    assert output.exists()
