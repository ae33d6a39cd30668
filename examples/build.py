#!/usr/bin/env python3
"""Compile the programs of the examples again: needs clang, or the Python package ziglang."""
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "tools"))
import bpfcc  # noqa: E402

if __name__ == "__main__":
    for source in sorted(FOLDER.glob("*.bpf.c")):
        print(bpfcc.compile(source, source.with_suffix("").with_suffix(".bpf.o"), ident=True))
