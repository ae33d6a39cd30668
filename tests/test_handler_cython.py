"""Somebody else's Cython module subclasses ProgramHandler, and its nogil methods run without the GIL."""
from __future__ import annotations

import errno
import subprocess
import sys

import pytest

import kernel
import pylbpf
from handling import RAW, compiler_flags, environment, rest, value

pytest.importorskip("Cython", reason="Cython: not installed")

MODULE = """
# cython: language_level=3
from libc.errno cimport errno
from pylbpf.c cimport bpf, libbpf, uapi
from pylbpf.handlers cimport ProgramHandler


cdef class Native(ProgramHandler):
    cdef readonly int setups, prepared, attached
    cdef public int result, positive

    cdef int setup_nogil(self, libbpf.bpf_program *program) noexcept nogil:
        self.setups += 1
        libbpf.bpf_program__set_type(program, <uapi.bpf_prog_type>17)
        return self.result or self.positive

    cdef int prepare_load_nogil(self, libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts) noexcept nogil:
        self.prepared += 1
        opts.prog_flags |= 4
        return self.positive

    cdef int attach_nogil(self, const libbpf.bpf_program *program, libbpf.bpf_link **link) noexcept nogil:
        self.attached += 1
        link[0] = libbpf.bpf_program__attach_raw_tracepoint(program, b"task_rename")
        return 0 if link[0] != NULL else -errno


cdef class OnlySetup(ProgramHandler):
    cdef readonly int setups

    cdef int setup_nogil(self, libbpf.bpf_program *program) noexcept nogil:
        self.setups += 1
        return 0
"""

SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup
import pylbpf

setup(name="thirdhandlers", ext_modules=cythonize([Extension(
    "thirdhandlers", ["thirdhandlers.pyx"],
    include_dirs=[pylbpf.get_include()],
    library_dirs=pylbpf.get_library_dirs(),
    libraries=pylbpf.get_libraries(),
    extra_compile_args=["-Wall", "-Werror", "-O0"],
)]))
"""


@pytest.fixture(scope="module")
def third_party(tmp_path_factory):
    flags = {"CFLAGS": " ".join(compiler_flags(libs=False)), "LDFLAGS": " ".join(compiler_flags(cflags=False))}
    folder = tmp_path_factory.mktemp("thirdhandlers")
    (folder / "thirdhandlers.pyx").write_text(MODULE)
    (folder / "setup.py").write_text(SETUP)
    build = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=folder, env={**environment(), **flags},
                           capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    sys.path.insert(0, str(folder))
    try:
        import thirdhandlers
        return thirdhandlers
    finally:
        sys.path.remove(str(folder))


@pytest.fixture
def plain(bpf_object):
    return bpf_object("handlers")


@pytest.mark.bpf
def test_cdef_subclass_runs_without_the_gil(third_party, plain):
    handler = third_party.Native()
    before = pylbpf.handler_stats()
    with pylbpf.open(plain, handlers=[handler]) as obj:
        obj.load()
        assert len(obj.attach()) == 7
        kernel.rename_task()
        assert value(obj.maps["hits"], 0) >= 1
    stats = pylbpf.handler_stats() - before
    assert (handler.setups, handler.prepared, handler.attached) == (9, 7, 7)
    assert (stats.setup, stats.prepare_load, stats.attach, stats.gil_acquired) == (9, 7, 7, 0)


@pytest.mark.bpf
def test_methods_that_are_not_overridden_are_not_counted(third_party, plain):
    handler = third_party.OnlySetup(program_type=RAW)
    before = pylbpf.handler_stats()
    with pylbpf.open(plain, handlers=[handler]) as obj:
        obj.load()
        assert len(obj.attach()) == 0
        with pytest.raises(pylbpf.BpfError) as caught:
            obj.programs["on_sample"].attach()
        assert caught.value.errno == errno.EOPNOTSUPP
    stats = pylbpf.handler_stats() - before
    assert (stats.setup, stats.prepare_load, stats.attach, stats.gil_acquired) == (9, 0, 0, 0)
    assert handler.setups == 9


def test_negative_result_aborts(third_party, plain):
    handler = third_party.Native()
    handler.result = -errno.EXDEV
    with pytest.raises(pylbpf.BpfError) as caught:
        pylbpf.open(plain, handlers=[handler])
    assert caught.value.errno == errno.EXDEV and handler.setups == 1


@pytest.mark.bpf
def test_positive_result_is_success(third_party, plain):
    handler = third_party.Native()
    handler.positive = 5
    with pylbpf.open(plain, handlers=[handler]) as obj:
        obj.load()
    assert (handler.setups, handler.prepared) == (9, 7)


@pytest.mark.bpf
def test_python_subclass_of_a_cdef_subclass(third_party, plain):
    """The nogil method runs first, then the Python one of the same kind."""
    seen = []

    class Both(third_party.Native):
        section = "probe/"

        def setup(self, program):
            seen.append((program.name, self.setups, program.type))

        def prepare_load(self, program, opts):
            seen.append((program.name, self.prepared, int(opts.prog_flags)))

    handler = Both()
    before = pylbpf.handler_stats()
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        obj.load()
        assert len(obj.attach()) == 3
    assert seen == [("probe_one", 1, RAW), ("probe_two", 2, RAW), ("probe_bare", 3, RAW), ("probe_off", 4, RAW),
                    ("probe_one", 1, 4), ("probe_two", 2, 4), ("probe_bare", 3, 4)]
    assert (pylbpf.handler_stats() - before).gil_acquired == 7
    assert handler.attached == 3


@pytest.mark.bpf
def test_python_attach_replaces_the_native_one(third_party, plain):
    class Python(third_party.Native):
        def attach(self, program):
            return None

    handler = Python()
    with pylbpf.open(plain, handlers=[handler]) as obj:
        obj.load()
        assert len(obj.attach()) == 0
    assert handler.attached == 0


@pytest.mark.bpf
def test_override_by_a_cdef_subclass(third_party, bpf_object):
    handler = third_party.Native(section="raw_tp+")
    before = pylbpf.handler_stats()
    with pylbpf.register(handler), pylbpf.open(bpf_object("override")) as obj:
        obj.load()
        assert len(obj.attach()) == 1
    assert (handler.setups, handler.prepared, handler.attached) == (2, 1, 1)
    assert (pylbpf.handler_stats() - before).gil_acquired == 0


@pytest.mark.bpf
def test_handler_outlives_its_registration(third_party, plain):
    registration = pylbpf.register(third_party.Native())
    with pylbpf.open(plain) as obj:
        registration.unregister()
        del registration
        obj.load()
        assert len(obj.attach()) == 7
        assert obj.programs["on_sample"].handler.attached == 7
