"""Versions, and where the headers and libbpf are."""
import os as _os

from .c cimport libbpf

# Of a libbpf that the package brings along.
_LIBRARY = _os.path.join(_os.path.dirname(__file__), "lib")

__version__ = "0.1.0"


def libbpf_version():
    """Version of the libbpf that runs, as (major, minor). Source: libbpf_major_version(), libbpf_minor_version()."""
    return libbpf.libbpf_major_version(), libbpf.libbpf_minor_version()


def libbpf_version_string():
    """Version of the libbpf that runs, as it calls itself ("v1.7"). Source: libbpf_version_string()."""
    return libbpf.libbpf_version_string().decode()


def get_include():
    """Folder of the C headers: compile with -I of it to include pylbpf/handler.h, or to cimport from pylbpf."""
    package = _os.path.dirname(__file__)
    installed = _os.path.join(package, "include")
    # In a checkout that is installed in place the headers are at the top.
    return installed if _os.path.isdir(installed) else _os.path.normpath(_os.path.join(package, "..", "..", "include"))


def get_libraries():
    """Names of the libraries that C code of yours must be linked with to use the libbpf that pylbpf uses.

    For ``libraries`` of a setuptools Extension, whose ``library_dirs`` are those of get_library_dirs(): ["bpf"], or
    ["bpf-pylbpf"] where pylbpf brings its own along. That one is found at run time once pylbpf is imported.
    """
    return ["bpf-pylbpf" if _os.path.isdir(_LIBRARY) else "bpf"]


def get_library_dirs():
    """Folders of what get_libraries() names: compile with -L of each. Empty for the system's libbpf."""
    return [_LIBRARY] if _os.path.isdir(_LIBRARY) else []


def libbpf_path():
    """File of the libbpf that runs, or None where that cannot be seen. Source: libbpf_version_string(), proc(5)."""
    cdef size_t address = <size_t>&libbpf.libbpf_version_string
    try:
        with open("/proc/self/maps") as maps:
            for line in maps:
                first, last = line.partition(" ")[0].split("-")
                if int(first, 16) <= address < int(last, 16):
                    path = line.split(maxsplit=5)[5].strip()
                    return path if _os.path.exists(path) else None      # after chroot(2) it is that of another root
    except OSError:     # no /proc
        if _os.path.isdir(_LIBRARY):
            return _os.path.join(_LIBRARY, "libbpf-pylbpf.so")
    return None
