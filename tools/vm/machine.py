"""One run of a guest: QEMU started, what the command prints passed on, its status returned."""
from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import BinaryIO, Iterator, Sequence

from host import ROOT, NoMachine, accelerator, call, say

HERE = Path(__file__).resolve().parent
BOOTS, BOOT_SECONDS = 3, 240
TIMED_OUT, CRASHED = 124, 70
LEFT_OUT = ("build", "dist", "site", ".git", ".venv*", ".cache", ".*_cache", "__pycache__", "*.so")


# Of arm64 the processor is one that signs pointers by a hash that QEMU has quickly.
MACHINES = {
    "amd64": ("qemu-system-x86_64", "-machine", "q35"),
    "arm64": ("qemu-system-aarch64", "-machine", "virt"),
}
CPUS = {"amd64": "max", "arm64": "max,pauth-impdef=on"}
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}


def run(image: Path, kernel: Path, build: Path, command: Sequence[str], *, arch: str, terminal: bool = False, timeout: int,
        cpus: int, memory: int, accel: str, count: bool = False, console: bool = False, output: BinaryIO = sys.stdout.buffer) -> int:
    """Boot, run the command in /src, return its status. TIMED_OUT; CRASHED if the kernel did not survive the command.

    A machine that does not come as far as the command is started again, for nothing of the command has run by then.
    NoMachine if it never starts.
    """
    with tempfile.TemporaryDirectory(prefix="pylbpf-vm-") as folder:
        work = Path(folder)
        shared = work / "shared"
        # A copy: files that are edited while the guest reads them would be seen half.
        shutil.copytree(ROOT, work / "src", symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        initrd = prepare(work, kernel, command, terminal, busybox(image, arch))
        for _ in range(BOOTS):
            if stopping.is_set():
                return TIMED_OUT
            machine = qemu(work, image, kernel, build, initrd, arch, terminal, cpus, memory, accel or accelerator(arch), count)
            with ending(machine):
                in_time = follow(machine, work, terminal, timeout, output)
            if console:
                sys.stderr.write((work / "console").read_text(errors="replace"))
            if (shared / "status").exists():
                return int((shared / "status").read_text())
            if (shared / "started").exists():
                if not in_time or stopping.is_set():
                    say(f"stopped after {timeout} seconds")
                    return TIMED_OUT
                say("the machine died while the command ran; the end of its console:")
                sys.stderr.write((work / "console").read_text(errors="replace")[-4000:])
                return CRASHED
            say("the machine did not start")
        raise NoMachine(f"none of {BOOTS} boots came as far as the command; the last console ended with\n"
                        + (work / "console").read_text(errors="replace")[-2000:])


def busybox(image: Path, arch: str) -> Path:
    """The one that can run in the guest: of another architecture it is in the root image, and is taken out beside it."""
    if arch == "amd64":
        return Path(str(shutil.which("busybox")))
    path = image.with_suffix(".busybox")
    if not path.exists():
        call("debugfs", "-R", f"dump -p /usr/bin/busybox {path}", image)
    return path


def prepare(work: Path, kernel: Path, command: Sequence[str], terminal: bool, busybox: Path) -> Path:
    """The folder that is shared with the guest, and the memory disk that it starts from."""
    shared, root = work / "shared", work / "initrd"
    shared.mkdir()
    shutil.copy(HERE / "main", shared / "main")
    (shared / "command").write_text("exec " + shlex.join(command) + "\n")
    if terminal:
        size = shutil.get_terminal_size()
        (shared / "terminal").write_text(f"{size.lines} {size.columns}\n")
    (root / "bin").mkdir(parents=True)
    shutil.copy(HERE / "init", root / "init")
    (root / "init").chmod(0o755)
    shutil.copy(busybox, root / "bin/busybox")
    shutil.copytree(kernel / "initrd", root / "modules")
    call("sh", "-c", 'find . | cpio --quiet -o -H newc >"$1"', "sh", work / "initrd.cpio", cwd=root)
    return work / "initrd.cpio"


def qemu(work: Path, image: Path, kernel: Path, build: Path, initrd: Path, arch: str, terminal: bool, cpus: int,
         memory: int, accel: str, count: bool) -> subprocess.Popen[bytes]:
    # Translated processors take turns on one thread. On several, one now and then meets code that another is about to change
    # (the kernel's int3, while it patches itself), and the kernel dies.
    speed = ["-accel", "kvm", "-cpu", "host"] if accel == "kvm" else [
        "-accel", "tcg,thread=single,tb-size=1024", "-cpu", CPUS[arch]]
    speed += ["-icount", "shift=0,align=off,sleep=off"] if count else []
    folders = {"vm": (work / "shared", ""), "build": (build, ""), "kernel": (kernel, ",readonly=on"), "src": (work / "src", ",readonly=on")}
    shares = [word for tag, (path, more) in folders.items() for word in (
        "-virtfs", f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap{more}")]
    # Output goes through a file: from a pipe QEMU drops what a slow reader leaves no room for.
    output = "stdio,signal=off" if terminal else f"file,path={work / 'output'}"
    (work / "output").write_bytes(b"")
    return subprocess.Popen(
        [*MACHINES[arch], "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
         *speed, "-smp", str(cpus), "-m", str(memory),
         "-kernel", kernel / "vmlinux", "-initrd", initrd, "-append", f"console={CONSOLES[arch]} rdinit=/init panic=-1 quiet",
         "-drive", f"file={image},format=raw,if=virtio,snapshot=on", *shares,
         "-serial", f"file:{work / 'console'}", "-device", "virtio-serial-pci",
         "-chardev", f"{output},id=output", "-device", "virtconsole,chardev=output"],
        stdin=None if terminal else subprocess.DEVNULL)


running: set[subprocess.Popen[bytes]] = set()
stopping = threading.Event()


def stop() -> None:
    """End all machines, also those that other threads wait for or are about to start."""
    stopping.set()
    for machine in list(running):
        machine.terminate()


@contextlib.contextmanager
def ending(machine: subprocess.Popen[bytes]) -> Iterator[None]:
    """However the run ends, the machine ends with it."""
    running.add(machine)
    try:
        yield
    finally:
        running.discard(machine)
        if machine.poll() is None:
            machine.terminate()
            try:
                machine.wait(10)
            except subprocess.TimeoutExpired:
                machine.kill()
                machine.wait()


def follow(machine: subprocess.Popen[bytes], work: Path, terminal: bool, timeout: int, output: BinaryIO) -> bool:
    """Pass on what the guest prints, until it ends or its time is over. Whether it ended."""
    begin = time.monotonic()
    started = work / "shared/started"
    with open(work / "output", "rb") as printed:
        while True:
            ended = machine.poll() is not None
            while not terminal and (text := printed.read(1 << 16)):
                output.write(text)
                output.flush()
            waited = time.monotonic() - begin
            if ended or waited > (timeout if started.exists() else min(timeout, BOOT_SECONDS)):
                return ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                machine.wait(0.2)
