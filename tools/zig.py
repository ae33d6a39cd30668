#!/usr/bin/env python3
"""Make zig's compiler for an old glibc the one of a build: zig.py FOLDER writes FOLDER/cc, ar, ranlib and ld.

They call the ziglang of the Python that runs this. ld is for one file with all rooms: it makes functions that are alike one,
for what Cython adds to each room is a sixth of that file. zig cc does not hand --icf on to lld; but it says how it calls lld,
and that is done once more, with the option.
"""
from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

GLIBC = "2.17"
NAMES = {"CC": "cc", "AR": "ar", "RANLIB": "ranlib", "LDSHARED": "ld"}     # as setuptools and make ask for them


def write(folder: Path, python: str | Path = sys.executable, arch: str = platform.machine()) -> dict[str, str]:
    """The programs, by the names of the environment variables that builds take them from."""
    zig, target = f'"{python}" -m ziglang', f"-target {arch}-linux-gnu.{GLIBC}"
    commands = {"cc": f"{zig} cc {target}", "ar": f"{zig} ar", "ranlib": f"{zig} ranlib",
                "ld": f'"{python}" "{Path(__file__).resolve()}" link {target} -shared'}
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in commands.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)
    return {variable: str(folder / name) for variable, name in NAMES.items()}


def link(*arguments: str) -> int:
    """As zig cc with these arguments, but functions that are alike become one."""
    zig = [sys.executable, "-m", "ziglang"]
    done = subprocess.run([*zig, "cc", *arguments, "-v"], stderr=subprocess.PIPE, text=True)
    calls = [line for line in done.stderr.splitlines() if line.startswith("ld.lld ")]
    if done.returncode or not calls:
        sys.stderr.write(done.stderr)
        return done.returncode or 1
    # It is not quoted: no name may have a blank.
    return subprocess.run([*zig, *calls[-1].split(), "--icf=all"]).returncode


if __name__ == "__main__":
    if sys.argv[1:2] == ["link"]:
        sys.exit(link(*sys.argv[2:]))
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
