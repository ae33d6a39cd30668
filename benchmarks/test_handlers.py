"""What do custom section handlers add to open and load?

1000 programs in custom sections, one each or all in one, given a type by a handler. The C floor registers its own with
libbpf; pylbpf's are declarative (no callback), native (the C functions of the floor), and Python methods; ctypes has
Python callbacks too. Who has callbacks is compared with C that has them. The GIL must not be taken for declarative and
native handlers, and every callback must come for every program; both are checked.
"""
import ctypes
from time import thread_time_ns as now

import peer_ctypes
import pylbpf
import pytest
from floor import Effects
from race import Row

N = 1000
TYPE = pylbpf.ProgramType.RAW_TRACEPOINT


class Declarative(pylbpf.ProgramHandler):
    section = "many+"
    program_type = TYPE


class BeforeLoad(Declarative):
    """Counts in setup and prepare_load."""

    def __init__(self):
        self.setups = self.loads = 0

    def setup(self, program):
        self.setups += 1

    def prepare_load(self, program, opts):
        self.loads += 1


def phases(path, handler, programs, gil_acquired):
    with pylbpf.register(handler):
        before = pylbpf.handler_stats()
        times = {}
        start = now()
        obj = pylbpf.open(path)
        times["open"] = now() - start
        start = now()
        obj.load()
        times["load"] = now() - start
        assert (pylbpf.handler_stats() - before).gil_acquired == gil_acquired
        assert obj.state == pylbpf.State.LOADED
        assert sum(program.fd >= 0 for program in obj.programs.values()) == programs
        start = now()
        obj.close()
        times["close"] = now() - start
    if isinstance(handler, BeforeLoad):
        assert (handler.setups, handler.loads) == (programs, programs)
    return times


def native(floor, path, programs):
    effects = Effects()
    handler = pylbpf.NativeHandler(
        "many+", program_type=TYPE, cookie=ctypes.addressof(effects), setup=floor.library.floor_setup,
        prepare_load=floor.library.floor_prepare_load,
    )
    times = phases(path, handler, programs, 0)
    assert (effects.setup, effects.prepare_load) == (programs, programs)
    return times


@pytest.mark.parametrize("sections", ["each", "one"])
def test_handlers(race, floor, bpf, many, sections):
    path = many(N, "many" if sections == "one" else "many/{i}")
    type_number = int(TYPE)
    references = {name: "C callbacks" for name in ("pylbpf native", "pylbpf Python", "ctypes")}
    wanted = {"pylbpf declarative": 1.03, "pylbpf native": 1.03, "pylbpf Python": 1.06}
    race(
        {
            "C": lambda: floor.handlers(path, "many+", type_number, callbacks=False, programs=N),
            "C callbacks": lambda: floor.handlers(path, "many+", type_number, callbacks=True, programs=N),
            "pylbpf declarative": lambda: phases(path, Declarative(), N, 0),
            "pylbpf native": lambda: native(floor, path, N),
            "pylbpf Python": lambda: phases(path, BeforeLoad(), N, 2 * N),
            "ctypes": floor.quietly(lambda: peer_ctypes.handlers(path, "many+", type_number, programs=N)),
        },
        [
            Row("open + load", ["open", "load"], N, "us", references=references, ratios=wanted),
            Row("open", ["open"], N, "us", references=references),
            Row("load", ["load"], N, "us", references=references),
            Row("close", ["close"], N, "us", references=references),
        ],
        timed="pylbpf Python",
    )


