#!/usr/bin/env python3
"""Link, and make functions that are alike one: fold.py PYTHON-WITH-ZIG ARGUMENT..., the arguments of zig cc

zig cc does not hand --icf on to lld. But it says how it calls lld, and that is done once more, with the option. In a file with
all rooms what Cython adds to each of them is there once then, which is a sixth of the file.
"""
from __future__ import annotations

import subprocess
import sys


def main() -> int:
    zig = [sys.argv[1], "-m", "ziglang"]
    done = subprocess.run([*zig, "cc", *sys.argv[2:], "-v"], stderr=subprocess.PIPE, text=True)
    calls = [line for line in done.stderr.splitlines() if line.startswith("ld.lld ")]
    if done.returncode or not calls:
        sys.stderr.write(done.stderr)
        return done.returncode or 1
    # It is not quoted: no name may have a blank.
    return subprocess.run([*zig, *calls[-1].split(), "--icf=all"]).returncode


if __name__ == "__main__":
    sys.exit(main())
