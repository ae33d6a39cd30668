"""The demo's four handlers: what its custom sections mean.

Each is what an application would write, plus one thing: it tells what it does, for the demo to show.
"""
from __future__ import annotations

import os
import time
from typing import Callable, NamedTuple

import numpy

import pylbpf
from pylbpf import ProgramType

from . import machine

# The numbers that demo.bpf.c has in place of its settings.
MARKERS = {
    "SLOT": 0x51070001,
    "NOT_ME": 0x51070002,
    "SYSCALL": 0x51070003,
    "ARGUMENT": 0x51070004,
    "LENGTH": 0x51070005,
    "ONE_IN": 0x51070006,
}


class Event(NamedTuple):
    """A callback was run."""

    phase: str
    program: str
    section: str
    handler: str
    decision: str


class Story:
    """What the handlers tell, and what the demo wants to know of them afterwards."""

    def __init__(self, listener: Callable[[Event], None], featured: str) -> None:
        self.listener = listener
        self.featured = featured  # the program whose instructions are shown
        self.listing = ""
        self.patches: dict[int, str] = {}  # index of an instruction in it -> what was put there
        self.slots: dict[str, int] = {}
        self.sections: dict[str, str] = {}
        self.handlers: dict[str, str] = {}
        self.load_began: dict[str, float] = {}
        self.attach_took: dict[str, float] = {}

    def tell(self, handler: Told, phase: str, program: pylbpf.Program, decision: str) -> None:
        self.listener(Event(phase, program.name, program.section, handler.section or "", decision))

    def load_took(self, program: str, load_ended: float) -> float:
        """Seconds from a program's prepare_load to the next one's, or to the end of the load."""
        began = self.load_began[program]
        return min((other for other in self.load_began.values() if other > began), default=load_ended) - began


class Told(pylbpf.ProgramHandler):
    """What the four have in common: a slot for each program, and constants put into its code."""

    def __init__(self, story: Story) -> None:
        self.story = story

    def decide(self, program: pylbpf.Program) -> str:
        """Set the program up; return the decision in words."""
        raise NotImplementedError

    def constants(self, program: pylbpf.Program) -> dict[str, int]:
        return {}

    def attach_where(self, program: pylbpf.Program) -> tuple[list[pylbpf.Link], str]:
        """Attach; return the links, and in words what to."""
        raise NotImplementedError

    def setup(self, program: pylbpf.Program) -> None:
        decision = self.decide(program)
        story = self.story
        story.sections[program.name] = program.section
        story.handlers[program.name] = self.section or ""
        if program.autoload:
            story.slots[program.name] = len(story.slots)
        story.tell(self, "setup", program, decision)

    def prepare_load(self, program: pylbpf.Program, opts: pylbpf.LoadOpts) -> None:
        constants = {"SLOT": self.story.slots[program.name], "NOT_ME": os.getpid(), **self.constants(program)}
        code = numpy.asarray(program.view_insns(writable=True))  # the kernel's next input itself, not a copy
        for name, value in constants.items():
            places = numpy.flatnonzero(code["imm"] == MARKERS[name])
            code["imm"][places] = value
            if program.name == self.story.featured:
                self.story.patches.update((int(place), f"{name} = {value}") for place in places)
        if program.name == self.story.featured:
            self.story.listing = program.disassemble()
        settings = ", ".join(f"{name}={value}" for name, value in constants.items() if name != "NOT_ME")
        self.story.tell(self, "prepare_load", program, f"{len(code)} instructions, {settings}")
        self.story.load_began[program.name] = time.perf_counter()

    def attach(self, program: pylbpf.Program) -> list[pylbpf.Link] | None:
        began = time.perf_counter()
        links, where = self.attach_where(program)
        took = time.perf_counter() - began
        if links:
            self.story.attach_took[program.name] = took
            where += f", {took * 1e3:.2f} ms"
        self.story.tell(self, "attach", program, where)
        return links or None


class Sample(Told):
    """SEC("sample/<hz>"): a clock on every CPU, so many ticks a second."""

    section = "sample/"
    program_type = ProgramType.PERF_EVENT

    def decide(self, program: pylbpf.Program) -> str:
        return f"a perf_event program, {self.frequency(program)} times a second on each of {len(machine.online_cpus())} CPUs"

    def frequency(self, program: pylbpf.Program) -> int:
        text = program.section[len("sample/"):]
        if not text.isdecimal() or not 1 <= int(text) <= 10_000:
            raise ValueError(f'SEC("{program.section}"): 1 to 10000 times a second is possible, not {text!r}')
        return int(text)

    def attach_where(self, program: pylbpf.Program) -> tuple[list[pylbpf.Link], str]:
        links: list[pylbpf.Link] = []
        try:
            for cpu in machine.online_cpus():
                event = machine.open_cpu_clock(cpu, self.frequency(program))
                try:
                    links.append(program.attach_perf_event(event))
                finally:
                    os.close(event)
        except OSError as error:
            for link in links:
                link.close()
            return [], f"left out, for there is no CPU clock: {error.strerror}"
        return links, f"{len(links)} links to the CPU clocks"


class Watch(Told):
    """SEC("watch"): a program named on_<event> watches that event, if it is one of these."""

    section = "watch"
    program_type = ProgramType.RAW_TRACEPOINT
    allowed = {"on_exit": "sched_process_exit", "on_exec": "sched_process_exec", "on_fork": "sched_process_fork"}

    def decide(self, program: pylbpf.Program) -> str:
        if program.name not in self.allowed:
            program.autoload = False
            return "left out: not on the list of allowed events"
        return f"allowed: raw tracepoint {self.allowed[program.name]}"

    def attach_where(self, program: pylbpf.Program) -> tuple[list[pylbpf.Link], str]:
        tracepoint = self.allowed[program.name]
        return [program.attach_raw_tracepoint(tracepoint)], f"raw tracepoint {tracepoint}"


class Call(Told):
    """SEC("call") counts all system calls; SEC("call/<name>") shows one: its number is put into the code."""

    section = "call+"
    program_type = ProgramType.RAW_TRACEPOINT
    # Which argument is shown, and how many bytes of it: 0 means a string.
    arguments = {"execve": (0, 0), "openat": (1, 0), "unlinkat": (1, 0), "connect": (1, 64), "ptrace": (0, 0)}

    def name(self, program: pylbpf.Program) -> str:
        return program.section.partition("/")[2]

    def decide(self, program: pylbpf.Program) -> str:
        name = self.name(program)
        if not program.autoload:
            return 'left out: optional, by the "?" in front'
        if not name:
            return "every system call, counted only"
        number = machine.syscall_number(name)
        if number is None or name not in self.arguments:
            program.autoload = False
            return "left out: its number on this machine is not known"
        return f"system call {number} of this machine"

    def constants(self, program: pylbpf.Program) -> dict[str, int]:
        name = self.name(program)
        if not name:
            return {}
        index, length = self.arguments[name]
        number = machine.syscall_number(name)
        assert number is not None  # or decide() would have left it out
        return {"SYSCALL": number, "ARGUMENT": machine.argument_offset(index), "LENGTH": length}

    def attach_where(self, program: pylbpf.Program) -> tuple[list[pylbpf.Link], str]:
        return [program.attach_raw_tracepoint("sys_enter")], "raw tracepoint sys_enter"


class Switch(Told):
    """Overrides a section of libbpf's own, to thin it out: only every hundredth switch is shown."""

    section = "raw_tp/sched_switch"
    one_in = 100

    def decide(self, program: pylbpf.Program) -> str:
        return f"libbpf's own section, overridden: {program.type.name.lower()}, one record in {self.one_in}"

    def constants(self, program: pylbpf.Program) -> dict[str, int]:
        return {"ONE_IN": self.one_in}

    def attach_where(self, program: pylbpf.Program) -> tuple[list[pylbpf.Link], str]:
        tracepoint = program.section.partition("/")[2]
        return [program.attach_raw_tracepoint(tracepoint)], f"raw tracepoint {tracepoint}, as libbpf itself would"
