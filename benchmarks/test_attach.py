"""How long does it take to reach a handler's attach that returns no link?

1000 loaded programs, attached by Object.attach(), in C and ctypes one by one. The callback does nothing; that it came
for every program is checked by pylbpf's statistics, for ctypes by a profile of another run.
"""
import ctypes
import sys
from time import thread_time_ns as now

import peer_ctypes
import pylbpf
from floor import Effects
from race import Row

N = 1000
TYPE = pylbpf.ProgramType.RAW_TRACEPOINT


class Python(pylbpf.ProgramHandler):
    section = "many+"
    program_type = TYPE

    def attach(self, program):
        return None


def attach_all(obj):
    before = pylbpf.handler_stats()
    start = now()
    links = obj.attach()
    took = now() - start
    assert (pylbpf.handler_stats() - before).attach == N
    assert len(links) == 0 and len(links.skipped) == N
    return {"attach": took}


def with_ctypes(path):
    # Registered anew each time: what others register meanwhile would move libbpf's table under its programs.
    with peer_ctypes.dispatching(path, "many+", int(TYPE)) as dispatch:
        return dispatch()


def test_attach_dispatch(race, floor, bpf, many):
    path = many(N, "many")
    effects = Effects()
    native = pylbpf.NativeHandler(
        "many+", program_type=TYPE, cookie=ctypes.addressof(effects), attach=floor.library.floor_attach
    )
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(event == "call" and frame.f_code.co_name))
    try:
        with_ctypes(path)
    finally:
        sys.setprofile(None)
    assert calls.count("attach") == N
    with pylbpf.open(path, handlers=[Python()]) as python, pylbpf.open(path, handlers=[native]) as direct:
        python.load()
        direct.load()
        race(
            {
                "C": lambda: floor.handlers(path, "many+", int(TYPE), callbacks=True, programs=N),
                "pylbpf Python": lambda: attach_all(python),
                "pylbpf native": lambda: attach_all(direct),
                "ctypes": floor.quietly(lambda: with_ctypes(path)),
            },
            [Row("attach", ["attach"], N, limits={"pylbpf Python": 250})],
            timed="pylbpf Python",
        )
