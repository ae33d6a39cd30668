"""How long does a tool of examples/ take to be at work, and how much memory has it then, next to BCC's of the same name?

    python benchmarks/startup.py [--rounds N] [TOOL ...]

As root, where BCC's tools are (Debian: bpfcc-tools, with the kernel's headers). A guest that has both:

    ./run vm trixie --with bpfcc-tools,linux-headers-KERNEL run python3 benchmarks/startup.py

Each round starts one tool of ours and one of BCC's in turn. A tool is at work when it holds a perf event or a link and has
printed its first line (but profile, for ours prints only at the end, and BCC's before it compiles). Then the memory that it
has had at most is read (VmHWM), with its processor time, and Ctrl-C ends it.
"""
from __future__ import annotations

import argparse
import contextlib
import glob
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TOOLS = ("execsnoop", "opensnoop", "runqlat", "tcplife", "biolatency", "profile")
ATTACHED = ("perf_event", "bpf_link", "bpf-link", "raw-tracepoint", "raw_tracepoint")


class Start(NamedTuple):
    seconds: float
    cpu: float
    mib: float


def bcc(tool: str) -> list[str] | None:
    """The command for BCC's tool, as Debian, others and BCC itself name it."""
    for path in (f"/usr/sbin/{tool}-bpfcc", f"/usr/share/bcc/tools/{tool}"):
        if os.path.exists(path):
            return [path]
    return None


def attached(pid: int) -> bool:
    for link in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            if any(name in os.readlink(link) for name in ATTACHED):
                return True
    return False


def start(command: list[str], silent: bool = False, patience: float = 600) -> Start:
    """One start; `silent`: it need not print. SystemExit with what the tool printed if it ends by itself."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    printed = b""
    try:
        while not ((silent or b"\n" in printed) and attached(process.pid)):
            if select.select([process.stdout], [], [], 0.02)[0]:
                more = os.read(process.stdout.fileno(), 1 << 16)
                if not more:
                    raise SystemExit(f"{' '.join(command)} ended:\n{printed.decode(errors='replace')}")
                printed += more
            if time.monotonic() - begin > patience:
                raise SystemExit(f"{' '.join(command)} is not at work:\n{printed.decode(errors='replace')}")
        seconds = time.monotonic() - begin
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return Start(seconds, (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"), int(peak.group(1)) / 1024)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def median(starts: list[Start]) -> Start:
    return Start(*(statistics.median(column) for column in zip(*starts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tools", nargs="*", choices=[*TOOLS, []], metavar="TOOL", help=", ".join(TOOLS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=600, metavar="SECONDS", help="for one start (600); BCC compiles, which an "
                        "emulated machine is slow at")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, Linux {os.uname().release}, {options.rounds} rounds, medians\n")
    print("| tool | seconds | BCC | × | CPU seconds | BCC | MiB | BCC | × |\n" + "| --- |" + " ---: |" * 8, flush=True)
    for tool in options.tools or TOOLS:
        ours, theirs = [sys.executable, str(EXAMPLES / f"{tool}.py")], bcc(tool)
        if theirs is None:
            raise SystemExit(f"BCC's {tool} is not here: apt-get install bpfcc-tools")
        rounds = [tuple(start(command, tool == "profile", options.patience) for command in (ours, theirs)) for _ in range(options.rounds)]
        own, other = (median(list(column)) for column in zip(*rounds))
        print(f"| {tool} | {own.seconds:.2f} | {other.seconds:.2f} | {other.seconds / own.seconds:.1f} | {own.cpu:.2f} | {other.cpu:.2f} "
              f"| {own.mib:.0f} | {other.mib:.0f} | {other.mib / own.mib:.1f} |", flush=True)


if __name__ == "__main__":
    main()
