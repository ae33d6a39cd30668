"""The root image of a suite: its Python, its libbpf, a compiler, and the wheels that the tests need."""
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from host import CACHE, KEYRING, ROOT, apt_options, call, making, say, sources_list

FORMAT = 2  # another number makes all cached images anew
PACKAGES = (
    "python3", "python3-venv", "python3-dev", "gcc", "libc6-dev", "libbpf-dev", "libelf-dev", "zlib1g-dev", "pkg-config",
    "ccache", "iproute2", "kmod", "procps", "util-linux", "binutils",
)
# Of another architecture: nothing is built there, and no package is configured.
FOREIGN = (
    "base-files", "bash", "coreutils", "dash", "grep", "hostname", "iproute2", "kmod", "libstdc++6", "linux-libc-dev", "media-types",
    "mount", "netbase", "procps", "python3", "sed", "util-linux", "busybox-static", "libbpf-dev",
)
WHEELS = (
    "pip", "setuptools", "wheel", "Cython", "numpy", "pytest", "pytest-timeout", "pytest-xdist", "pytest-benchmark",
    "hypothesis", "cffi", "click", "rich", "ziglang",
)
HERE = Path(__file__).resolve().parent
SPARE = 4096  # MiB to write in; the file has holes, and what a run writes is thrown away


def image(suite: str, arch: str = "amd64", more: tuple[str, ...] = ()) -> Path:
    """An ext4 image, with more packages. Nobody writes to it."""
    foreign = arch != "amd64"
    packages = (*(FOREIGN if foreign else PACKAGES), *more)
    key = hashlib.sha256(repr((FORMAT, packages, WHEELS)).encode()).hexdigest()[:8]
    path = CACHE / f"root-{suite}{f'-{arch}' if foreign else ''}-{key}.ext4"
    if path.exists():
        return path
    with making(path) as work:
        if not path.exists():
            say(f"root image of {suite}")
            root = work / "root"
            if foreign:
                bootstrap(suite, root, packages, f"--architectures={arch}", "--variant=extract", "--skip=check/qemu")
                complete(root)
            else:
                bootstrap(suite, root, packages, "--variant=minbase")
                install_wheels(root)
            megabytes = int(call("du", "-sm", "--apparent-size", root).split()[0]) * 5 // 4 + SPARE
            call("truncate", "-s", f"{megabytes}M", work / "image")
            call("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", root, work / "image")
            (work / "image").rename(path)
    return path


def bootstrap(suite: str, root: Path, packages: tuple[str, ...], *kind: str) -> None:
    options = [f"--aptopt={option}" for option in (
        *apt_options(), 'Acquire::Languages "none"', 'APT::Install-Recommends "false"')]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    sources = root.parent / "sources.list"
    sources.write_text(sources_list(suite))
    call("mmdebstrap", "--quiet", "--mode=root", *kind, f"--include={','.join(packages)}", *options, f"--keyring={KEYRING}", suite, root, sources)


def complete(root: Path) -> None:
    """What configured packages would have left in a root of another architecture, and the wheels where its Python looks."""
    for name in ("bin", "sbin", "lib"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    version = os.readlink(root / "usr/bin/python3").removeprefix("python")
    abis = (f"cp{version.replace('.', '')}", "abi3", "none")
    call(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile", "--only-binary=:all:",
         "--target", root / "usr/lib/python3/dist-packages", "--python-version", version, "--implementation", "cp",
         *(f"--abi={abi}" for abi in abis), *(f"--platform=manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)),
         "--platform=manylinux2014_aarch64", *WHEELS)


def install_wheels(root: Path) -> None:
    """This machine's pip, which knows where to look, downloads; the image's own installs, offline."""
    version, glibc = call(
        "chroot", root, "python3", "-c",
        "import platform, sys; print('%d.%d' % sys.version_info[:2], platform.libc_ver()[1])").split()
    minor = int(glibc.partition(".")[2])
    platforms = [f"manylinux_2_{number}_x86_64" for number in range(minor, 4, -1)]
    platforms += [f"manylinux{year}_x86_64" for year in ("2014", "2010", "1")]
    call(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "-d", root / "opt/wheels",
         "--only-binary=:all:", "--python-version", version, "--implementation", "cp",
         *(f"--abi={abi}" for abi in (f"cp{version.replace('.', '')}", "abi3", "none")),
         *(f"--platform={name}" for name in platforms), *WHEELS)
    call("chroot", root, "python3", "-m", "venv", "/opt/venv")
    offline = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    call("chroot", root, "/opt/venv/bin/python", "-m", "pip", "install", "-q", "--no-index", "--find-links", "/opt/wheels",
         "--upgrade", *WHEELS, env={**offline, "PIP_CONFIG_FILE": "/dev/null"})
    shutil.rmtree(root / "opt/wheels")
    # Older than any C code that was made from them: see package.reuse().
    call("find", root / "opt/venv", "-name", "*.px[di]", "-exec", "touch", "-d", "@0", "{}", "+")


def in_chroot(suite: str, build: Path, *command: str) -> int:
    """Run a command in the image on this machine's kernel, at full speed. It sees the checkout, and keeps what it writes to
    build/, which is the folder `build`, and what its compiler makes."""
    root, compiled = image(suite), CACHE / f"ccache-{suite}"
    compiled.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chroot-", dir=CACHE) as folder:
        return subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", HERE / "chroot", folder, root, ROOT,
             build, compiled, *command], stdin=subprocess.DEVNULL).returncode
