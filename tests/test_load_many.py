"""load_many: each item ends as it would alone, and whatever goes wrong is told and cleaned up."""
from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import corpus
import handling
import kernel
import objects
import pylbpf
from expectations import rounds

pytestmark = pytest.mark.bpf

SMALL = objects.many(3, "raw_tp/sys_enter", with_map=True)


@pytest.fixture(scope="module")
def built() -> dict[str, Path]:
    return {name: path for name, path in objects.build_all()[0].items() if name not in ("long_log", "long_load")}


@pytest.fixture(scope="module")
def small() -> Path:
    return objects.build(SMALL, "small")


def alone(path: Path, **options) -> tuple[str, str]:
    """What becomes of an item by itself: "loaded", or "failed" and the message."""
    try:
        with pylbpf.open(path, **options) as obj:
            obj.load()
    except OSError as error:
        return "failed", str(error)
    return "loaded", ""


def code(obj: pylbpf.Object) -> dict[str, bytes]:
    """The instructions of all programs, without the numbers of descriptors."""
    result = {}
    for name, program in obj.programs.items():
        insns = program.insns.to_numpy().copy()
        insns["imm"][(insns["code"] == 0x18) & (insns["regs"] >> 4 > 0)] = 0
        result[name] = insns.tobytes()
    return result


# ---------------------------------------------------------------- each item as by itself


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_each_item_ends_as_it_would_alone(built, threads):
    expected = {name: alone(path) for name, path in built.items()}
    with pylbpf.load_many(built.values(), threads=threads) as report:
        assert [result.source for result in report] == list(built.values())
        for name, result in zip(built, report):
            assert (result.state, str(result.error or "")) == expected[name]
            assert (result.object is not None) == result.ok == (result.error is None)
    assert not report.objects


@pytest.mark.parametrize("shared", [False, True])
def test_instructions_are_those_of_a_plain_load(built, shared):
    with pylbpf.load_many(list(built.values()) * 2, share_kernel_btf=shared) as report:
        for result in report:
            if result.ok:
                with pylbpf.open(result.source) as obj:
                    obj.load()
                    assert code(obj) == code(result.object), result
    # What needs types of the kernel's modules, and loads here, goes the plain way.
    ways = {result.kernel_btf: result.kernel_btf_reason for result in report}
    if not kernel.no_btf():
        assert ("shared" in ways) == shared and ways.keys() <= {"shared", "plain", None}, ways


def test_one_alone_takes_the_plain_way(built):
    with pylbpf.load_many(built["core"]) as report:
        assert report[0].ok and report[0].kernel_btf is None


def test_loaded_programs_run(built, trigger):
    path = built["raw_tp"]
    with pylbpf.load_many([path, path]) as report:
        assert len(report.programs) == 2 and all(program.fd >= 0 for program in report.programs)
        with report[0].object.attach() as links:
            assert len(links) == 1


def test_order_given_and_by_cost(tmp_path):
    """One thread does them one after the other, so the order can be seen."""
    sizes = [5, 200, 50]
    paths = [objects.build(objects.many(n, "raw_tp/sys_enter"), f"n{n}") for n in sizes]
    seen: list[int] = []

    def note(done, total, result):
        seen.append(len(result.verdicts))
        assert (done, total) == (len(seen), 3)

    report = pylbpf.load_many(paths, threads=1, on_progress=note)
    assert seen == [200, 50, 5] and [len(result.verdicts) for result in report] == sizes
    del seen[:]
    pylbpf.load_many(paths, threads=1, on_progress=note, order="given").close()
    assert seen == sizes
    del seen[:]
    for seconds, result in zip((1, 2, 3), report):
        result.load_seconds = seconds
    pylbpf.load_many(paths, threads=1, on_progress=note, order=report).close()
    assert seen == [50, 200, 5]
    report.close()


def test_results_tell_what_happened(built):
    with pylbpf.load_many([built["raw_tp"], built["rejected"], built["override"]]) as report:
        good, bad, partly = report
        assert good.verdicts == {"on_sys_enter": "accepted"} and good.instructions > 10
        assert good.open_seconds > 0 and good.load_seconds > 0
        if pylbpf.libbpf_version() >= (1, 6):
            assert 0 < good.prepare_seconds < good.load_seconds
        else:
            assert good.prepare_seconds is None
        assert bad.verdicts == {"careful": "accepted", "careless": "rejected"}
        assert isinstance(bad.error, pylbpf.VerifierError) and bad.error.section.startswith("raw_tp")
        assert "map_value_or_null" in bad.log and bad.error.log == bad.log
        assert "skipped" in partly.verdicts.values()
        assert report.failed == [bad] and report.errors == [bad.error]
        assert repr(report) == "<LoadReport: 2 loaded, 1 failed>" and "rejected.bpf.o, failed" in repr(bad)
        with pytest.raises(pylbpf.VerifierError):
            report.raise_first()
    assert good.verdicts == {"on_sys_enter": "accepted"}        # also when the object is closed
    assert len(report[:2]) == 2 and isinstance(report[:2], pylbpf.LoadReport)


def test_logs_are_wanted_and_bounded(small):
    path = objects.build(objects.SOURCES / "long_log.bpf.c")
    with pylbpf.load_many([path, small], log_level=1, log_limit=20000) as report:
        long, short = report
        assert len(long.log) <= 20000 and long.error.log_true_size > 1 << 20
        assert long.error.summary == "R3 invalid mem access 'scalar'"
        assert "p0000" in short.verdicts and "processed" in short.log
    for limit in (0, 1, 5000):
        report = pylbpf.load_many(path, log_limit=limit)
        assert len(report[0].log) <= limit and report[0].error.log_true_size > 1 << 20


# ---------------------------------------------------------------- what can be given


def test_patterns_bytes_and_objects(tmp_path, small):
    for name in ("a.bpf.o", "b.bpf.o"):
        (tmp_path / name).write_bytes(small.read_bytes())
    (tmp_path / "[odd].bpf.o").write_bytes(small.read_bytes())
    obj = pylbpf.open(small)
    items = [f"{tmp_path}/?.bpf.o", small.read_bytes(), bytearray(small.read_bytes()), obj, tmp_path / "[odd].bpf.o"]
    with pylbpf.load_many(items) as report:
        assert [result.name for result in report] == ["a.bpf.o", "b.bpf.o", "<memory>", "<memory>", "small.bpf.o", "[odd].bpf.o"]
        assert all(result.ok for result in report)
        assert report[4].object is obj and obj.state == pylbpf.State.LOADED
    assert obj.closed
    with pylbpf.load_many(str(small)) as report:
        assert len(report) == 1
    assert len(pylbpf.load_many([])) == 0


def test_what_cannot_be_opened_is_a_failure(tmp_path, small):
    (tmp_path / "cut.bpf.o").write_bytes(small.read_bytes()[:200])
    report = pylbpf.load_many([tmp_path, tmp_path / "none", f"{tmp_path}/*.x", tmp_path / "cut.bpf.o", b"", b"\x7fELF"])
    assert [type(error).__mro__[1] for error in report.errors[:3]] == [pylbpf.BpfError] * 3
    assert isinstance(report.errors[0], IsADirectoryError)
    assert all(isinstance(error, FileNotFoundError) for error in report.errors[1:3])
    assert all(isinstance(error, pylbpf.LibbpfError) for error in report.errors[3:])
    assert report[3].verdicts == {} and report[3].load_seconds == 0


@pytest.mark.parametrize("arguments, error, words", [
    ({"items": [3]}, TypeError, "path or bytes-like"),
    ({"items": 3}, TypeError, "path or bytes-like"),
    ({"items": [None]}, TypeError, "path or bytes-like"),
    ({"threads": 0}, ValueError, "1 to 1024"),
    ({"threads": 1.5}, TypeError, "number or None"),
    ({"on_error": "ignore"}, ValueError, "'collect', 'raise' or 'rollback'"),
    ({"on_progress": 3}, TypeError, "callable"),
    ({"order": "cheap"}, ValueError, "'cost', 'given' or a LoadReport"),
    ({"select": [3]}, TypeError, "names of programs"),
    ({"select": 3}, TypeError, "names of programs"),
    ({"handlers": 3}, TypeError, "list of handlers"),
    ({"log_limit": -1}, ValueError, "log_limit"),
    ({"nonsense": 3}, TypeError, "nonsense"),
])
def test_misuse_is_told_before_anything_is_opened(small, arguments, error, words):
    with pytest.raises(error, match=words):
        pylbpf.load_many(**{"items": small, **arguments})


def test_objects_in_the_wrong_phase(small):
    closed, loaded, viewed = pylbpf.open(small), pylbpf.open(small), pylbpf.open(small)
    closed.close()
    loaded.load()
    view = memoryview(viewed.programs["p0000"].insns)
    report = pylbpf.load_many([closed, loaded, viewed])
    assert [type(error) for error in report.errors] == [ValueError, pylbpf.StateError, BufferError]
    assert loaded.state == pylbpf.State.LOADED and viewed.state == pylbpf.State.OPEN
    with pytest.raises(ValueError, match="twice"):
        pylbpf.load_many([viewed, viewed])
    view.release()
    with pylbpf.load_many(viewed) as report:
        assert report[0].ok
    loaded.close()


def test_select_by_name_and_by_function(small, built):
    with pylbpf.load_many([small, built["raw_tp"]], select=["p0001", "missing"]) as report:
        assert report[0].verdicts == {"p0000": "skipped", "p0001": "accepted", "p0002": "skipped"}
        assert report[1].verdicts == {"on_sys_enter": "skipped"}
        assert report.unknown == ("missing",)
        assert [program.name for program in report.programs] == ["p0001"]
    with pylbpf.load_many(small, select="p0000") as report:
        assert list(report[0].verdicts.values()) == ["accepted", "skipped", "skipped"] and report.unknown == ()
    with pylbpf.load_many(small, select=lambda program: program.name > "p0000") as report:
        assert list(report[0].verdicts.values()) == ["skipped", "accepted", "accepted"]
    report = pylbpf.load_many(small, select=lambda program: 1 / 0)
    assert isinstance(report[0].error, ZeroDivisionError)


# ---------------------------------------------------------------- handlers


def test_python_handlers_are_called_on_workers(small):
    path = objects.build(objects.many(4, "mine/{i}"), "mine")
    threads = set()

    class Handler(handling.Recorder):
        def setup(self, program):
            threads.add(threading.get_ident())
            assert program.object is None
            super().setup(program)

        def prepare_load(self, program, opts):
            assert program.object.name == "mine"
            super().prepare_load(program, opts)

    handler = Handler("mine/")
    with pylbpf.load_many([path] * 5, handlers=iter([handler]), threads=2) as report:
        assert all(result.ok for result in report), report.errors
        assert len(handler.names("setup")) == len(handler.names("prepare_load")) == 20
        assert threading.get_ident() not in threads
        with report[0].object.attach() as links:
            assert len(links) == 4


def test_declared_handlers_take_no_gil():
    path = objects.build(objects.many(4, "mine/{i}"), "mine")
    handler = pylbpf.ProgramHandler(section="mine/", program_type=handling.RAW)
    before = pylbpf.handler_stats()
    with pylbpf.load_many([path] * 5, handlers=[handler]) as report:
        assert all(result.ok for result in report)
    assert (pylbpf.handler_stats() - before).gil_acquired == 0


def test_a_callback_that_raises_fails_its_item_only():
    path = objects.build(objects.many(4, "mine/{i}"), "mine")
    calls = []

    class Handler(handling.Recorder):
        def prepare_load(self, program, opts):
            calls.append(program)
            if len(calls) == 6:
                raise LookupError("the sixth")

    report = pylbpf.load_many([path] * 5, handlers=[Handler("mine/")], threads=1, order="given")
    assert [result.state for result in report] == ["loaded", "failed", "loaded", "loaded", "loaded"]
    assert isinstance(report[1].error, LookupError) and "prepare_load" in report[1].error.__notes__[0]
    with pytest.raises(ValueError, match="closed"):
        calls[5].name                                       # of an object that was given up
    report.close()


def test_callbacks_may_use_other_items():
    """A callback closes an object that comes later, and looks at one that is done."""
    path = objects.build(objects.many(1, "mine/{i}"), "mine")
    handler = handling.Recorder("mine/")
    given = [pylbpf.open(path, handlers=[handler]) for _ in range(3)]

    def close_the_last(program, opts):
        given[2].close()

    handler.prepare_load = close_the_last
    report = pylbpf.load_many(given, threads=1, order="given")
    assert [result.state for result in report] == ["loaded", "loaded", "failed"]
    assert isinstance(report[2].error, ValueError)
    report.close()


def test_children_of_callbacks_can_be_interrupted():
    """What a callback starts must not inherit the workers' blocked signals."""
    path = objects.build(objects.many(1, "mine/{i}"), "mine")
    masks = []

    class Handler(handling.Recorder):
        def setup(self, program):
            masks.append(subprocess.check_output(["grep", "SigBlk", "/proc/self/status"], text=True))

        prepare_load = lambda self, program, opts: self.setup(program)  # noqa: E731

    here = next(line for line in Path("/proc/self/status").read_text().splitlines(True) if line.startswith("SigBlk"))
    pylbpf.load_many([path], handlers=[Handler("mine/")]).close()
    assert masks == [here, here]


# ---------------------------------------------------------------- failures and interruptions


def test_raise_keeps_and_rollback_closes(small, built):
    items = [small, built["rejected"], small]
    with pytest.raises(pylbpf.VerifierError) as caught:
        pylbpf.load_many(items, on_error="raise", threads=1, order="given")
    report = caught.value.report
    assert [result.state for result in report] == ["loaded", "failed", "cancelled"]
    assert report[0].object.state == pylbpf.State.LOADED and report[2].object is report[2].error is None
    report.close()

    given = pylbpf.open(small)
    with pytest.raises(pylbpf.VerifierError) as caught:
        pylbpf.load_many([given, *items], on_error="rollback", threads=1, order="given")
    assert given.closed and all(result.object is None or result.object.closed for result in caught.value.report)
    assert not caught.value.report.objects
    caught.value.report = None


def test_an_exception_in_on_progress_closes_everything(small):
    made = []

    def fail(done, total, result):
        made.append(result.object)
        if done == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        pylbpf.load_many([small] * 50, on_progress=fail, threads=2)
    assert all(obj.closed for obj in made)
    states = [result.state for result in caught.value.report]
    assert states.count("loaded") >= 2 and states.count("loaded") + states.count("cancelled") == 50


def test_interrupt_cancels_and_leaves_nothing(built):
    slow = objects.build(objects.SOURCES / "long_load.bpf.c")
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        pylbpf.load_many([slow] * 100, threads=2)
    timer.join()
    report = caught.value.report
    assert "cancelled" in {result.state for result in report} and not report.objects


def test_interrupt_out_of_a_callback():
    path = objects.build(objects.many(1, "mine/{i}"), "mine")

    class Handler(handling.Recorder):
        def prepare_load(self, program, opts):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pylbpf.load_many([path] * 20, handlers=[Handler("mine/")], threads=2)


def with_descriptors(count: int, script: str, *arguments: object) -> str:
    """Run a script in a process that may have so many descriptors."""
    program = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({count}, {count}))\n{script}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True, text=True,
                          stdout=subprocess.PIPE, env=environment).stdout


def test_too_few_descriptors_are_told_before(small):
    out = with_descriptors(100, """
import errno, os, sys, pylbpf
pylbpf.load_many([sys.argv[1]] * 5).close()
before = os.listdir("/proc/self/fd")
try:
    pylbpf.load_many([sys.argv[1]] * 50)
except pylbpf.BpfError as error:
    assert error.errno == errno.EMFILE and not hasattr(error, "nothing")
    assert {result.state for result in error.report} == {"cancelled"}
    print(error)
assert os.listdir("/proc/self/fd") == before
""", small)
    assert "they need 200 descriptors or more" in out and "RLIMIT_NOFILE" in out


def test_programs_that_are_not_loaded_need_no_descriptors(tmp_path):
    """Those of a section with a question mark, of struct_ops alone, and those that a handler switches off."""
    source = objects.many(40, "mine/{i}", with_map=True)
    off = objects.build(objects.many(100, "?raw_tp/sys_enter", with_map=True), "off")
    out = with_descriptors(100, """
import sys, pylbpf
class Never(pylbpf.ProgramHandler):
    section, program_type = "mine/", pylbpf.ProgramType.RAW_TRACEPOINT
    def setup(self, program):
        program.autoload = program.name == "p0007"
raw, off, mine = pylbpf.ProgramType.RAW_TRACEPOINT, sys.argv[1], sys.argv[2]
pylbpf.load_many([off] * 20, threads=64).close()
pylbpf.load_many([mine] * 5, handlers=[Never()]).close()
pylbpf.load_many([mine] * 20, handlers=[pylbpf.ProgramHandler(section="mine/", program_type=raw, autoload=False)]).close()
pylbpf.load_many([mine] * 2, handlers=[pylbpf.ProgramHandler(section="mine/", program_type=raw)]).close()
try:
    pylbpf.load_many([mine] * 3, handlers=[pylbpf.ProgramHandler(section="mine/", program_type=raw)])
except pylbpf.BpfError as error:
    print(error)
""", off, objects.build(source, "forty"))
    assert "they need 123 descriptors or more beside the 3 in use" in out


def test_descriptors_run_out_in_the_middle(small):
    """Somebody else takes them meanwhile: what cannot be loaded fails, the rest stays good."""
    out = with_descriptors(200, """
import errno, os, sys, pylbpf
before = len(os.listdir("/proc/self/fd"))
taken, seen = [], []
def take(program):
    seen.append(program)
    if len(seen) == 10:     # the first program of the fourth object
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    return True
report = pylbpf.load_many([sys.argv[1]] * 20, threads=1, order="given", select=take)
states = [result.state for result in report]
assert states == ["loaded"] * 3 + ["failed"] * 17, states
assert {error.errno for error in report.errors} <= {errno.EMFILE}, report.errors
report.close()
for fd in taken:
    os.close(fd)
assert len(os.listdir("/proc/self/fd")) == before
print(states.count("failed"))
""", small)
    assert int(out) == 17


def test_from_many_threads_at_once(small, built):
    """Calls on many objects, themselves made by several threads, with handlers of all sorts."""
    mine = objects.build(objects.many(4, "mine/{i}"), "mine")
    failures: list[BaseException] = []

    def work(number):
        handler = handling.Recorder("mine/") if number % 2 else pylbpf.ProgramHandler(section="mine/", program_type=handling.RAW)
        try:
            for _ in range(5):
                with pylbpf.load_many([small, mine, built["core"], built["rejected"]] * 3, handlers=[handler]) as report:
                    assert [result.ok for result in report] == [True, True, True, False] * 3, report.errors
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_fork_while_loading():
    """A child that is forked in a callback leaves without waiting for the workers, which it does not have."""
    path = objects.build(objects.many(1, "mine/{i}"), "mine")
    status = []

    class Handler(handling.Recorder):
        def prepare_load(self, program, opts):
            child = os.fork()
            if child == 0:
                os._exit(5)
            status.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)     # from 3.12 on: fork with threads
        pylbpf.load_many([path] * 4, handlers=[Handler("mine/")], threads=2).close()
    assert status == [5] * 4


def test_every_item_of_the_corpus_ends_as_it_would_alone():
    """Hundreds of objects of all sorts at once: state, message and instructions are those of one at a time."""
    items = corpus.build(rounds(320))
    handlers = corpus.handlers()
    expected = {item.name: alone(item.path, handlers=handlers) for item in items}
    for threads in (1, 3):
        with pylbpf.load_many([item.path for item in items], handlers=handlers, threads=threads) as report:
            differ = {
                item.name: (result.state, str(result.error or ""), *expected[item.name])
                for item, result in zip(items, report)
                if (result.state, str(result.error or "")) != expected[item.name]
            }
            assert not differ
            for item, result in zip(items[::3], report[::3]):
                if result.ok:
                    with pylbpf.open(item.path, handlers=handlers) as obj:
                        obj.load()
                        assert code(obj) == code(result.object), item.name


# ---------------------------------------------------------------- misuse


def test_an_object_that_is_being_loaded_is_refused_by_its_own_callbacks(small):
    errors = []

    class Again(pylbpf.ProgramHandler):
        section, program_type = "mine/", pylbpf.ProgramType.RAW_TRACEPOINT

        def prepare_load(self, program, opts):
            with pytest.raises(pylbpf.StateError, match="inside a callback") as raised:
                pylbpf.load_many([program.object])
            errors.append(raised.value.errno)

    with pylbpf.open(objects.build(objects.many(2, "mine/{i}"), "again"), handlers=[Again()]) as obj:
        obj.load()
    with pylbpf.open(small) as obj:
        def select(program):
            with pytest.raises(pylbpf.StateError, match="inside a callback"):
                pylbpf.load_many([small, obj])
            errors.append("select")
            return True

        pylbpf.load_many([obj], select=select)
        assert obj.state == pylbpf.State.LOADED
    assert errors == [errno.EBUSY] * 2 + ["select"] * 3


def test_objects_closed_while_others_are_loaded(small):
    with pylbpf.open(small) as obj:
        report = pylbpf.load_many([small, obj, small], threads=1, order="given",
                                  on_progress=lambda done, total, result: (obj.close(), done == 1 and result.object.close()))
        assert [result.state for result in report] == ["loaded", "failed", "loaded"] or obj.closed
        assert obj.closed and report[0].object.closed and not report[2].object.closed
        report.close()


@pytest.mark.parametrize("options, error, words", [
    ({"on_progress": 5}, TypeError, "on_progress must be callable, not int"),
    ({"log_limit": "1"}, TypeError, "log_limit must be a number of bytes, not str"),
    ({"log_limit": True}, TypeError, "log_limit must be a number of bytes, not bool"),
    ({"log_limit": 1 << 70}, ValueError, "log_limit must be 0 to"),
    ({"log_limit": -1}, ValueError, "log_limit must be 0 to"),
    ({"nonsense": 1}, TypeError, "load_many.. got an unexpected keyword argument 'nonsense'"),
    ({"order": ["cost"]}, ValueError, "order must be"),
    ({"handlers": 5}, TypeError, "handlers must be"),
])
def test_bad_options_are_told_before_anything_is_opened(small, options, error, words):
    opened = []
    if "handlers" not in options:
        options = {**options, "handlers": [Noticing(opened)]}
    with pytest.raises(error, match=words):
        pylbpf.load_many([small], **options)
    assert not opened


class Noticing(pylbpf.ProgramHandler):
    program_type = pylbpf.ProgramType.RAW_TRACEPOINT

    def __init__(self, opened):
        super().__init__(section="raw_tp/")
        self.opened = opened

    def setup(self, program):
        self.opened.append(program.name)


def test_no_items_and_items_that_fail_to_come(small):
    assert len(pylbpf.load_many([])) == 0 == len(pylbpf.load_many(iter(())))

    def broken():
        yield small
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        pylbpf.load_many(broken())
    handler = pylbpf.ProgramHandler(section="mine/", program_type=pylbpf.ProgramType.RAW_TRACEPOINT)
    with pylbpf.register(handler):
        with pytest.raises(TypeError, match="not int"):
            pylbpf.load_many([small, 5])
    assert not pylbpf.handlers()


def test_a_child_that_on_progress_forks_cannot_go_on(small):
    """And leaves alone what the parent's threads are doing."""
    children = []

    def fork(done, total, result):
        if done == 3:
            child = os.fork()
            if child == 0:
                return
            children.append(child)

    parent = os.getpid()
    try:
        report = pylbpf.load_many([small] * 40, on_progress=fork)
    except pylbpf.StateError as error:
        if os.getpid() == parent:
            raise
        os._exit(7 if "forked in the middle" in str(error) else 8)
    except BaseException:
        os._exit(9)
    if os.getpid() != parent:
        os._exit(6)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
    assert [result.state for result in report] == ["loaded"] * 40
    report.close()


# ---------------------------------------------------------------- views


def test_view_that_select_has_kept(small):
    """What libbpf moves is shown to nobody: such an object is not loaded, and stays as long as the view."""
    path = objects.build(objects.many(3, "raw_tp/task_rename", subprogram=True), "kept_by_select")
    kept = []

    def select(program):
        kept.append((memoryview(program.insns), bytes(program.insns)))
        return True

    with pylbpf.load_many([path, small], select=select, threads=2) as report:
        assert [type(result.error) for result in report] == [BufferError, BufferError]
    gc.collect()
    assert len(kept) == 6 and all(view.tobytes() == was for view, was in kept)
    for view, _ in kept:
        view.release()


def test_objects_with_views_stay_open(small):
    with pylbpf.open(small) as obj:
        with memoryview(obj.programs["p0000"].insns):
            report = pylbpf.load_many([obj])
            assert type(report[0].error) is BufferError and obj.state == pylbpf.State.OPEN
        assert pylbpf.load_many([obj])[0].ok and obj.state == pylbpf.State.LOADED
