"""A walk through the whole interface: everything here must pass mypy --strict."""
from __future__ import annotations

import array
import os
from pathlib import Path
from typing import List, Optional, Tuple, Union

import pylbpf
from pylbpf import AttachType, MapType, ProgramFlags, ProgramType, State


class Declared(pylbpf.ProgramHandler):
    section = "declared/"
    program_type = ProgramType.RAW_TRACEPOINT
    expected_attach_type = 0
    program_flags = ProgramFlags.SLEEPABLE | ProgramFlags.TEST_RND_HI32
    autoload = True
    priority = 3
    cookie = "mine"


class One(pylbpf.ProgramHandler):
    def __init__(self, section: str, hertz: int) -> None:
        super().__init__(section=section, program_type=ProgramType.PERF_EVENT)
        self.hertz = hertz

    def setup(self, program: pylbpf.Program) -> None:
        program.autoload = program.section != self.section

    def prepare_load(self, program: pylbpf.Program, opts: pylbpf.LoadOpts) -> None:
        opts.prog_flags |= ProgramFlags.SLEEPABLE
        opts.expected_attach_type = AttachType.TRACE_FENTRY
        opts.prog_btf_fd = program
        opts.fd_array = [3, program]
        opts.line_info = opts.func_info = None
        with memoryview(program.view_insns(writable=True)) as view:
            view.release()

    def attach(self, program: pylbpf.Program) -> pylbpf.Link:
        return program.attach_raw_tracepoint("sys_enter", cookie=1)


class Several(pylbpf.ProgramHandler):
    section = None

    def attach(self, program: pylbpf.Program) -> List[pylbpf.Link]:
        return [program.attach_perf_event(fd) for fd in (3, 4)]


class Perhaps(pylbpf.ProgramHandler):
    def attach(self, program: pylbpf.Program) -> Optional[pylbpf.Link]:
        return None


native = pylbpf.NativeHandler("native/", cookie=7, setup=0x1234, autoload=False)

with pylbpf.register(Declared()) as registration:
    handler: pylbpf.ProgramHandler = registration.handler
    active: bool = registration.active

info = pylbpf.section_info("xdp")
if info is not None:
    kind: ProgramType = info.program_type
    whose: Optional[pylbpf.ProgramHandler] = info.handler

before = pylbpf.handler_stats()
taken: int = (pylbpf.handler_stats() - before).gil_acquired


def everything(source: Union[str, Path, bytes, bytearray, memoryview], map_fd: int) -> None:
    with pylbpf.open(source, handlers=[One("on/", 99), native], log_level=1, pin_root_path=Path("/sys/fs/bpf")) as obj:
        state: State = obj.state
        assert state is State.OPEN
        program: pylbpf.Program = obj.programs["run"]
        names: List[str] = list(obj.programs)
        pairs: List[Tuple[str, pylbpf.Program]] = list(obj.programs.items())
        program.type = ProgramType.XDP
        program.type = 6
        program.flags |= ProgramFlags.XDP_HAS_FRAGS
        program.ifindex = "lo"
        settings: pylbpf.Map = obj.maps["settings"]
        settings.max_entries = 10
        settings.type = MapType.HASH
        settings.reuse_fd(map_fd)
        keys, values = settings.to_numpy()
        settings.update_many(keys, values, flags=pylbpf.UpdateFlags.NOEXIST)
        assert settings.sweep(older_than=60, field="seen") + settings.delete_many([1, 2]) > values.size
        settings.pin_path = None

        obj.prepare()
        insns: pylbpf.Insns = program.insns
        first: pylbpf.Insn = insns[0]
        rest: pylbpf.Insns = insns[1:]
        numbers: Tuple[int, int, int] = first.dst, first.src, first.imm
        raw: bytes = bytes(rest)
        program.set_insns(insns)
        program.set_insns(raw)
        program.set_insns(array.array("B", raw))
        lines: int = program.line_info[0].line

        obj.load()
        links: pylbpf.LinkSet = obj.attach()
        one: pylbpf.Link = links[0]
        some: pylbpf.LinkSet = links[1:]
        left_out: Tuple[pylbpf.Program, ...] = links.skipped
        mine: Union[pylbpf.Link, pylbpf.LinkSet] = program.attach()
        with mine, program.attach_uprobe("libc.so.6", function="malloc", retprobe=True) as link:
            os.fstat(link.fileno())

        value: Optional[bytes] = settings.lookup(b"key ")
        settings.update(bytearray(4), memoryview(b"value"), flags=pylbpf.UpdateFlags.NOEXIST)
        settings[8080] = {"port": 1}
        settings.update({1: 2})
        with settings.view() as memory:
            size: int = memory.nbytes
            names.append(str(size))
        with pylbpf.Map.create(MapType.HASH, key="u4", value="u8", max_entries=10, name="table") as table:
            names.append(str(table.info().id))
            table.typed(value=bytes).raw.pop(b"key ", None)
        for key, found in settings.items():
            print(key + found, names, pairs, numbers, lines, one, some, left_out, value)

        with obj.ring_buffer("events", print) as ring:
            delivered: int = ring.poll(0.1) + ring.consume(max_records=3)
            for record in ring.records(timeout=delivered):
                data: bytes = record
                print(data)
        with obj.ring_buffer("events", type="event", batches=True) as typed:
            rows = typed.read_batch(max_records=10, timeout=0)
            with typed.borrow(timeout=0) as batch, typed.start(print, policy="overwrite") as consumer:
                print(batch.array["pid"], len(batch), consumer.get(0.1), rows, typed.stats().dropped)
            typed.poll(0, 10, max_time=0.5)
        in_c = pylbpf.NativeCallback(0xFFFF, context=0)
        ring = pylbpf.RingBuffer(settings, in_c, dispatch={0: "u8"}, tag="type")
        ring.add(map_fd, lambda record: None)
        with obj.user_ring_buffer("commands") as to_program, to_program.reserve(8, timeout=None) as place:
            place[0] = 1
            to_program.send(b"12345678")
            count: int = to_program.send_many(array.array("Q", [1, 2]), timeout=0.5)
            print(count, to_program.sent)
        with obj.perf_buffer("samples", print, pages=16, lost=lambda cpu, count: print(cpu, count)) as buffer:
            received: int = buffer.poll(0.1, max_records=5) + buffer.stats().lost
            print(received, len(buffer.read_batch(timeout=0)))
        with pylbpf.PerfEvent("cpu-clock", frequency=99, cpus=[0]) as event:
            sampled: pylbpf.LinkSet = event.attach(program)
            events: int = sum(count for count, _, _ in event.counts())
            print(sampled, events, event.targets[0][1])
        types = obj.btf
        if types is not None:
            print(types.name(types.find("record")), len(types))


async def in_a_loop(obj: pylbpf.Object) -> None:
    async with obj.ring_buffer(["events", "alarms"], type="event") as ring:
        reader: pylbpf.AsyncReader = ring
        called: int = await reader.poll(0.1, max_time=0.5)
        print(called, len(await ring.read_batch(10, timeout=0.1)), ring.ring.closed)
        async for record in ring.records(timeout=1):
            print(record)
    async for record in obj.perf_buffer("samples").records(0.1):
        print(record)


def errors() -> None:
    try:
        everything(b"", 3)
    except pylbpf.VerifierError as error:
        text: Tuple[Optional[str], Optional[int], str] = error.summary, error.insn, error.log
        print(text)
    except (pylbpf.NotSupported, PermissionError) as either:
        print(either.errno)
    except pylbpf.BpfError as plain:
        print(plain.operation, plain.subject)


def listen(level: pylbpf.LogLevel, line: str) -> None:
    print(level.name, line)


previous = pylbpf.set_print(listen, pylbpf.LogLevel.DEBUG)
pylbpf.set_print(None)
version: Tuple[int, int] = pylbpf.libbpf_version()
folder: str = pylbpf.get_include() + pylbpf.libbpf_version_string() + pylbpf.__version__
libraries: List[str] = pylbpf.get_libraries() + pylbpf.get_library_dirs()
library: Optional[str] = pylbpf.libbpf_path()
cpus: int = pylbpf.possible_cpus()
