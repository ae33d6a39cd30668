"""Versions, and where the headers are."""
import os as _os

from .c cimport libbpf

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
