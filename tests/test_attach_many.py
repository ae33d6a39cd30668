"""attach_many(): many programs in one call, in their order, and nothing left behind when it fails."""
from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import threading
import time
import warnings

import pytest

import handling
import kernel
import objects
import pylbpf
from together import HIT, SILENT, counted, few_descriptors, left, opened, perf_events

pytestmark = [pytest.mark.bpf, pytest.mark.usefixtures("tracefs", "requires_perf_event")]
MISSING = "tp/task/there_is_no_such"


@pytest.fixture
def before():
    """What there was before the test; nothing else may be left after it."""
    found = left()
    yield found
    gc.collect()
    assert left() == found


@pytest.fixture
def mixed(before):
    """Programs that are attached on several threads and such that are not."""
    with opened(HIT, *SILENT[:4], "raw_tp/task_rename", *SILENT[4:6], "raw_tp/sched_switch") as obj:
        yield obj


# ---------------------------------------------------------------- what comes of it


def test_objects_and_programs_mixed(mixed, before):
    with opened(HIT, name="other") as other, opened("raw_tp/task_rename", name="third") as third:
        with pylbpf.attach_many([other.programs["p0000"], mixed, third.programs["p0000"]]) as links:
            assert len(links) == 11 and not links.skipped and not links.errors
            assert [str(link.program) for link in links][1:10] == [str(each) for each in mixed.programs.values()]
            assert links[0].program.object is other and links[10].program.object is third
            assert len(kernel.own_link_ids() - before[0]) == 11
            assert [counted(mixed), counted(mixed, 5), counted(other), counted(third)] == [5, 5, 5, 5]
        assert [counted(mixed), counted(mixed, 5), counted(other), counted(third)] == [0, 0, 0, 0]
        assert left() == before


def test_link_names_say_what_was_attached(mixed):
    with pylbpf.attach_many([mixed]) as links:
        assert str(links[0]) == "program 'p0000' on its section"
        assert [link.program.name for link in links] == list(mixed.programs)


def test_nothing_to_attach():
    links = pylbpf.attach_many([])
    assert len(links) == 0
    links.close()


@pytest.mark.parametrize("threads", [None, 1, 2, 8, 100])
def test_threads(mixed, threads):
    with pylbpf.attach_many([mixed], threads=threads) as links:
        assert len(links) == 9 and counted(mixed) == 5


def test_objects_keep_their_links(mixed, before):
    links = pylbpf.attach_many([mixed])
    assert list(mixed.links) == list(links)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del links
        gc.collect()
    assert counted(mixed) == 5
    mixed.close()
    assert left() == before


def test_links_of_programs_are_the_sets(mixed, before):
    links = pylbpf.attach_many([mixed.programs["p0000"], mixed.programs["p0005"]])
    assert len(mixed.links) == 0
    with pytest.warns(ResourceWarning, match="a LinkSet of 2 links was never closed") as warned:
        del links
    assert len(warned) == 1 and left() == before


def test_a_link_that_somebody_holds_outlives_its_set(mixed):
    link = pylbpf.attach_many([mixed.programs["p0000"]])[0]
    assert not link.closed and counted(mixed) == 5
    link.close()


def test_a_slice_keeps_its_links(mixed):
    links = pylbpf.attach_many([mixed.programs["p0000"], mixed.programs["p0005"]])
    part = links[1:]
    with pytest.warns(ResourceWarning, match="a LinkSet of 1 links"):
        del links
    assert counted(mixed, 5) == 5 and counted(mixed) == 0
    part.close()


def test_autoattach_is_for_whole_objects(mixed):
    mixed.programs["p0000"].autoattach = False
    with pylbpf.attach_many([mixed]) as links:
        assert len(links) == 8 and counted(mixed) == 0
    with pylbpf.attach_many([mixed, mixed.programs["p0000"]]) as links:
        assert len(links) == 9 and counted(mixed) == 5 and len(mixed.links) == 8


def test_skipped(before):
    with opened("perf_event", "raw_tp/task_rename", name="skipping") as obj:
        with pylbpf.attach_many([obj]) as links:
            assert [link.program.name for link in links] == ["p0001"]
            assert [program.name for program in links.skipped] == ["p0000"]
        with pylbpf.attach_many([obj.programs["p0000"]]) as links:
            assert len(links) == 0 and [program.name for program in links.skipped] == ["p0000"]


def test_a_load_report_stands_for_its_objects(before):
    path = objects.build(objects.many(2, ["raw_tp/task_rename"], with_map=True), "report")
    with pylbpf.load_many([path, b"no object", path]) as report:
        with pylbpf.attach_many(report) as links:
            assert len(links) == 4


def test_uprobes_together(before):
    if reason := kernel.no_uprobe():
        pytest.skip(reason)
    sections = [f"uprobe/libc.so.6:{name}" for name in ("getpid", "getppid", "getuid", "geteuid", "getgid")]
    with opened(*sections, name="uprobes") as obj:
        with pylbpf.attach_many([obj]) as links:
            assert len(links) == 5
            before_call = int.from_bytes(obj.maps["counts"].lookup(bytes([1, 0, 0, 0])), "little")
            os.getppid()
            assert int.from_bytes(obj.maps["counts"].lookup(bytes([1, 0, 0, 0])), "little") > before_call


# ---------------------------------------------------------------- handlers


class Noting(pylbpf.ProgramHandler):
    program_type = pylbpf.ProgramType.RAW_TRACEPOINT

    def __init__(self, events, fails=None):
        super().__init__(section="mine/")
        self.events, self.fails = events, fails

    def attach(self, program):
        self.events.append((program.section, threading.get_ident()))
        if program.section == self.fails:
            program.attach_raw_tracepoint("task_rename")  # which must not outlive the failure
            raise RuntimeError("not this one")
        if program.section == "mine/none":
            return None
        return [program.attach_raw_tracepoint(name) for name in ("task_rename", "oom_score_adj_update")]


def test_handlers_have_their_turn_on_the_calling_thread(before):
    events = []
    with opened("mine/a", "raw_tp/task_rename", "mine/none", "mine/b", handlers=(Noting(events),), name="mine") as obj:
        with pylbpf.attach_many([obj]) as links:
            assert [link.program.name for link in links] == ["p0000", "p0000", "p0001", "p0003", "p0003"]
            assert [program.name for program in links.skipped] == ["p0002"]
            assert [section for section, _ in events] == ["mine/a", "mine/none", "mine/b"]
            assert {thread for _, thread in events} == {threading.get_ident()}
            assert counted(obj) == 5
        assert counted(obj) == 0


def test_handler_that_raises_rolls_back(before):
    with opened(HIT, "mine/a", "mine/bad", "raw_tp/task_rename", handlers=(Noting([], "mine/bad"),), name="bad") as obj:
        with pytest.raises(RuntimeError, match="not this one"):
            pylbpf.attach_many([obj])
        assert left() == before and len(obj.links) == 0
        with pylbpf.attach_many([obj], rollback=False) as links:
            assert len(links) == 4
            (program, error), = links.errors
            assert program.name == "p0002" and str(error) == "not this one"


def test_keyboard_interrupt_of_a_handler_is_never_collected(before):
    class Interrupting(Noting):
        def attach(self, program):
            raise KeyboardInterrupt

    with opened("raw_tp/task_rename", "mine/a", handlers=(Interrupting([]),), name="interrupting") as obj:
        with pytest.raises(KeyboardInterrupt):
            pylbpf.attach_many([obj], rollback=False)
        assert left() == before


def test_inside_a_handlers_own_attach(before):
    class Nested(handling.Recorder):
        def attach(self, program):
            with pytest.raises(pylbpf.StateError, match="inside a callback"):
                pylbpf.attach_many([program.object])
            return pylbpf.attach_many([program.object.programs["p0001"]])

    with opened("mine/a", "raw_tp/task_rename", handlers=(Nested(section="mine/"),), name="nested") as obj:
        obj.programs["p0001"].autoattach = False
        with pylbpf.attach_many([obj]) as links:
            assert len(links) == 1 and links[0].program.name == "p0001"
            assert counted(obj, 1) == 5


def test_native_handlers_and_overrides(before):
    handler = pylbpf.ProgramHandler(section="raw_tp/", program_type=pylbpf.ProgramType.RAW_TRACEPOINT)
    with opened("raw_tp/task_rename", HIT, handlers=(handler,), name="overridden") as obj:
        with pylbpf.attach_many([obj]) as links:
            assert len(links) == 2 and counted(obj) == 5 and counted(obj, 1) == 5


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("at", [0, 3, 5])
def test_rollback(before, at):
    sections = [HIT, *SILENT[:4]]
    sections.insert(at, MISSING)
    with opened(*sections, name="missing") as obj, opened("raw_tp/task_rename", name="first") as first:
        with pytest.raises(FileNotFoundError, match=f"attach program 'p000{at}'") as raised:
            pylbpf.attach_many([first, obj])
        assert "there_is_no_such" in raised.value.log
        assert left() == before
        assert counted(obj) == counted(first) == 0
        assert len(obj.links) == len(first.links) == 0


def test_the_first_failure_is_the_first_in_order(before):
    with opened("tp/a/b", HIT, "tp/c/d", "tp/e/f", "tp/g/h", name="failing") as obj:
        for _ in range(5):
            with pytest.raises(FileNotFoundError, match="'p0000'"):
                pylbpf.attach_many([obj])


def test_collected_failures(before):
    with opened(MISSING, HIT, *SILENT[:3], "raw_tp/there_is_no_such", "raw_tp/task_rename", name="collecting") as obj:
        with pylbpf.attach_many([obj], rollback=False) as links:
            assert len(links) == 5 and counted(obj, 1) == 5
            assert [program.name for program, _ in links.errors] == ["p0000", "p0005"]
            assert all(error.errno == errno.ENOENT for _, error in links.errors)
            assert "2 failed" in repr(links)
            assert len(obj.links) == 5


def test_object_attach_takes_the_same_way(before):
    with opened(HIT, *SILENT[:3], MISSING, name="same") as obj:
        with pytest.raises(FileNotFoundError, match="'p0004'"):
            obj.attach()
        assert left() == before and counted(obj) == 0


def test_bad_items(mixed, before):
    with opened("raw_tp/task_rename", name="closed") as closed:
        gone = closed.programs["p0000"]
    program = mixed.programs["p0000"]
    for items, error, text in (
        ([mixed, "p0000"], TypeError, "takes programs and objects, not str"),
        (mixed.programs, TypeError, "not str"),
        ([program, None], TypeError, "not NoneType"),
        (7, TypeError, "not iterable"),
        ([program, program], ValueError, "program 'p0000' of together.bpf.o is given twice"),
        ([mixed, program], ValueError, "program 'p0000' of together.bpf.o is given twice"),
        ([mixed, mixed], ValueError, "given twice"),
        ([program, closed], ValueError, "closed"),
        ([program, gone], ValueError, "closed"),
    ):
        with pytest.raises(error, match=text):
            pylbpf.attach_many(items)
    for threads, error in ((0, ValueError), (-1, ValueError), ("2", TypeError), (1 << 20, ValueError)):
        with pytest.raises(error, match="threads"):
            pylbpf.attach_many([mixed], threads=threads)
    assert left() == before


def test_not_loaded(mixed, before):
    path = objects.build(objects.many(2, ["raw_tp/task_rename"]), "plain")
    with pylbpf.open(path) as obj:
        for item in (obj, obj.programs["p0000"]):
            with pytest.raises(pylbpf.StateError, match="must be loaded"):
                pylbpf.attach_many([mixed, item])
        obj.programs["p0001"].autoload = False
        obj.load()
        with pytest.raises(pylbpf.StateError, match="was not loaded"):
            pylbpf.attach_many([mixed, obj.programs["p0001"]])
        with pylbpf.attach_many([obj]) as links:
            assert len(links) == 1
    assert left() == before


def test_out_of_descriptors(mixed, before):
    with few_descriptors(6):
        with pytest.raises(OSError) as raised:
            pylbpf.attach_many([mixed])
    assert raised.value.errno == errno.EMFILE
    assert left() == before and counted(mixed) == 0


# ---------------------------------------------------------------- progress, signals


def test_progress(mixed):
    told = []
    with pylbpf.attach_many([mixed], on_progress=lambda done, total: told.append((done, total, threading.get_ident()))):
        assert told == [(done, 9, threading.get_ident()) for done in range(1, 10)]


@pytest.mark.parametrize("at", [1, 3, 6, 9])
@pytest.mark.parametrize("rollback", [True, False])
def test_progress_that_raises_rolls_back(mixed, before, at, rollback):
    def on_progress(done, total):
        if done == at:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        pylbpf.attach_many([mixed], on_progress=on_progress, rollback=rollback)
    assert left() == before and counted(mixed) == 0 and len(mixed.links) == 0


@pytest.mark.parametrize("at", [1, 3, 6, 8])
def test_ctrl_c(mixed, before, at):
    def on_progress(done, total):
        if done == at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pylbpf.attach_many([mixed], on_progress=on_progress)
    assert left() == before and counted(mixed) == 0


def test_objects_are_locked_meanwhile(mixed):
    states = []

    def on_progress(done, total):
        if not states:
            with pytest.raises(pylbpf.StateError, match="inside a callback"):
                mixed.close()
            states.append(mixed.state)

    with pylbpf.attach_many([mixed], on_progress=on_progress):
        assert states == [pylbpf.State.LOADED]


def test_two_threads_with_the_same_objects_in_another_order():
    failures = []
    with contextlib.ExitStack() as stack:
        several = [stack.enter_context(opened("raw_tp/task_rename", name=f"o{i}")) for i in range(4)]

        def work(items):
            try:
                for _ in range(30):
                    try:
                        pylbpf.attach_many(items).close()
                    except FileExistsError:
                        if not kernel.RAW_TRACEPOINTS_ONCE:
                            raise
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(items,)) for items in (several, several[::-1], several[2:] + several[:2])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


# ---------------------------------------------------------------- tracepoints, by a perf event of our own


@pytest.mark.parametrize("way", ["section", "override", "by hand", "object"])
def test_disconnect_finds_the_event_of_every_tracepoint_link(before, way):
    """The program has another link, so it does not say which event is whose."""
    class Mine(pylbpf.ProgramHandler):
        def attach(self, program):
            return program.attach()

    handlers = (Mine(section="tp/", program_type=pylbpf.ProgramType.TRACEPOINT),) if way == "override" else ()
    with opened(HIT, name="twice", handlers=handlers) as obj:
        program = obj.programs["p0000"]

        def attach():
            return {"by hand": lambda: program.attach_tracepoint("task", "task_rename"), "object": lambda: obj.attach()[0]}.get(
                way, program.attach)()

        with program.attach_tracepoint("sched", "sched_process_exit") as other:
            link = attach()
            assert len(perf_events()) - len(before[1]) == 2
            fd = link.disconnect()
            assert len(perf_events()) - len(before[1]) == 1
            assert counted(obj) == 5
            os.close(fd)
            assert counted(obj) == 0
            assert not other.closed


def test_listeners_hear_why_a_tracepoint_was_not_found():
    heard = []
    with opened(MISSING, name="heard") as obj:
        earlier = pylbpf.set_print(lambda level, line: heard.append((level, line)), pylbpf.LogLevel.WARN)
        try:
            with pytest.raises(FileNotFoundError) as raised:
                obj.programs["p0000"].attach()
        finally:
            pylbpf.set_print(earlier)
    assert heard == [(pylbpf.LogLevel.WARN, raised.value.log.rstrip("\n"))]
    assert "task/there_is_no_such" in heard[0][1] and "No such file" in heard[0][1]


def test_a_listener_that_calls_the_object_does_not_wait_for_itself(before):
    raised = []

    def listener(level, line):
        try:
            obj.attach()
        except pylbpf.StateError as error:
            raised.append(error)

    with opened(HIT, *[MISSING] * 8, name="listening") as obj:
        earlier = pylbpf.set_print(listener, pylbpf.LogLevel.WARN)
        try:
            pylbpf.attach_many([obj], rollback=False).close()
        finally:
            pylbpf.set_print(earlier)
    assert len(raised) == 8


@pytest.mark.parametrize("category, name, number", [
    ("task", "x" * 5000, errno.E2BIG), ("..", "nothing", errno.ENOENT), ("task", "task_rename/format", errno.ENOENT),
])
def test_tracepoints_that_cannot_be(category, name, number):
    with opened(HIT, name="impossible") as obj:
        with pytest.raises(OSError) as raised:
            obj.programs["p0000"].attach_tracepoint(category, name)
        assert raised.value.errno in (number, errno.ENOTDIR)


def test_stress_of_attach_and_detach_on_threads(before):
    """Objects of their own, attached and released side by side."""
    failures = []
    end = time.monotonic() + 2

    def work(number):
        try:
            with opened("raw_tp/task_rename", "raw_tp/sched_switch", HIT, name=f"stress{number}") as obj:
                while time.monotonic() < end and not failures:
                    links = pylbpf.attach_many([obj])
                    links.close(wait=number % 2 == 0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    pylbpf.detach_many([])
    deadline = time.monotonic() + 30
    while perf_events() != before[1] and time.monotonic() < deadline:
        time.sleep(0.05)


# ---------------------------------------------------------------- misuse


def test_one_thing_instead_of_several(before):
    with opened("raw_tp/task_rename", HIT, name="single") as obj:
        with pylbpf.attach_many(obj) as links:
            assert len(links) == 2
        with pylbpf.attach_many(obj.programs["p0001"]) as links:
            assert [link.program.name for link in links] == ["p0001"] and counted(obj, 1) == 5
        with pytest.raises(TypeError, match="takes programs and objects, not str"):
            pylbpf.attach_many(obj.programs)
    assert len(pylbpf.attach_many([])) == 0


def test_what_cannot_be_called_is_told_before_anything_is_attached(before):
    with opened(HIT, name="uncalled") as obj:
        with pytest.raises(TypeError, match="on_progress must be callable, not int"):
            pylbpf.attach_many([obj], on_progress=5)
        assert left() == before


@pytest.mark.parametrize("sections", [[HIT, *SILENT[:6]], ["raw_tp/task_rename"] * 4])
def test_a_child_that_on_progress_forks_leaves_the_links_alone(before, sections):
    children = []

    def fork(done, total):
        if done == 2:
            child = os.fork()
            if child == 0:
                return
            children.append(child)

    parent = os.getpid()
    with opened(*sections, name="forking") as obj:
        try:
            links = pylbpf.attach_many([obj], on_progress=fork)
        except BaseException as error:
            if os.getpid() == parent:
                raise
            os._exit(7 if isinstance(error, pylbpf.StateError) and "forked in the middle" in str(error) else 8)
        if os.getpid() != parent:
            os._exit(6)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
        assert len(links) == len(sections) and counted(obj) == 5
        links.close()


def test_objects_that_nobody_else_holds_are_kept_meanwhile(bpf_object):
    def loaded():
        obj = pylbpf.open(bpf_object("task_rename"))
        obj.load()
        return obj

    with pylbpf.attach_many(loaded() for _ in range(2)) as links:
        assert len(links) >= 2 and not any(link.closed for link in links)
