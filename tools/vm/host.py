"""This machine: where things are kept, what has to be installed, where packages come from."""
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

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pylbpf" / "vm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# program -> the Debian package that has it
EMULATORS = {"amd64": ("qemu-system-x86_64", "qemu-system-x86"), "arm64": ("qemu-system-aarch64", "qemu-system-arm")}
PROGRAMS = {
    "mmdebstrap": "mmdebstrap", "busybox": "busybox-static", "cpio": "cpio",
    "depmod": "kmod", "zstd": "zstd", "mke2fs": "e2fsprogs", "unshare": "util-linux", "dpkg-deb": "dpkg",
}


class NoMachine(Exception):
    """There is no machine to run in: that says nothing about what was to run."""


def say(text: str) -> None:
    print(f"· {text}", file=sys.stderr, flush=True)


def call(*command: str | Path, **options: object) -> str:
    """Run a command; what it printed. NoMachine with its words if it fails."""
    done = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise NoMachine(f"{' '.join(map(str, command[:3]))}… failed\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def install_programs(arch: str) -> None:
    if os.geteuid():
        raise NoMachine("only root can make root images and mount them")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    wanted = [package for program, package in [EMULATORS[arch], *PROGRAMS.items()] if not shutil.which(program)]
    wanted += [] if os.path.exists(KEYRING) else ["debian-archive-keyring"]
    if not wanted:
        return
    words = " ".join(wanted)
    if os.environ.get("PYLBPF_NO_APT") or not shutil.which("apt-get"):
        raise NoMachine(f"please install: apt-get install {words}")
    say(f"distribution packages: {words}")
    quiet = ("-qq", "-o", "DPkg::Lock::Timeout=600", "--no-install-recommends")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with contextlib.suppress(NoMachine):  # the lists that are here may do
        call("apt-get", *quiet, "update", env=environment)
    call("apt-get", *quiet, "install", "-y", *wanted, env=environment)


def accelerator(arch: str) -> str:
    """kvm where the processor itself runs guests. A /dev/kvm without that is slower than QEMU's translator."""
    if arch != call("dpkg", "--print-architecture").strip():
        return "tcg"
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    return "kvm" if os.access("/dev/kvm", os.W_OK) and flags & {"vmx", "svm"} else "tcg"


def sources_list(suite: str) -> str:
    """apt's lines for a suite, on the mirrors that the packages of this machine come from."""
    found = call("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages")
    mirrors = dict(line.split() for line in found.splitlines())
    codename = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    main = os.environ.get("PYLBPF_VM_MIRROR") or mirrors.get(codename.group(1) if codename else "")
    if not main:
        raise NoMachine("apt knows no mirror of Debian here: name one in PYLBPF_VM_MIRROR")
    lines = [(main, suite)]
    if suite != "sid":
        lines.append((main, f"{suite}-updates"))
        lines += [(url, f"{suite}-security") for name, url in mirrors.items() if name.endswith("-security")][:1]
    return "".join(f"deb [signed-by={KEYRING}] {url} {name} main\n" for url, name in lines)


def apt_options() -> list[str]:
    """How this machine reaches its mirrors: proxies, certificates."""
    wanted = re.compile(r"^(Acquire::(?:Check-|Retries|\w+::(?:Proxy|CA|Verify|Timeout)).*?) (\".*\");$", re.MULTILINE)
    return [f"{name} {value}" for name, value in wanted.findall(call("apt-config", "dump"))]


@contextlib.contextmanager
def making(target: Path) -> Iterator[Path]:
    """A folder to make something in. One is made at a time; what is moved to `target` is there whole or not at all."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in CACHE.glob("making-*"):  # by a run that was broken off
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="making-", dir=CACHE))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
