"""Who keeps whom: whatever is dropped, closed or collected in whatever order, nothing dangles and nothing is left."""
from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import subprocess
import sys
import threading
import textwrap
import time
import warnings
import weakref
from pathlib import Path

import pytest

import kernel
import pylbpf
import rings

HERE = Path(__file__).parent


def descriptors() -> set[str]:
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")}


# ---------------------------------------------------------------- children keep their parents


@pytest.mark.parametrize("child, use", [
    (lambda obj: obj.programs, lambda programs: programs["first"].name == "first"),
    (lambda obj: obj.maps, lambda maps: maps["counts"].max_entries == 4),
    (lambda obj: obj.programs["first"], lambda program: program.name == "first" and len(program.insns) > 2),
    (lambda obj: obj.maps["counts"], lambda map: map.key_size == 4),
    (lambda obj: obj.btf, lambda btf: btf.name(btf.find("first")) == "first"),
    (lambda obj: obj.programs["first"].insns, lambda insns: insns.tobytes()[-8] == insns[-1].code),
    (lambda obj: memoryview(obj.programs["first"].insns), lambda view: len(view.tobytes()) == view.nbytes),
    (lambda obj: obj.programs["first"].insns[1:], lambda insns: len(list(insns)) == len(insns)),
    (lambda obj: iter(obj.programs.values()), lambda programs: [p.name for p in programs][0] == "first"),
], ids=["programs", "maps", "program", "map", "btf", "insns", "memoryview", "slice", "iterator"])
def test_child_works_when_the_object_is_dropped(bpf_object, child, use):
    obj = pylbpf.open(bpf_object("subprogs"))
    watch = weakref.ref(obj)
    kept = child(obj)
    del obj
    gc.collect()
    assert watch() is None or use(kept)
    assert use(kept)


@pytest.mark.bpf
def test_program_map_and_link_work_when_the_object_is_dropped(bpf_object):
    obj = rings.loaded(bpf_object("rings"))
    program, config = obj.programs["send"], obj.maps["config"]
    del obj
    gc.collect()
    link = program.attach()
    del program
    gc.collect()
    rings.send(3)
    assert int.from_bytes(config.lookup(rings.NUMBER), sys.byteorder) == 3
    link.close()


@pytest.mark.bpf
def test_reference_counts_alone_free_everything(bpf_object):
    gc.collect()
    gc.disable()
    try:
        before = descriptors()
        obj = rings.loaded(bpf_object("rings"))
        links, ring = obj.attach(), obj.ring_buffer("even", print)
        program, insns = obj.programs["send"], obj.programs["send"].insns
        assert len(descriptors()) > len(before) + 4
        links.close()
        del obj, links, ring, program, insns
        assert descriptors() == before
    finally:
        gc.enable()


@pytest.mark.bpf
def test_parent_does_not_keep_its_children(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        for make in (lambda: obj.programs["send"].attach(), lambda: obj.ring_buffer("even")):
            child = make()
            watch = weakref.ref(child)
            child.close()
            del child
            assert watch() is None
        ring = obj.ring_buffer("even")
        before = descriptors()
        del ring
        assert descriptors() < before


# ---------------------------------------------------------------- links


@pytest.mark.bpf
def test_dropped_link_warns_and_detaches(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        link = obj.programs["send"].attach()
        with pytest.warns(ResourceWarning, match="Link: program 'send'.*was never closed"):
            del link
            gc.collect()
        rings.send()
        assert rings.sent(obj) == 0


@pytest.mark.bpf
def test_dropped_link_detaches_also_where_warnings_are_errors(bpf_object, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: unraisable.append(hook.exc_type))
    before = descriptors()
    with rings.loaded(bpf_object("rings")) as obj:
        link = obj.programs["send"].attach()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del link
            gc.collect()
        assert unraisable == [ResourceWarning]
        rings.send()
        assert rings.sent(obj) == 0
    assert descriptors() == before


@pytest.mark.bpf
@pytest.mark.parametrize("end", ["destroy", "disconnect", "object"])
def test_ended_link_does_not_warn(bpf_object, end):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        obj = rings.loaded(bpf_object("rings"))
        link = obj.programs["send"].attach()
        if end == "destroy":
            link.destroy()
        elif end == "disconnect":
            os.close(link.disconnect())
        obj.close()
        del link, obj
        gc.collect()
    assert [each.message for each in warned] == []


# ---------------------------------------------------------------- order


@pytest.mark.bpf
@pytest.mark.parametrize("order", list(itertools.permutations(["object", "link", "ring", "view"])), ids="-".join)
@pytest.mark.parametrize("how", ["close", "drop"])
def test_closed_or_dropped_in_every_order(bpf_object, order, how):
    before = descriptors()
    obj = rings.loaded(bpf_object("rings"))
    things = {
        "object": obj, "link": obj.programs["send"].attach(), "ring": obj.ring_buffer("even", print),
        "view": memoryview(obj.programs["send"].insns),
    }
    del obj
    expected = things["view"].tobytes()
    for name in order:
        if how == "drop":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                del things[name]
        elif name == "view":
            things[name].release()
        elif name == "object" and order.index("view") > order.index("object"):
            with pytest.raises(BufferError):
                things[name].close()
        else:
            things[name].close()
        if "view" in things and order.index("view") > order.index(name):
            assert things["view"].tobytes() == expected
    if how == "close":
        things["object"].close()
        assert things["link"].closed and things["ring"].closed
        for name, thing in things.items():
            (thing.release if name == "view" else thing.close)()  # a second time
    things.clear()
    assert descriptors() == before


@pytest.mark.bpf
def test_close_that_was_refused_leaves_all_as_it_was(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        obj.attach()
        ring = obj.ring_buffer("even")
        with memoryview(obj.programs["send"].insns):
            with pytest.raises(BufferError):
                obj.close()
            assert not ring.closed and [link.closed for link in obj.links] == [False]
            rings.send()
            assert rings.sent(obj) == 1
    assert ring.closed


# ---------------------------------------------------------------- cycles


class Holder:
    """Something in a cycle with itself."""

    def __init__(self, **things):
        self.__dict__.update(things)
        self.own = self


@pytest.mark.bpf
def test_cycles_are_collected(bpf_object):
    gc.collect()
    before = descriptors()
    obj = rings.loaded(bpf_object("rings"))
    holder = Holder(obj=obj, program=obj.programs["send"], map=obj.maps["even"], insns=obj.programs["send"].insns,
                    view=memoryview(obj.programs["send"].insns), link=obj.programs["send"].attach())
    holder.ring = obj.ring_buffer("even", lambda record, holder=holder: None)
    holder.records = iter(obj.ring_buffer("odd"))
    watch = weakref.ref(holder)
    holder.link.close()
    del obj, holder
    gc.collect()
    assert watch() is None and descriptors() == before


@pytest.mark.bpf
def test_cycle_with_an_open_link_is_collected_with_a_warning(bpf_object):
    gc.collect()
    before = descriptors()
    obj = rings.loaded(bpf_object("rings"))
    holder = Holder(obj=obj, link=obj.programs["send"].attach())
    del obj, holder
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert descriptors() == before


def test_collector_may_take_a_view_before_its_buffer(bpf_object):
    """It clears a cycle in any order; the buffer is counted down when it is released, whatever is gone by then."""
    with pylbpf.open(bpf_object("subprogs")) as obj:
        for _ in range(10):
            insns = obj.programs["first"].insns
            cycle = [insns, memoryview(insns), memoryview(insns[1:])]
            cycle.append(cycle)
            del insns, cycle
            gc.collect()
    assert obj.closed  # close() found no view in use


@pytest.mark.bpf
def test_collector_may_take_a_ring_buffer_before_its_callback(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        gc.collect()
        before = descriptors()
        for _ in range(5):
            ring, cycle = obj.ring_buffer("even"), []
            ring.add(obj.maps["odd"], cycle.append)
            cycle.append(ring)
            del ring, cycle
            gc.collect()
        assert descriptors() == before


def test_handler_in_a_cycle_with_its_object_is_collected(bpf_object):
    class Handler(pylbpf.ProgramHandler):
        section = "sample"

        def setup(self, program):
            self.program = program

    gc.collect()
    handler = Handler()
    handler.obj = pylbpf.open(bpf_object("handlers"), handlers=[handler])
    watch = weakref.ref(handler.obj)
    name = handler.program.name
    del handler
    gc.collect()
    assert name == "on_sample" and watch() is None


def test_callback_in_a_cycle_with_its_ring_buffer_is_collected(bpf_object, requires_bpf):
    class Reader:
        def __init__(self, obj):
            self.ring = obj.ring_buffer("even", self.on_record)

        def on_record(self, record):
            pass

    with rings.loaded(bpf_object("rings")) as obj:
        before = descriptors()
        watch = weakref.ref(Reader(obj))
        gc.collect()
        assert watch() is None and descriptors() == before


# ---------------------------------------------------------------- many


@pytest.mark.bpf
def test_nothing_grows(bpf_object):
    path, data = bpf_object("rings"), bpf_object("rings").read_bytes()

    def once():
        with rings.loaded(path) as obj:
            obj.attach()
            with obj.ring_buffer("even", lambda record: None) as ring:
                rings.send(2)
                ring.poll(0)
            obj.programs["send"].insns.tobytes()
        with contextlib.suppress(pylbpf.BpfError):
            pylbpf.open(data[:len(data) // 2])

    def resident():
        gc.collect()
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    for _ in range(20):
        once()
    fds, memory = descriptors(), resident()
    for _ in range(60):
        once()
    assert descriptors() == fds
    if "asan" not in os.environ.get("LD_PRELOAD", ""):  # which keeps freed memory for a while
        assert resident() - memory < 4 << 20


# ---------------------------------------------------------------- exit


def run(code: str, *arguments, options=()) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, *options, "-c", textwrap.dedent(code), *map(str, arguments)],
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)


EVERYTHING_OPEN = """
    import sys, threading, pylbpf, rings
    class Handler(pylbpf.ProgramHandler):
        section = "sample"
        def setup(self, program): self.program = program
    registration = pylbpf.register(Handler())
    pylbpf.set_print(lambda level, line: None, 2)
    obj = rings.loaded(sys.argv[1])
    links = {links}
    program, map, btf, insns = obj.programs["send"], obj.maps["config"], obj.btf, obj.programs["send"].insns
    view = memoryview(insns)
    ring = obj.ring_buffer("even", lambda record: None)
    records = iter(obj.ring_buffer("odd"))
    rings.send()
    another = pylbpf.open(sys.argv[1])
    threading.Thread(target=ring.poll, daemon=True).start()
    print("done")
"""


@pytest.mark.bpf
@pytest.mark.parametrize("options", [(), ("-X", "dev"), ("-W", "error"), ("-X", "dev", "-W", "error")], ids=" ".join)
def test_exit_with_everything_open_prints_nothing(bpf_object, options):
    """obj keeps the links of obj.attach(); that it is never closed is no more than an open file at exit is."""
    result = run(EVERYTHING_OPEN.format(links="None"), bpf_object("rings"), options=options)
    assert (result.returncode, result.stdout) == (0, "done\n")


@pytest.mark.bpf
def test_exit_with_an_open_link_says_no_more_than_that(bpf_object):
    result = run(EVERYTHING_OPEN.format(links="obj.attach()"), bpf_object("rings"), options=("-X", "dev"))
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and lines[0] == "done"
    assert all("ResourceWarning" in line and "was never closed" in line for line in lines[1:]), result.stdout
    result = run(EVERYTHING_OPEN.format(links="obj.attach()"), bpf_object("rings"))
    assert (result.returncode, result.stdout) == (0, "done\n")


@pytest.mark.bpf
def test_exit_leaves_nothing_attached(bpf_object):
    tell = "\n    print(open(f'/proc/self/fdinfo/{links[0].fd}').read())\n"
    numbers = set()
    for options in ((), ("-W", "error")):
        result = run(EVERYTHING_OPEN.format(links="obj.attach()") + tell, bpf_object("rings"), options=options)
        numbers.add(int(re.search(r"^link_id:\s*(\d+)", result.stdout, re.MULTILINE).group(1)))
    for _ in range(200):
        if not numbers & kernel.link_ids():
            break
        time.sleep(0.01)
    assert len(numbers) == 2 and not numbers & kernel.link_ids()


def test_sys_exit_out_of_a_callback_ends_the_process(bpf_object):
    result = run("""
        import sys, pylbpf
        class Handler(pylbpf.ProgramHandler):
            section = "sample"
            def setup(self, program): sys.exit(7)
        pylbpf.open(sys.argv[1], handlers=[Handler()])
    """, bpf_object("handlers"), options=("-X", "dev"))
    assert (result.returncode, result.stdout) == (7, "")


@pytest.mark.bpf
def test_handles_in_a_module_that_is_torn_down(bpf_object):
    """Finalizers run when most of the interpreter is gone."""
    result = run("""
        import sys, pylbpf, rings
        class Late:
            def __init__(self, obj): self.obj = obj; self.link = obj.programs["send"].attach()
            def __del__(self):
                self.link.close()
                self.obj.close()
                print("late")
        late = Late(rings.loaded(sys.argv[1]))
        sys.modules['keeps_it_for_long'] = sys.keeps_it_for_long = [late]
        del late
    """, bpf_object("rings"), options=("-X", "dev"))
    assert result.returncode == 0 and result.stdout in ("late\n", ""), result.stdout


@pytest.mark.bpf
def test_a_view_that_is_taken_while_the_object_closes_holds_it(bpf_object, requires_uprobe):
    """Links of probes take their time; the lock is not what views wait for."""
    with pylbpf.open(bpf_object("uprobe")) as obj:
        obj.load()
        program = next(iter(obj.programs.values()))
        links = [program.attach_uprobe("libc.so.6", function="getppid") for _ in range(3)]
        views = []
        taker = threading.Thread(target=lambda: (time.sleep(0.02), views.append(memoryview(program.insns))))
        taker.start()
        try:
            obj.close()
        except BufferError:
            pass
        taker.join()
        assert obj.closed or views and views[0].nbytes
        assert all(link.closed for link in links)
        for view in views:
            view.release()
