#!/usr/bin/env python3
"""Try wheels where nothing else is: try_wheel.py SUITE[:VERSION]... [--arch ARCH] [--wheels DIST] [PYTEST ARGUMENT...]

Installs the wheel of the right Python in a root file system of that suite of Debian, by its pip and offline, and runs the tests
there on this machine's kernel. Another architecture is emulated by QEMU, which has no bpf(), and this machine's pip does its
work. With VERSION the Python is this machine's, shown to the root file system where it is. Nothing of it stays: what is written
goes to memory.
"""
from __future__ import annotations

import argparse
import itertools
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import debian
import wheel

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("pytest>=8", "pytest-timeout>=2", "pytest-xdist>=3", "hypothesis>=6", "numpy>=1.23", "rich>=13", "click>=8")
SHOWN = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "tests", "tools", "examples", "benchmarks", "docs", "include", "pyproject.toml", "mkdocs.yml")
OLDER = ("exceptiongroup>=1", "tomli>=1", "typing_extensions>=4.6")  # which pip does not see from here that pytest needs before 3.11
INSTALLED = ("pylbpf", "pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
UNWANTED = ("libbpf", "libelf")

# $1 work, $2 root, $3 folder of what pip downloaded, $4 ziglang, $5 prefix of the Python or "", $6 emulator or "", then Python and arguments
SCRIPT = r"""
work=$1 root=$2 wheels=$3 zig=$4 prefix=$5 emulator=$6
shift 6
mount -t tmpfs -o mode=755 new "$work"
mkdir "$work/new" "$work/over" "$work/root"
mount -t overlay -o "lowerdir=$root,upperdir=$work/new,workdir=$work/over" root "$work/root"
cd "$work/root"
mkdir -p opt/wheels opt/site/ziglang opt/checkout usr/include/bpf
mount --bind "$wheels" opt/wheels
[ ! -e "$wheels/site" ] || cp -r --preserve=timestamps "$wheels/site/." opt/site/
mount --bind "$zig" opt/site/ziglang
for name in $SHOWN; do
    [ ! -e "$CHECKOUT/$name" ] || cp -r --preserve=timestamps "$CHECKOUT/$name" opt/checkout/
done
mkdir -p "$CACHE" opt/cache
mount --bind "$CACHE" opt/cache
if [ -n "$emulator" ]; then
    mount --bind /usr/include/bpf usr/include/bpf
    # A processor that signs pointers by a hash that QEMU has quickly.
    variables="QEMU_CPU=max,pauth-impdef=on PYLBPF_MACHINE=$MACHINE PYTHONPYCACHEPREFIX=/opt/cache/python"
else
    mount --bind /usr/include usr/include
    variables=PYTHONDONTWRITEBYTECODE=1
fi
if [ -n "$prefix" ]; then mkdir -p ".$prefix"; mount --bind "$prefix" ".$prefix"; fi
mount -t proc proc proc
if [ -n "$emulator" ]; then
    mount -t binfmt_misc none proc/sys/fs/binfmt_misc
    printf '%s' ":aarch64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$emulator:F" \
        >proc/sys/fs/binfmt_misc/register
fi
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmp tmp
# Not chroot(2): what /proc tells of files would begin with the old root.
mkdir old
pivot_root . old
cd /
exec env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH=/opt/site PYLBPF_TEST_CACHE=/opt/cache \
    $variables INSTALLED="$INSTALLED" ${GIL:+"PYTHON_GIL=$GIL"} sh -c '
        python=$1; shift
        "$python" -c "import ctypes; ctypes.CDLL(None).umount2(b\"/old\", 2)"
        [ -e /opt/wheels/site ] || "$python" "$(echo /opt/wheels/pip-*.whl)/pip" --disable-pip-version-check --no-cache-dir --quiet install \
            --root-user-action ignore --no-index --find-links /opt/wheels --target /opt/site $INSTALLED || exit
        cd /opt/checkout
        "$python" -m pylbpf doctor
        exec "$python" -m pytest -p no:cacheprovider "$@"' sh "$@"
"""


def wheelhouse(folder: Path, version: str, python: str, arch: str, glibc: int, dist: Path) -> None:
    """Fill a folder with the wheel and with what it and the tests need."""
    abi = "cp" + version.replace(".", "")
    found = sorted(dist.glob(f"pylbpf-*-{abi.rstrip('t')}-{abi}-*{arch}.whl"), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"no wheel for Python {version} on {arch} in {dist}: run wheel --python {version} --arch {arch}")
    shutil.copy(found[-1], folder)
    older = OLDER if int(version.rstrip("t").partition(".")[2]) < 11 else ()
    platforms = [f"manylinux_2_{minor}_{arch}" for minor in range(glibc, 4, -1)] + [f"manylinux2014_{arch}"]
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    target = ("--only-binary=:all:", "--python-version", version.rstrip("t"), "--implementation", "cp",
              *(f"--abi={name}" for name in (abi, "abi3", "none")), *(f"--platform={name}" for name in platforms))
    if abi.endswith("t"):   # other Pythons' pip would give it what is for the stable ABI, which it cannot use
        pip, target = (python, *pip[1:]), ("--only-binary=:all:",)
    debian.call(*pip, "download", "-d", folder, *target, "pip", *NEEDED, *older)
    if arch != platform.machine():  # an emulated pip takes ten minutes
        debian.call(*pip, "install", "--no-compile", "--ignore-requires-python", "--no-index", "--find-links", folder, "--target", folder / "site", *target, *INSTALLED)
        # The same time for the same contents: what Python makes of them, slowly, is kept for the next run.
        for path in (folder / "site").rglob("*.py"):
            time = zlib.crc32(path.read_bytes()) & 0x7FFFFFFF
            os.utime(path, (time, time))


def glibc(folder: Path) -> int:
    """The minor version of a root file system's glibc."""
    library = next(path for pattern in ("usr/lib", "lib") for path in folder.glob(f"{pattern}/*/libc.so.6"))
    found = re.search(rb"GNU C Library .* release version 2\.(\d+)", library.read_bytes())
    return int(found[1]) if found else 17


def attempt(name: str, arch: str, dist: Path, arguments: list[str]) -> int:
    suite, _, version = name.partition(":")
    root = debian.root(suite, arch)
    inside = [path for word in UNWANTED for path in root.glob(f"usr/lib/**/{word}*.so*")]
    if inside:
        sys.exit(f"{root} has {inside[0]}")
    python, prefix = "/usr/bin/python3", ""
    if version:
        found = wheel.find_python(version) or sys.exit(f"there is no Python {version} here")
        python, prefix = found.program, found.prefix
    else:
        version = debian.python_of(root)
    emulator = "" if arch == platform.machine() else debian.program(f"qemu-{arch}-static")
    (zig,) = wheel.environment().parent.glob("lib/python*/site-packages/ziglang")
    print(f"· {name}: Python {version}, glibc 2.{glibc(root)}, {arch}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pylbpf-root-") as work:
        wheels = Path(work, "wheels")
        wheels.mkdir()
        (Path(work) / "mount").mkdir()
        wheelhouse(wheels, version, python, arch, glibc(root), dist)
        cache = ROOT / (".cache/bpf" if not emulator else f".cache/bpf-{arch}")
        # A name space of users, too, where the emulator is not registered for the whole machine; there only its own /proc can be mounted.
        spaces = ["--mount", "--fork", "--kill-child", *(["--map-root-user", "--pid"] if emulator else [])]
        return subprocess.run(
            ["unshare", *spaces, "sh", "-e", "-c", SCRIPT, "sh", f"{work}/mount", root, wheels, zig, prefix, emulator, python, *arguments], stdin=subprocess.DEVNULL,
            env={**os.environ, "SHOWN": " ".join(SHOWN), "INSTALLED": " ".join(INSTALLED), "CHECKOUT": str(ROOT), "CACHE": str(cache), "MACHINE": f"{suite}-{arch}"}).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--arch", default=platform.machine())
    parser.add_argument("--wheels", type=Path, default=ROOT / "dist")
    parser.add_argument("words", nargs="*", metavar="SUITE[:VERSION]... [PYTEST ARGUMENT...]",
                        help=f"of {', '.join(debian.SUITES)}")
    options, others = parser.parse_known_args()
    suites = list(itertools.takewhile(lambda word: word.partition(":")[0] in debian.SUITES, options.words))
    if not suites:
        parser.error("a suite is needed")
    arguments = options.words[len(suites):] + others
    # So that what runs inside ends when this program is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return max(attempt(name, options.arch, options.wheels.resolve(), arguments) for name in suites)


if __name__ == "__main__":
    sys.exit(main())
