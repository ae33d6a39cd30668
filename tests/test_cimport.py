"""The shipped mirror serves somebody else's Cython module, on an older libbpf and on a newer one."""
import errno
import os
import subprocess
import sys
import textwrap

import pytest

import pylbpf
from handling import compiler_flags

pytest.importorskip("Cython", reason="Cython: not installed")

SYSTEM = pylbpf.get_libraries() == ["bpf"]

MODULE = """
# cython: language_level=3
from libc.string cimport memset
from pylbpf.c cimport bpf, btf, libbpf, uapi
from pylbpf.c.libbpf cimport bpf_program__clone

cdef const char *heard = NULL


cdef void listener(const char *name, const char *version) noexcept nogil:
    global heard
    heard = name


def listen():
    libbpf.pylbpf_on_missing = listener


def last_heard():
    return None if heard == NULL else heard.decode()


def version():
    return libbpf.libbpf_major_version(), libbpf.libbpf_minor_version()


def missing():
    cdef const char *version = NULL
    cdef const char *name = libbpf.pylbpf_compat_missing(&version)
    return None if name == NULL else (name.decode(), version.decode())


def clone():
    return bpf_program__clone(NULL, NULL)


def new_empty_btf():
    cdef btf.btf_new_opts opts
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    cdef btf.btf *made = btf.btf__new_empty_opts(&opts)
    btf.btf__free(made)
    return made != NULL


def create_token():
    return bpf.bpf_token_create(-1, NULL)


def update_link(uapi.__u32 old_map_fd):
    cdef bpf.bpf_link_update_opts opts
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.old_map_fd = old_map_fd
    return bpf.bpf_link_update(-1, -1, &opts)
"""

SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup
import pylbpf

setup(name="thirdparty", ext_modules=cythonize([Extension(
    "thirdparty", ["thirdparty.pyx"],
    include_dirs=[pylbpf.get_include()],
    library_dirs=pylbpf.get_library_dirs(),
    libraries=pylbpf.get_libraries(),
    extra_compile_args=["-Wall", "-Werror"],
)]))
"""


@pytest.fixture(scope="module")
def third_party(tmp_path_factory):
    """Builds the module once; calling the result evaluates expressions in a fresh interpreter that imports it."""
    flags = {"CFLAGS": " ".join(compiler_flags(libs=False)), "LDFLAGS": " ".join(compiler_flags(cflags=False))}
    folder = tmp_path_factory.mktemp("thirdparty")
    (folder / "thirdparty.pyx").write_text(MODULE)
    (folder / "setup.py").write_text(SETUP)
    build = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder, env={**os.environ, **flags}, capture_output=True, text=True, check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr

    def run(*expressions, **environment):
        code = f"import pylbpf; from thirdparty import *; print([{', '.join(expressions)}])"
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        )
        assert result.returncode == 0, result.stderr
        return eval(result.stdout)

    return run


def older_than(third_party, version, **environment):
    return third_party("version()", **environment)[0] < version


def test_plain_function(third_party):
    major, minor = third_party("version()")[0]
    assert (major, minor) >= (1, 1)


def test_missing_function_fails_and_is_named(third_party):
    if not older_than(third_party, (1, 8)):
        pytest.skip("older libbpf: the installed one has all functions")
    results = third_party("missing()", "clone()", "missing()", "missing()")
    assert results == [None, -errno.EOPNOTSUPP, ("bpf_program__clone", "1.8"), None]


def test_missing_function_that_returns_a_pointer(third_party):
    if not older_than(third_party, (1, 8)):
        pytest.skip("older libbpf: the installed one has all functions")
    assert third_party("new_empty_btf()", "missing()") == [False, ("btf__new_empty_opts", "1.8")]


def test_listener_hears_of_missing_functions(third_party):
    if not older_than(third_party, (1, 8)):
        pytest.skip("older libbpf: the installed one has all functions")
    results = third_party("listen()", "last_heard()", "clone()", "last_heard()")
    assert results == [None, None, -errno.EOPNOTSUPP, "bpf_program__clone"]


def test_weak_function_is_found_at_run_time(third_party, tmp_path):
    """The same binary finds the function as soon as a loaded library has it."""
    if not older_than(third_party, (1, 8)):
        pytest.skip("older libbpf: the installed one has all functions")
    name = "bpf_program__clone" if SYSTEM else "pylbpf__bpf_program__clone"
    source = tmp_path / "newer.c"
    source.write_text(
        textwrap.dedent(f"""
        #define bpf_program__clone {name}
        """ """
        struct bpf_program;
        struct bpf_prog_load_opts;
        int bpf_program__clone(struct bpf_program *prog, const struct bpf_prog_load_opts *opts);
        int bpf_program__clone(struct bpf_program *prog, const struct bpf_prog_load_opts *opts)
        {
            return prog || opts ? -1 : 4242;
        }
        """)
    )
    library = tmp_path / "newer.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    # A sanitizer must stay first of those preloaded.
    preload = ":".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)]))
    assert third_party("clone()", "missing()", LD_PRELOAD=preload) == [4242, None]


def test_newer_libbpf_is_used_by_the_same_binary(third_party):
    """PYLBPF_NEWER_LIBBPF=<folder of a libbpf.so.1 from 1.4 on>."""
    folder = os.environ.get("PYLBPF_NEWER_LIBBPF")
    if not folder or not SYSTEM:
        pytest.skip("newer libbpf: PYLBPF_NEWER_LIBBPF names none")
    assert not older_than(third_party, (1, 4), LD_LIBRARY_PATH=folder)
    result, missing = third_party("create_token()", "missing()", LD_LIBRARY_PATH=folder)
    assert result < 0 and missing is None
    if older_than(third_party, (1, 4)):
        assert third_party("create_token()", "missing()") == [-errno.EOPNOTSUPP, ("bpf_token_create", "1.4")]


def test_longer_struct_is_accepted_by_an_older_libbpf(third_party):
    assert third_party("update_link(0)")[0] in (-errno.EBADF, -errno.EPERM)
    if older_than(third_party, (1, 2)):
        assert third_party("update_link(7)")[0] == -errno.EINVAL


def test_header_is_where_get_include_says():
    assert os.path.isfile(os.path.join(pylbpf.get_include(), "pylbpf", "compat.h"))
