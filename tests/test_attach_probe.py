"""Probes of functions: alone, many by one link, USDT."""
from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import tempfile
import time
from pathlib import Path

import pytest

import kernel
import pylbpf
import usdt
from attaching import count, loaded, take
from handling import compile_c
from pylbpf import ProbeAttachMode

VERSION = pylbpf.libbpf_version()
pytestmark = pytest.mark.bpf

LIBRARY = "".join(f"int fun_{name}(int x) {{ return x + {at}; }}\n" for at, name in enumerate(("one", "two", "three")))


@pytest.fixture
def probes(bpf_object):
    with contextlib.ExitStack() as stack:
        yield lambda *names: stack.enter_context(loaded(bpf_object("probes"), *names))


@pytest.fixture(scope="module")
def library():
    """A library with three functions, and call(name). Its path is short: before libbpf 1.6 it has to fit into the name of a
    legacy probe, 63 letters."""
    with tempfile.TemporaryDirectory(prefix="plb") as folder:
        path = Path(folder, "three.so")
        compile_c(LIBRARY, path)
        functions = ctypes.CDLL(str(path))
        yield path, lambda name: getattr(functions, f"fun_{name}")(1)


@pytest.fixture
def many(probes, library):
    """The program for many uprobes, where there is a way to attach it."""
    if reason := kernel.no_uprobe_multi():
        pytest.skip(reason)
    if VERSION < (1, 3):
        pytest.skip("libbpf >= 1.3: uprobe.multi")
    obj = probes("many_uprobes")
    return obj, obj.programs["many_uprobes"]


# ---------------------------------------------------------------- uprobe.multi


def test_uprobe_multi_by_pattern(many, library):
    obj, program = many
    path, call = library
    with program.attach_uprobe_multi(path, "fun_t*", pid=0) as link:
        for name in ("one", "two", "two", "three"):
            call(name)
        assert take(obj, 0) == 3
        info = link.info()
        assert info.path == str(path) and len(info.offsets) == 2
    call("two")
    assert take(obj, 0) == 0


def test_uprobe_multi_by_names_and_by_offsets_with_cookies(many, library):
    obj, program = many
    path, call = library
    with program.attach_uprobe_multi(path, syms=["fun_one", "fun_three"], cookies=[1, 3]) as link:
        for name in ("one", "two", "three", "three"):
            call(name)
        assert [take(obj, slot) for slot in range(4)] == [0, 1, 0, 2]
        offsets = dict(zip(link.info().cookies, link.info().offsets))
    with program.attach_uprobe_multi(path, offsets=[offsets[3]], cookies=(5,), retprobe=True):
        call("three"), call("one")
        assert [take(obj, slot) for slot in (1, 3, 5)] == [0, 0, 1]


def test_uprobe_multi_of_what_is_not_there(many, library, tmp_path):
    _, program = many
    path, _ = library
    for where, options in ((path, {"pattern": "nothing*"}), (path, {"syms": ["fun_four"]}),
                           (path, {"offsets": [1 << 40]}), ("/there/is/no/such", {"pattern": "*"})):
        with pytest.raises(pylbpf.BpfError, match="attach uprobe.multi"):
            program.attach_uprobe_multi(where, **options)


@pytest.mark.parametrize("options, says", [
    ({}, "give a pattern, or syms, or offsets"),
    ({"pattern": "a", "syms": ["b"]}, "give a pattern, or syms, or offsets"),
    ({"pattern": "a", "cookies": [1]}, "go with syms or offsets"),
    ({"syms": ["a", "b"], "cookies": [1]}, "cookies has 1 elements, the others have 2"),
    ({"syms": []}, "no function to attach to"),
    ({"syms": ["a\0b"]}, "NUL in syms"),
    ({"offsets": [-1]}, "offsets: "),
    ({"offsets": [1], "cookies": [1 << 64]}, "cookies: "),
])
def test_uprobe_multi_options_that_do_not_fit(probes, options, says):
    program = probes("one_kprobe").programs["one_kprobe"]
    with pytest.raises(ValueError, match=says):
        program.attach_uprobe_multi("/bin/true", **options)


def test_names_are_a_list(probes):
    program = probes("one_kprobe").programs["one_kprobe"]
    with pytest.raises(TypeError, match="syms must be a list of names"):
        program.attach_uprobe_multi("/bin/true", syms="main")
    with pytest.raises(TypeError, match="syms must be a list of names"):
        program.attach_kprobe_multi(syms="main")


def test_uprobe_multi_of_an_older_libbpf_names_the_version(probes):
    if VERSION >= (1, 3):
        pytest.skip("libbpf < 1.3: an older one lacks uprobe.multi")
    with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.3"):
        probes("one_kprobe").programs["one_kprobe"].attach_uprobe_multi("/bin/true", "main")


def test_session_needs_a_newer_libbpf(probes):
    program = probes("one_kprobe").programs["one_kprobe"]
    if VERSION < (1, 6):
        with pytest.raises(pylbpf.NotSupported, match=r"session needs libbpf 1\.6"):
            program.attach_uprobe_multi("/bin/true", "main", session=True)
        with pytest.raises(pylbpf.NotSupported, match=r"unique_match needs libbpf 1\.6"):
            program.attach_kprobe_multi("do_*", unique_match=True)
    else:  # a program that was not loaded for it
        with pytest.raises(pylbpf.BpfError):
            program.attach_uprobe_multi("/bin/true", offsets=[16], session=True)


# ---------------------------------------------------------------- uprobe


@pytest.mark.parametrize("mode", list(ProbeAttachMode))
def test_uprobe_attach_mode(bpf_object, library, mode, requires_uprobe):
    path, call = library
    with loaded(bpf_object("uprobe"), "on_entry") as obj:
        program = obj.programs["on_entry"]
        if VERSION < (1, 2) and mode:
            with pytest.raises(pylbpf.NotSupported, match=r"attach_mode needs libbpf 1\.2"):
                program.attach_uprobe(path, function="fun_one", pid=0, attach_mode=mode)
            return
        if mode == ProbeAttachMode.LEGACY and not kernel.tracefs():
            pytest.skip("tracefs: not mounted")
        with program.attach_uprobe(path, function="fun_one", pid=0, attach_mode=mode):
            call("one")
            assert take(obj, 0) == 1
        call("one")
        assert take(obj, 0) == 0


# ---------------------------------------------------------------- USDT


def test_usdt(bpf_objects, requires_uprobe):
    with pylbpf.open(usdt.build(2)) as obj:
        obj.load()
        program = obj.programs["u1"]
        with program.attach_usdt(usdt.library(), "pylbpf", "probe", pid=0) as link:
            usdt.trip(3)
            assert count(obj, 1) == 3
            for operation in (link.fileno, link.info, lambda: link.update(program), link.detach, link.disconnect):
                with pytest.raises(pylbpf.NotSupported, match="USDT"):
                    operation()
        usdt.trip(2)
        assert count(obj, 1) == 3
        for wrong in (("pylbpf", "no_such"), ("nobody", "probe")):
            with pytest.raises(pylbpf.BpfError, match=f"usdt .*:{wrong[0]}:{wrong[1]}"):
                program.attach_usdt(usdt.library(), *wrong)
        link = program.attach_usdt(usdt.library(), "pylbpf", "probe")
    assert link.closed  # with its object, which has its books


# ---------------------------------------------------------------- kernel functions


def test_kprobe_multi(probes):
    if reason := kernel.no_kprobe_multi():
        pytest.skip(reason)
    try:
        obj = probes("many_kprobes")
        link = obj.programs["many_kprobes"].attach_kprobe_multi(syms=["do_nanosleep", "hrtimer_nanosleep"], cookies=[1, 2])
    except pylbpf.BpfError as error:
        assert error.errno == errno.EOPNOTSUPP
        pytest.skip("kprobe.multi: the kernel was built without CONFIG_FPROBE")
    with link:
        time.sleep(0.001)
        assert take(obj, 1) and take(obj, 2)
        assert sorted(link.info().cookies) == [1, 2]
    with obj.programs["many_kprobes"].attach_kprobe_multi("do_nanoslee?"):
        time.sleep(0.001)
    assert take(obj, 0)


@pytest.mark.parametrize("options, says", [
    ({}, "give a pattern, or syms, or addrs"),
    ({"pattern": "a", "addrs": [1]}, "give a pattern, or syms, or addrs"),
    ({"pattern": "a", "cookies": [1]}, "not with a pattern"),
    ({"addrs": [1, 2, 3], "cookies": [1]}, "cookies has 1 elements, the others have 3"),
    ({"addrs": []}, "no function to attach to"),
    ({"addrs": [1 << 64]}, "addrs: "),
])
def test_kprobe_multi_options_that_do_not_fit(probes, options, says):
    with pytest.raises(ValueError, match=says):
        probes("one_kprobe").programs["one_kprobe"].attach_kprobe_multi(**options)


def test_kprobe_multi_of_what_is_not_there(probes):
    program = probes("one_kprobe").programs["one_kprobe"]
    before = sorted(os.listdir("/proc/self/fd"))
    for options in ({"pattern": "there_is_no_such_*"}, {"syms": ["there_is_no_such"]}, {"addrs": [1]}):
        with pytest.raises(pylbpf.BpfError, match="attach kprobe.multi"):
            program.attach_kprobe_multi(**options)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_kprobe_at_an_address(probes):
    program = probes("one_kprobe").programs["one_kprobe"]
    with pytest.raises(ValueError, match="needs a function, or an address"):
        program.attach_kprobe(None)
    if VERSION < (1, 8):
        with pytest.raises(pylbpf.NotSupported, match=r"a kprobe at an address needs libbpf 1\.8"):
            program.attach_kprobe(None, offset=0xFFFFFFFF81000000)


def test_ksyscall(probes):
    obj = probes("on_syscall")
    program = obj.programs["on_syscall"]
    if kernel.no_kprobe():
        with pytest.raises(pylbpf.BpfError, match="ksyscall nanosleep"):
            program.attach_ksyscall("nanosleep")
        pytest.skip(kernel.no_kprobe())
    with program.attach_ksyscall("clock_nanosleep", cookie=3):
        time.sleep(0.001)
    assert take(obj, 3)
    with pytest.raises(pylbpf.BpfError, match="ksyscall there_is_no_such"):
        program.attach_ksyscall("there_is_no_such")


def test_kprobe_and_its_return(probes, requires_kprobe):
    obj = probes("one_kprobe")
    program = obj.programs["one_kprobe"]
    with program.attach_kprobe("do_nanosleep", cookie=1) as link, program.attach_kprobe(
            "do_nanosleep", retprobe=True, cookie=2):
        time.sleep(0.001)
        assert take(obj, 1) and take(obj, 2)
        assert link.info().kind in ("kprobe", "")  # "" before Linux 6.6
    time.sleep(0.001)
    assert not take(obj, 1) and not take(obj, 2)


def test_struct_of_counts_is_what_the_tests_think(probes):
    assert struct.calcsize("=Q") == probes("one_kprobe").maps["counts"].value_size
