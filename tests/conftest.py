"""Fixtures: compiled objects, the right to use bpf(2), places to attach to and to pin in, and a watch on leaks."""
from __future__ import annotations

import collections
import contextlib
import gc
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Callable, Generator, Iterator, TypeVar

import pytest

import expectations
import kernel
import objects
import pylbpf
from objects import bpfcc
from outcomes import pytest_addoption as pytest_addoption, pytest_configure as pytest_configure

numbers = itertools.count()

# A shell that runs this in the background has SIGINT ignored, also in all processes that are started from here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# ---------------------------------------------------------------- objects


class Objects(dict[str, Path]):
    """name -> path of the compiled object; asking for one that did not compile fails with the compiler's words."""

    def __init__(self, built: dict[str, Path], refused: dict[str, bpfcc.CompileError]) -> None:
        super().__init__(built)
        self.refused = refused

    def __missing__(self, name: str) -> Path:
        if name not in self.refused:
            raise KeyError(f"no tests/bpf/{name}.bpf.c")
        message = str(self.refused[name])
        if re.search(r"unknown target CPU|unsupported.*cpu", message, re.IGNORECASE):
            pytest.skip(f"compiler: too old for {name}.bpf.c ({bpfcc.compiler_version()})")
        pytest.fail(message, pytrace=False)


@pytest.fixture(scope="session")
def bpf_objects() -> Objects:
    """All of tests/bpf/*.bpf.c, compiled: {"handlers": Path("…/handlers.bpf.o"), …}."""
    try:
        return Objects(*objects.build_all())
    except bpfcc.CompilerMissing as error:
        pytest.skip(f"compiler: {error}")


@pytest.fixture(scope="session")
def bpf_object(bpf_objects: Objects) -> Callable[[str], Path]:
    """bpf_object("handlers") -> the path of the compiled object."""
    return bpf_objects.__getitem__


@pytest.fixture
def registered(bpf_object: Callable[[str], Path]) -> Iterator[pylbpf.Object]:
    """An object with struct_ops maps "first" and "second" of the older kind, which are registered, not linked."""
    source = (objects.SOURCES / "struct_ops.bpf.c").read_text().replace(".struct_ops.link", ".struct_ops")
    with pylbpf.open(objects.build(source, "struct_ops_registered")) as obj:
        try:
            obj.load()
        except pylbpf.BpfError as error:
            pytest.skip(f"struct_ops: the kernel refuses such programs ({error.strerror})")
        yield obj


# ---------------------------------------------------------------- time

SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under sanitizers and in emulated machines all takes longer, and about what is not C they say nothing."""
    if SANITIZED or expectations.ROOT:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("no_c")])
        items[:] = [item for item in items if not item.get_closest_marker("no_c")]


@pytest.fixture(scope="module", autouse=True)
def young_heap() -> None:
    """Tests collect garbage hundreds of times: only what came since the module began, not all of pytest and numpy."""
    gc.collect()
    gc.freeze()


# ---------------------------------------------------------------- rights


def skip_if(reason: str) -> None:
    if reason:
        pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("bpf"):
        skip_if(kernel.no_bpf())


@pytest.fixture
def alarm() -> Iterator[Callable[..., None]]:
    """alarm(handler, first, interval): SIGALRM for the block."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler: Callable[..., object], first: float, interval: float = 0.0) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, first, interval)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def requires_bpf() -> None:
    """Skips where bpf(2) is refused, naming the capability that is missing; as the marker `bpf`."""
    skip_if(kernel.no_bpf())


@pytest.fixture(scope="session")
def requires_kprobe() -> None:
    skip_if(kernel.no_kprobe())


@pytest.fixture(scope="session")
def requires_uprobe() -> None:
    skip_if(kernel.no_uprobe())


@pytest.fixture(scope="session")
def requires_perf_event() -> None:
    skip_if(kernel.no_perf_event())


@pytest.fixture(scope="session")
def requires_btf() -> None:
    skip_if(kernel.no_btf())


@pytest.fixture(scope="session")
def requires_fentry() -> None:
    skip_if(kernel.no_fentry())


@pytest.fixture(scope="session")
def requires_lsm() -> None:
    skip_if(kernel.no_lsm())


# ---------------------------------------------------------------- places


@pytest.fixture(scope="session")
def private_mounts() -> None:
    """From the first test that mounts, the whole run lives in a mount namespace of its own; nothing stays behind."""
    try:
        kernel.private_mounts()
    except OSError as error:
        pytest.skip(f"mount: CAP_SYS_ADMIN missing ({error.strerror})")


@pytest.fixture
def bpffs(requires_bpf: None, private_mounts: None) -> Iterator[Path]:
    """An empty folder in a bpffs of the test's own."""
    root = Path(tempfile.mkdtemp(prefix="pylbpf-bpffs-"))
    try:
        kernel.mount("bpf", root)
    except OSError as error:
        root.rmdir()
        pytest.skip(f"bpffs: cannot be mounted ({error.strerror})")
    folder = root / "pins"  # the kernel may have put its own iterators beside it
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        kernel.unmount(root)
        root.rmdir()


@pytest.fixture(scope="session")
def tracefs(request: pytest.FixtureRequest) -> Path:
    """Where tracefs is; mounted at its usual place, for this run only, if nobody has."""
    if found := kernel.tracefs():
        return found
    request.getfixturevalue("private_mounts")
    try:
        kernel.mount("tracefs", Path("/sys/kernel/tracing"))
    except OSError as error:
        pytest.skip(f"tracefs: not mounted, and cannot be ({error.strerror})")
    return Path("/sys/kernel/tracing")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A fresh cgroup (version 2) without processes."""
    root = kernel.mount_point("cgroup2")
    if root is None:
        pytest.skip("cgroup2: not mounted")
    path = root / f"pylbpf-test-{os.getpid()}-{next(numbers)}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"cgroup2: cannot make one in {root} ({error.strerror})")
    try:
        yield path
    finally:
        for _ in range(100):
            try:
                path.rmdir()
                break
            except OSError:  # a process in it is still on its way out
                time.sleep(0.02)
        else:
            path.rmdir()


class Veth:
    """A pair of connected interfaces, both up and silent. What send() puts into `peer` arrives at `name`."""

    def __init__(self, name: str, peer: str) -> None:
        self.name, self.peer = name, peer
        self.index = socket.if_nametoindex(name)

    def send(self, packets: int = 1) -> None:
        frame = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5" + bytes(50)  # 0x88b5: for experiments
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((self.peer, 0))
            for _ in range(packets):
                sender.send(frame)


@pytest.fixture
def veth() -> Iterator[Veth]:
    """For XDP and tc: an interface that nobody else uses."""
    skip_if(kernel.no_net_admin())
    name, peer = (f"plb{os.getpid() % 0x10000:x}x{next(numbers) % 0x1000:x}{end}" for end in "ab")
    skip_if(kernel.no_device("network", name, "veth", "peer", "name", peer))
    try:
        for end in (name, peer):
            with contextlib.suppress(OSError):
                Path(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6").write_text("1")
            subprocess.run(["ip", "link", "set", end, "arp", "off", "up"], check=True)
        yield Veth(name, peer)
    finally:
        subprocess.run(["ip", "link", "del", name], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def trigger() -> Callable[..., None]:
    """trigger(times=1): trips the raw tracepoint and the tracepoint task_rename, once each time, from this process."""
    return kernel.rename_task


# ---------------------------------------------------------------- leaks


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = judged((yield))
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return judged((yield))


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def judged(report: Report) -> Report:
    """A skip for no good reason is a failure."""
    if report.skipped and isinstance(report.longrepr, tuple) and not hasattr(report, "wasxfail"):
        file, line, reason = report.longrepr
        if objection := expectations.objection(reason):
            report.outcome, report.longrepr = "failed", f"{file}:{line}: {objection}"
    return report


def descriptors() -> collections.Counter[str]:
    """What this process has open, by kind: {"anon_inode:bpf-prog": 2, "/dev/null": 1, …}."""
    kinds: collections.Counter[str] = collections.Counter()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        kinds[re.sub(r":\[\d+\]$", "", target)] += 1
    return kinds


def leaked_since(before: collections.Counter[str]) -> collections.Counter[str]:
    leaked = descriptors() - before
    if leaked:  # what waits for the collector is no leak
        gc.collect()
        leaked = descriptors() - before
    return leaked


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a descriptor behind: a program, a map, a link, a perf event, a file.

    As long as no pin is made a BPF link lives by its descriptor only, and pins die with the test's bpffs: no
    descriptor, no probe.
    """
    before = descriptors()
    yield
    if request.node.stash.get(FAILED, False):
        return  # its traceback keeps alive what it was about
    leaked = leaked_since(before)
    if leaked:
        pytest.fail("leaked: " + ", ".join(f"{count} {kind}" for kind, count in leaked.items()), pytrace=False)


# ---------------------------------------------------------------- what the run says about itself


def pytest_report_header() -> list[str]:
    return [
        f"kernel: {os.uname().release}, bpf(2): {kernel.no_bpf() or 'usable'}",
        f"BPF compiler: {compiler()}",
    ]


def compiler() -> str:
    try:
        return bpfcc.compiler_version()
    except bpfcc.CompilerMissing as error:
        return str(error)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests were skipped, and which capability they miss."""
    by_reason: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("skipped"):
        if isinstance(report.longrepr, tuple) and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2]
            reason = reason[len("Skipped: "):] if reason.startswith("Skipped: ") else reason
            by_reason.setdefault(reason, []).append(report.nodeid.partition("::")[0].rpartition("/")[2])
    if not by_reason:
        return
    total = sum(map(len, by_reason.values()))
    terminalreporter.section(f"skipped: {total}, because of", sep="-")
    for reason, files in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        terminalreporter.write_line(f"{len(files):5}  {reason}  [{', '.join(sorted(set(files)))}]")
