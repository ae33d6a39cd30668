"""The tests on another kernel: a stock one of Debian, in a virtual machine that is thrown away.

The package is built in the suite's root image on this machine's kernel, then used in the guest. What it writes to
build/vm/SUITE stays; all else of the guest is forgotten.
"""
from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import host
import machine
from image import image
from kernel import kernel
from package import LIB, package

SUITES = ("bookworm", "trixie", "sid")
NO_MACHINE = 75  # EX_TEMPFAIL: this says nothing about the tests
FEW_ROUNDS = "5"  # of benchmarks where all is slow
JOBS = {
    "test": ("python3", "-m", "pytest", "-o", "cache_dir=build/pytest", "-o", "timeout=1200"),  # of one test, where all is slow
    "demo": ("python3", "-m", "pylbpf", "demo"),
    "bench": ("python3", "benchmarks/run.py", "-o", "timeout=3600"),
    "shell": ("bash", "-i"),
    "run": (),
}


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run vm", description=__doc__.partition("\n")[0], usage="%(prog)s SUITE [OPTION...] [JOB]",
                                     epilog="Jobs: test (the default), demo, bench, shell, run COMMAND, build: nothing but the "
                                     "set-up. What follows the job goes to it: run vm trixie test tests/test_link.py")
    parser.add_argument("suite", choices=SUITES, help="where Python and libbpf come from")
    parser.add_argument("--kernel", metavar="SUITE", help="where the kernel comes from, if not from there")
    parser.add_argument("--arch", choices=tuple(host.EMULATORS), default="amd64", help="another than amd64 is emulated, slowly, and takes "
                        "its pylbpf from a wheel: ./run wheel --python VERSION --arch aarch64")
    parser.add_argument("--with", dest="more", metavar="PACKAGE,...", default="", help="more packages in the guest, an image of its "
                        "own; KERNEL in a name is the version of its kernel: linux-headers-KERNEL")
    parser.add_argument("--timeout", type=int, default=7200, metavar="SECONDS")
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--guests", type=int, metavar="N", help="machines that share the tests; default: 1 with KVM, else one "
                        "for each of --cpus")
    parser.add_argument("--memory", type=int, default=4096, metavar="MIB")
    parser.add_argument("--accel", choices=("kvm", "tcg"), default="", help="default: kvm where the processor has it")
    parser.add_argument("--count", action="store_true", help="translate, with a clock that counts the guest's instructions: what "
                        "computes takes the same time in each run, as on a processor without caches")
    parser.add_argument("--console", action="store_true", help="show what the guest's kernel prints, too")
    at = next((at for at, word in enumerate(words) if word in JOBS or word == "build"), len(words))
    options = parser.parse_args(words[:at])
    options.job, options.rest = (words[at:at + 1] or ["test"])[0], words[at + 1:]
    return options


def main() -> int:
    options = arguments(sys.argv[1:])
    rest = options.rest[1:] if options.rest[:1] == ["--"] else options.rest
    host.install_programs(options.arch)
    boots = kernel(options.kernel or options.suite, options.arch)
    accel = "tcg" if options.count else options.accel or host.accelerator(options.arch)
    version = next((boots / "lib/modules").iterdir()).name
    root = image(options.suite, options.arch, tuple(name.replace("KERNEL", version) for name in options.more.split(",") if name))
    name = options.suite + ("" if options.arch == "amd64" else f"-{options.arch}") + (f"+{options.kernel}" if options.kernel else "")
    variables = (f"PYTHONPATH=/src/{LIB}", "PYLBPF_TEST_CACHE=/src/build/bpf", f"PYLBPF_MACHINE={name}",
                 "PYTHONPYCACHEPREFIX=/src/build/pycache", *([] if sys.stdout.isatty() else ["NO_COLOR=1"]))
    if options.job == "bench":  # whose table is wide; the guest's console has no size of its own
        variables += (f"COLUMNS={shutil.get_terminal_size((150, 50)).columns}", *([] if sys.stdout.isatty() else ["TTY_COMPATIBLE=0"]))
        if accel == "tcg" and not any(word.startswith(("--rounds", "--smoke")) for word in rest):
            host.say(f"no KVM: {FEW_ROUNDS} rounds each; --rounds N for more, and all benchmarks take hours")
            rest = ["--rounds", FEW_ROUNDS, *rest]
    # So that a machine ends when this program is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with package(options.suite, options.arch) as built:
        if options.job == "build":
            return 0
        run = functools.partial(
            machine.run, root, boots, built, arch=options.arch, terminal=options.job == "shell", timeout=options.timeout, cpus=options.cpus,
            memory=options.memory, accel=accel, count=options.count, console=options.console)
        command = ["env", *variables, *JOBS[options.job], *rest]
        guests = options.guests or (1 if options.arch != "amd64" or accel == "kvm" else options.cpus)
        return shared(run, command, built, guests) if options.job == "test" and guests > 1 else run(command)


def shared(run: Callable[..., int], command: list[str], built: Path, guests: int) -> int:
    """The tests, each guest takes its share. What the first prints is passed on, what others do is shown at the end."""
    logs = [built / f"share-{number}.log" for number in range(2, guests + 1)]
    shutil.rmtree(built / "taken", ignore_errors=True)

    def share(number: int) -> list[str]:
        words = [re.sub("(--outcomes=.*)(\\.json)", rf"\1.{number}\2", word) for word in command]
        return [*words, "--share=build/taken"]

    with ThreadPoolExecutor(guests) as pool:
        others = [pool.submit(run, share(number), output=open(log, "wb", buffering=0)) for number, log in enumerate(logs, 2)]
        try:
            statuses = [run(share(1))]
        except BaseException:
            machine.stop()
            raise
        for number, (log, other) in enumerate(zip(logs, others), 2):
            statuses.append(other.result())
            print(f"\n== machine {number} of {guests}", flush=True)
            sys.stdout.buffer.write(log.read_bytes())
            sys.stdout.flush()
    return next((status for status in statuses if status not in (0, 5)), 0)  # 5: no tests, in this share


if __name__ == "__main__":
    try:
        sys.exit(main())
    except host.NoMachine as error:
        print(f"run vm: no machine: {error}", file=sys.stderr)
        sys.exit(NO_MACHINE)
    except KeyboardInterrupt:
        sys.exit(130)
