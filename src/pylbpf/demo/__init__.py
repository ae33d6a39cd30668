"""`python -m pylbpf demo`: custom sections at work on this kernel, from open to the last record."""
from __future__ import annotations

import contextlib
import errno
import platform
import struct
import time
from pathlib import Path
from typing import Iterator

from rich.console import Console

import pylbpf

from . import records, rights
from .activity import Guest
from .handlers import Call, Sample, Story, Switch, Watch
from .screen import Screen, View

OBJECT = Path(__file__).with_name("demo.bpf.o")
FEATURED = "openat"  # the program whose instructions are shown


def run(seconds: float = 5.0, *, activity: bool = True, console: Console | None = None) -> int:
    """Show the demo for so many seconds of records; return the exit status."""
    screen = Screen(console or Console(highlight=False))
    screen.heading("pylbpf", f"libbpf {pylbpf.libbpf_version_string()}, Linux {platform.release()}, {platform.machine()}")
    story = Story(screen.event, FEATURED)
    handlers = [Sample(story), Watch(story), Call(story), Switch(story)]

    screen.heading("open", f"{OBJECT.name}, {OBJECT.stat().st_size:,} bytes; setup of each program")
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        obj = stack.enter_context(pylbpf.open(OBJECT, handlers=handlers))
        opened = time.perf_counter() - began
        unprepared = obj.programs[FEATURED].disassemble()

        screen.heading("load", "prepare_load of each program, right before the kernel's verifier sees it")
        began = time.perf_counter()
        try:
            obj.load()
        except pylbpf.BpfError as error:
            if error.errno not in (errno.EPERM, errno.EACCES) or isinstance(error, pylbpf.VerifierError) and not rights.missing():
                raise
            story.listing = unprepared
            refused(screen, story, error)
            return 0
        ended = time.perf_counter()
        load_took = {program: story.load_took(program, ended) for program in story.load_began}

        screen.heading(f"instructions of {FEATURED}", "as the kernel got them; marked is what the handler put there")
        screen.listing(story)

        if activity:
            stack.enter_context(Guest())
        screen.heading("attach")
        watching = time.monotonic()
        links = obj.attach()
        attached = time.monotonic() - watching

        screen.heading(
            f"opened in {opened * 1e3:.1f} ms, loaded in {(ended - began) * 1e3:.1f} ms, "
            f"attached in {attached * 1e3:.1f} ms",
            f"{len(story.slots)} programs, {len(links)} links; callbacks and their printing included",
        )
        if activity:
            screen.line("  pylbpf-guest is a process of the demo's own: a quiet machine has something to show too")
        view = View(story, load_took, watching)
        with obj.ring_buffer("events", view.add) as ring, contextlib.suppress(KeyboardInterrupt):
            screen.show(view, ticks(obj, ring, view, seconds))
        update(obj, view)
        screen.heading("what was seen", f"{view.received:,} records in {view.time - view.began:.1f} s")
        screen.summary(view)
    screen.line("")
    screen.line("  everything is detached again")
    return 0


def ticks(obj: pylbpf.Object, ring: pylbpf.RingBuffer, view: View, seconds: float) -> Iterator[None]:
    """Receive records for so long; yield some times a second."""
    deadline = time.monotonic() + seconds
    while (now := time.monotonic()) < deadline:
        tick = min(now + 0.1, deadline)
        while (left := tick - time.monotonic()) > 0:
            ring.poll(left)
        update(obj, view)
        yield


def update(obj: pylbpf.Object, view: View) -> None:
    """Read the counters that the programs keep."""
    view.time = time.monotonic()
    counts = obj.maps["counts"]
    for program, slot in view.story.slots.items():
        value = counts.lookup(struct.pack("=I", slot))
        if value is not None:
            view.counts[program] = records.count(value)


def refused(screen: Screen, story: Story, error: pylbpf.BpfError) -> None:
    """The right to use bpf() is missing: say which, and show what can be shown without it."""
    screen.line("  ", ("the kernel refuses: ", "bold red"), str(error).splitlines()[0])
    for line in rights.explain():
        screen.line("    ", line)
    screen.line("    as root, or with sudo, this goes on")
    screen.heading(f"instructions of {FEATURED}", "as compiled: without its sub-program, and nothing put in yet")
    screen.listing(story)
    screen.line("")
    screen.line("  nothing was loaded; opening, and setup of each program, needed no right at all")
