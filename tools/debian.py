"""What is taken from Debian, of any suite and architecture, without touching this system: packages and root file systems."""
from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pylbpf" / "debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# The Python of each suite.
SUITES = {"bullseye": "3.9", "bookworm": "3.11", "trixie": "3.13", "sid": "3.14"}
PROGRAMS = {"mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static"}


def call(*command: str | Path, **options: object) -> str:
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(map(str, command[:4]))}… has failed")
    return str(done.stdout)


def program(name: str) -> str:
    """A program that may have to be installed first."""
    if not (found := shutil.which(name)):
        call("apt-get", "-qq", "install", "-y", "--no-install-recommends", PROGRAMS[name], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        found = shutil.which(name)
    return found or sys.exit(f"please install {PROGRAMS[name]}")


def mirror() -> str:
    """Where the packages of this machine come from, if that is Debian."""
    found = call("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    return next((url for url in found if url.rstrip("/").endswith("/debian")), "http://deb.debian.org/debian")


@contextlib.contextmanager
def making(target: Path) -> Iterator[Path | None]:
    """A folder that becomes `target` when all went well; None if another process has made that meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            yield None
            return
        folder = Path(tempfile.mkdtemp(prefix="making-", dir=CACHE))
        try:
            yield folder
            folder.chmod(0o755)
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def unpacked(suite: str, package: str, arch: str = "x86_64") -> Path:
    """The files of one package."""
    target = CACHE / f"{package}-{suite}-{arch}"
    with making(target) as folder:
        if folder:
            for name in ("lists", "archives"):
                (folder / "apt" / name / "partial").mkdir(parents=True)
            debian = ARCHITECTURES[arch]
            (folder / "apt/sources.list").write_text(f"deb [arch={debian} signed-by={KEYRING}] {mirror()} {suite} main\n")
            options = [f"-o{name}" for name in (
                f"Dir::Etc::sourcelist={folder}/apt/sources.list", "Dir::Etc::sourceparts=/dev/null", f"Dir::Cache={folder}/apt",
                f"Dir::State::lists={folder}/apt/lists", f"APT::Architecture={debian}", f"APT::Architectures={debian}",
                "Acquire::Check-Valid-Until=false", "APT::Sandbox::User=root")]
            call("apt-get", *options, "-qq", "update")
            call("apt-get", *options, "-qq", "download", package, cwd=folder)
            (archive,) = folder.glob("*.deb")
            call("dpkg-deb", "-x", archive, folder)
            archive.unlink()
            shutil.rmtree(folder / "apt")
    return target


def python_headers(version: str, arch: str) -> list[Path]:
    """Folders to include for a Python that is not here."""
    suite = next((suite for suite, its in SUITES.items() if its == version), None)
    if suite is None:
        sys.exit(f"Python {version} is not here, and no suite of Debian has its headers")
    folder = unpacked(suite, f"libpython{version}-dev", arch) / "usr/include"
    return [folder / f"python{version}", folder]


def root(suite: str, arch: str) -> Path:
    """A small system: what every Debian has, and Python."""
    target = CACHE / f"root-{suite}-{arch}"
    with making(target) as folder:
        if folder:
            debian = ARCHITECTURES[arch]
            # Without distutils, which was a part of Python once, pip does not start.
            python = "python3,python3-distutils" if suite == "bullseye" else "python3"
            options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
            options += ['--aptopt=Acquire::Check-Valid-Until "false"', f"--include={python}", f"--architectures={debian}"]
            source = f"deb [signed-by={KEYRING}] {mirror()} {suite} main"
            if arch == os.uname().machine:
                call(program("mmdebstrap"), "--quiet", "--mode=root", "--variant=minbase", *options, suite, folder, source)
            else:  # nothing of it can run yet
                call(program("mmdebstrap"), "--quiet", "--mode=root", "--variant=extract", "--skip=check/qemu", *options,
                     "--include=base-files,coreutils,dash,libstdc++6,linux-libc-dev,media-types,mount,netbase,procps", suite, folder, source)
                for name in ("bin", "sbin", "lib"):
                    if not (folder / name).exists():
                        (folder / name).symlink_to(f"usr/{name}")
                (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
                (folder / "etc/group").write_text("root:x:0:\n")
    return target


def python_of(folder: Path) -> str:
    """The version of a root file system's Python."""
    return re.sub("^python", "", os.readlink(folder / "usr/bin/python3"))
