"""The package, built for a suite in its root image."""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Iterator

from host import ROOT, NoMachine, call, say
from image import image, in_chroot

LIB = "build/lib"  # as the guest sees it
BUILD = f"""
python3 setup.py -q build --build-lib {LIB} --build-temp build/temp --parallel {os.cpu_count() or 1} >build/log 2>&1 ||
    {{ tail -n 50 build/log >&2; exit 1; }}
PYTHONPATH=tests PYLBPF_TEST_CACHE=build/bpf python3 -c 'import objects; objects.build_all()'
# Not for its result: the tests are compiled here, which takes the guest long.
PYTHONPATH={LIB} PYTHONPYCACHEPREFIX=build/pycache python3 -m pytest -q -p no:cacheprovider --collect-only >/dev/null 2>&1 || true
"""


@contextlib.contextmanager
def package(suite: str, arch: str) -> Iterator[Path]:
    """A folder build/vm/SUITE with pylbpf in lib/ and the tests' BPF objects in bpf/; it stays as it is meanwhile."""
    if arch != "amd64":
        yield from_wheel(suite, arch)
        return
    folder = ROOT / "build" / "vm" / suite
    (folder / "bpf").mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        key, made = key_of(suite), folder / "key"
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not made.exists() or made.read_text() != key:
            fcntl.flock(lock, fcntl.LOCK_EX)    # when all others that use it have ended
        if not made.exists() or made.read_text() != key:
            say(f"building for {suite}")
            made.unlink(missing_ok=True)
            reuse(folder)
            if in_chroot(suite, folder, "sh", "-c", BUILD):
                raise SystemExit(f"run vm: pylbpf cannot be built for {suite}")
            made.write_text(key)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield folder


def from_wheel(suite: str, arch: str) -> Path:
    """The newest wheel of dist/ that is for it."""
    machine = {"arm64": "aarch64"}[arch]
    python = call("debugfs", "-R", "stat /usr/bin/python3", image(suite, arch))
    abi = "cp" + "".join(re.findall(r"python(\d)\.(\d+)", python)[0])
    wheels = sorted((ROOT / "dist").glob(f"pylbpf-*-{abi}-{abi}-*{machine}.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        raise NoMachine(f"there is no wheel of {abi} for {machine} in dist/")
    folder = ROOT / "build" / "vm" / f"{suite}-{arch}"
    shutil.rmtree(folder / "lib", ignore_errors=True)
    shutil.unpack_archive(wheels[-1], folder / "lib", "zip")
    (folder / "bpf").mkdir(exist_ok=True)
    for made in (ROOT / ".cache" / f"bpf-{machine}").glob("*"):  # by the tests of wheels
        if made.is_dir():
            shutil.copytree(made, folder / "bpf" / made.name, dirs_exist_ok=True)
    return folder


def key_of(suite: str) -> str:
    sources = [ROOT / "setup.py", *(path for place in ("src", "include", "tests/bpf")
                                    for path in (ROOT / place).rglob("*") if path.suffix not in (".so", ".pyc"))]
    contents = hashlib.sha256(f"{image(suite).name}{BUILD}".encode())
    for path in sorted(path for path in sources if path.is_file()):
        contents.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return contents.hexdigest()


def reuse(folder: Path) -> None:
    """Take what this machine's own build and tests have made, where it is the same: C code, and BPF objects, which are
    found by what they were made from."""
    for made in (ROOT / ".cache" / "bpf").glob("*"):
        if made.is_dir() and not (folder / "bpf" / made.name).exists():
            shutil.copytree(made, folder / "bpf" / made.name)
    if not (folder / "cython").exists() and (ROOT / "build/cython").exists():
        shutil.copytree(ROOT / "build/cython", folder / "cython")  # with its times
