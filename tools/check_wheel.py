#!/usr/bin/env python3
"""Check wheels that bring their libbpf along: check_wheel.py WHEEL...

Nothing may be undefined but what Python, libc and the library inside have; the file of the rooms exports PyInit functions
only, the library its renamed functions only. What other people's code needs is there, and the licences are. Needs readelf.
"""
from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Iterator

LARGEST = 2_500_000
LIBRARY, ROOMS = "libbpf-pylbpf.so", "pylbpf-rooms.so"
SYSTEM = re.compile(r"(libc|libm|libdl|librt|libpthread|ld-linux.*)\.so\.\d+")
WANTED = (
    "__init__.pyi", "py.typed", "handlers.pxd", "handle.pxd", "c/libbpf.pxd", "demo/demo.bpf.o", f"lib/{LIBRARY}", "include/pylbpf/pylbpf.h",
    "include/pylbpf/compat.h", "include/pylbpf/handler.h", "include/bpf/libbpf.h", "include/bpf/pylbpf_names.h",
)
LICENCES = (
    "LICENSE", "LICENSE.BSD-2-Clause", "LICENSE.LGPL-2.1", "bundled/README", "bundled/libbpf/LICENSE",
    "bundled/libbpf/LICENSE.LGPL-2.1", "bundled/libbpf/LICENSE.BSD-2-Clause", "bundled/elfutils/COPYING", "bundled/elfutils/COPYING-GPLV2",
    "bundled/elfutils/COPYING-LGPLV3", "bundled/zlib/LICENSE",
)


def readelf(path: Path, *options: str) -> str:
    return subprocess.run(["readelf", "-W", *options, path], check=True, capture_output=True, text=True).stdout


def symbols(path: Path) -> tuple[set[str], set[str]]:
    """What it asks others for, with the version asked for, and what it offers."""
    asked, offered = set(), set()
    for line in readelf(path, "--dyn-syms").splitlines():
        found = re.match(r"\s*\d+: \w+\s+\w+ \w+\s+(GLOBAL|WEAK)\s+\w+\s+(\w+) (\S+)", line)
        if found:
            (asked if found[2] == "UND" else offered).add(found[3])
    return asked, offered


def complaints(folder: Path) -> Iterator[str]:
    package = folder / "pylbpf"
    for name in WANTED:
        if not (package / name).exists():
            yield f"pylbpf/{name} is missing"
    (licences,) = folder.glob("*.dist-info/licenses")
    for name in LICENCES:
        if not (licences / name).exists():
            yield f"the licence text {name} is missing"
    known = r"Py\w+|_Py\w+|_ITM_\w+|__gmon_start__|__cxa_finalize|.*@GLIBC_[\d.]+( \(\d+\))?"
    rooms = {f"PyInit_{name}" for name in (package / "pylbpf-rooms.txt").read_text().split()}
    if symbols(package / ROOMS)[1] != rooms:
        yield f"{ROOMS} does not export what the text beside it says"
    for library in folder.rglob("*.so*"):
        name = str(library.relative_to(package))
        asked, offered = symbols(library)
        if strange := sorted(symbol for symbol in asked if not re.fullmatch(known if library.name == LIBRARY else rf"{known}|pylbpf__\w+", symbol)):
            yield f"{name} asks for {', '.join(strange)}"
        if strange := sorted(symbol for symbol in offered if not re.fullmatch(r"pylbpf__\w+" if library.name == LIBRARY else r"PyInit_\w+", symbol)):
            yield f"{name} exports {', '.join(strange)}"
        dynamic = readelf(library, "--dynamic")
        needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)) - {LIBRARY}
        if strange := sorted(other for other in needed if not SYSTEM.fullmatch(other)):
            yield f"{name} needs {', '.join(strange)}"
        path = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.+)\]", dynamic)
        if path != ([] if library.name == LIBRARY else ["$ORIGIN/lib"]):
            yield f"{name} looks for libraries in {path}"
    if {str(library.relative_to(package)) for library in folder.rglob("*.so*")} != {f"lib/{LIBRARY}", ROOMS}:
        yield "there are other libraries than the two"


def newest_glibc(folder: Path) -> str:
    versions = {
        tuple(map(int, version.split(".")))
        for path in folder.rglob("*.so") for version in re.findall(r"@GLIBC_([\d.]+)", readelf(path, "--dyn-syms"))
    }
    return ".".join(map(str, max(versions)))


def main(wheels: list[str]) -> int:
    status = 0
    for wheel in wheels:
        size = Path(wheel).stat().st_size
        with tempfile.TemporaryDirectory() as folder:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            found = list(complaints(Path(folder)))
            if size > LARGEST:
                found.append(f"{size} bytes are more than {LARGEST}")
            print(f"{Path(wheel).name}: {size / 1e6:.2f} MB, glibc {newest_glibc(Path(folder))}", *found, sep="\n  ")
            status |= bool(found)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
