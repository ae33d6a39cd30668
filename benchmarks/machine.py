"""What the figures were measured on."""
from __future__ import annotations

import os
import platform
import re
import subprocess
import sysconfig
from pathlib import Path


def loaded_libbpf() -> str:
    found = re.search(r"\S*/libbpf\.so\S*", Path("/proc/self/maps").read_text())
    return found.group() if found else "?"


def describe() -> dict[str, str]:
    import pylbpf
    from floor import compiler

    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimized = [word for word in ("--enable-optimizations", "--with-lto") if word in flags]
    cc = subprocess.run([*compiler(), "--version"], stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {
        "CPU": f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} logical",
        "kernel": platform.release(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}"
                  f" ({' '.join(optimized) or 'not built with optimizations'})",
        "libbpf": f"{pylbpf.libbpf_version_string()} ({loaded_libbpf()})",
        "pylbpf": pylbpf.__version__,
        "C compiler": cc[0] if cc else "?",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
