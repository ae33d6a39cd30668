"""Bad input of every kind: always a clear exception, never a crash, and nothing is left behind."""
from __future__ import annotations

import contextlib
import inspect
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pylbpf
from handling import steady

HERE = Path(__file__).parent


def run(code: str, *arguments, timeout: float = 120) -> str:
    """What a script prints; it must end with status 0. A crash would be the interpreter's, so it is one of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
                   "PYTHONFAULTHANDLER": "1"}
    result = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, timeout=timeout,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout[-4000:]
    return result.stdout


# ---------------------------------------------------------------- damaged objects

# What stands in for each kind of damage: the object is opened and, if that works, looked through and loaded.
OPEN_ALL = """
import os, random, sys, pylbpf

before = len(os.listdir("/proc/self/fd"))
opened = refused = loaded = 0

def attempt(data):
    global opened, refused, loaded
    try:
        obj = pylbpf.open(data)
    except pylbpf.BpfError as error:
        refused += 1
        assert error.operation == "open" and error.subject == "<memory>" and str(error), error
        return
    opened += 1
    with obj:
        for program in obj.programs.values():
            program.name, program.section, program.type, program.insns.tobytes(), repr(program)
        for map in obj.maps.values():
            map.name, map.type, map.key_size, repr(map)
        if obj.btf is not None:
            for number in range(1, min(len(obj.btf), 200) + 1):
                obj.btf.name(number), obj.btf.kind(number)
        if LOAD:
            for map in obj.maps.values():
                if map.max_entries > 1 << 20 or map.value_size > 1 << 16 or map.key_size > 1 << 10:
                    return
            try:
                obj.load()
                loaded += 1
            except pylbpf.BpfError as error:
                assert str(error)
            except UnicodeError:
                raise

data = open(sys.argv[1], "rb").read()
"""
TRUNCATE = OPEN_ALL + """
for length in range(0, len(data), 64):
    attempt(data[:length])
    attempt(data[:length] + bytes(len(data) - length))
assert refused > 10
attempt(data)
assert opened
assert len(os.listdir("/proc/self/fd")) == before
print("fine")
"""
FLIP = OPEN_ALL + """
chance = random.Random(int(sys.argv[2]))
for _ in range(int(sys.argv[3])):
    damaged = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 5, 20])):
        where = chance.choice([chance.randrange(len(data)), chance.randrange(64),
                               chance.randrange(max(len(data) - 2000, 0), len(data))])
        if chance.random() < 0.5:
            damaged[where] ^= 1 << chance.randrange(8)
        else:
            damaged[where] = chance.choice([0, 1, 0x7f, 0x80, 0xff])
    with open(sys.argv[4], "wb") as file:   # what did it, should this crash
        file.write(damaged)
    attempt(damaged)
assert opened and refused
assert len(os.listdir("/proc/self/fd")) == before
print("fine")
"""


@pytest.mark.parametrize("name", ["maps", "core", "subprogs", "globals"])
def test_truncated_at_every_64th_byte(bpf_object, name):
    assert run("LOAD = False\n" + TRUNCATE, bpf_object(name)) == "fine\n"


@pytest.mark.parametrize("seed, name", list(enumerate(["maps", "core", "subprogs", "globals", "kconfig", "rings"])))
def test_flipped_bits_open(bpf_object, tmp_path, seed, name):
    assert run("LOAD = False\n" + FLIP, bpf_object(name), seed, 400, tmp_path / "damaged.bpf.o") == "fine\n"


@pytest.mark.bpf
@pytest.mark.parametrize("seed, name", list(enumerate(["task_rename", "subprogs", "globals"], 100)))
def test_flipped_bits_load(bpf_object, tmp_path, seed, name):
    assert run("LOAD = True\n" + FLIP, bpf_object(name), seed, 150, tmp_path / "damaged.bpf.o") == "fine\n"


@pytest.mark.parametrize("data", [
    b"", b"\0", b"\x7fELF", b"\x7fELF\2\1\1" + bytes(57), b"BPF" * 1000, bytes(100_000), b"\xff" * 100_000,
], ids=["empty", "NUL", "magic", "header", "text", "zeros", "ones"])
def test_what_is_no_object(data, tmp_path):
    path = tmp_path / "bad.bpf.o"
    path.write_bytes(data)
    for source in (data, bytearray(data), path):
        with pytest.raises(pylbpf.BpfError) as raised:
            pylbpf.open(source)
        assert raised.value.operation == "open" and raised.value.errno


@pytest.mark.parametrize("path", ["/bin/true", sys.executable, "/proc/self/exe", "/etc/passwd"])
def test_files_that_are_no_bpf_objects(path):
    with pytest.raises(pylbpf.LibbpfError, match=f"open {path}"):
        pylbpf.open(path)


# ---------------------------------------------------------------- paths


def test_directories_and_missing_files(tmp_path):
    with pytest.raises(IsADirectoryError):
        pylbpf.open(tmp_path)
    with pytest.raises(FileNotFoundError):
        pylbpf.open(tmp_path / "nothing")
    with pytest.raises(NotADirectoryError):
        pylbpf.open("/etc/passwd/x")
    with pytest.raises(pylbpf.BpfError):
        pylbpf.open("/" + "x" * 300)
    with pytest.raises(pylbpf.BpfError):
        pylbpf.open("/x" * 5000)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(pylbpf.BpfError):
        pylbpf.open(loop)
    with pytest.raises(pylbpf.BpfError):
        pylbpf.open("/dev/null")


@pytest.mark.parametrize("source", ["", "a\0b", "\0", "x.bpf.o\0.txt"])
def test_paths_that_c_would_cut(source):
    with pytest.raises(ValueError, match="NUL|empty"):
        pylbpf.open(source)


def test_names_that_are_not_utf_8(bpf_object, tmp_path):
    path = tmp_path / os.fsdecode(b"\xff\xfe.bpf.o")
    path.write_bytes(bpf_object("task_rename").read_bytes())
    with pylbpf.open(path) as obj:
        assert "on_task_rename" in obj.programs and os.fsencode(obj.name) == b"\xff\xfe"
        assert repr(obj) and str(obj)
    with pytest.raises(FileNotFoundError) as raised:
        pylbpf.open(tmp_path / os.fsdecode(b"\xff.bpf.o"))
    assert raised.value.subject == str(tmp_path / os.fsdecode(b"\xff.bpf.o"))


def test_interrupted_open_of_a_pipe_runs_signal_handlers(tmp_path):
    """Nobody writes to it, so open(2) waits; Ctrl-C must end that."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    script = f"""
import signal, pylbpf
def handler(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    pylbpf.open({str(path)!r})
except KeyboardInterrupt:
    print("interrupted")
except pylbpf.BpfError as error:
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("refused" if error.errno != 4 else "EINTR")
"""
    assert run(script, timeout=60) in ("interrupted\n", "refused\n")


# ---------------------------------------------------------------- wrong arguments

WRONG_TYPES = [None, 5, -1, 1 << 80, 1.5, object(), [], {}, (), b"bytes", "text", "a\0b", "", lambda: None]
ACCEPTABLE = (TypeError, ValueError, OverflowError, AttributeError, KeyError, IndexError, OSError)


def calls(function, count: int):
    """Argument lists in which each position in turn holds each wrong thing."""
    for position in range(count):
        for wrong in WRONG_TYPES:
            yield [wrong if at == position else "fitting" for at in range(count)]
    yield []
    yield ["x"] * (count + 1)


@pytest.mark.parametrize("options", [
    {"name": 5}, {"name": ""}, {"name": "a\0b"}, {"name": b"x"}, {"handlers": 5}, {"handlers": None}, {"handlers": [5]},
    {"handlers": [pylbpf.ProgramHandler]}, {"handlers": "text"}, {"pin_root_path": 5}, {"pin_root_path": ""},
    {"pin_root_path": "a\0b"}, {"kconfig": 5}, {"kconfig": b"CONFIG_X=y"}, {"kconfig": "a\0b"}, {"btf_custom_path": 5},
    {"btf_custom_path": ""}, {"btf_custom_path": "a\0b"}, {"log_level": "1"}, {"log_level": -1}, {"log_level": 8},
    {"log_level": 1 << 80}, {"log_level": None}, {"token_path": 5}, {"token_path": "a\0b"}, {"token_path": ""},
    {"there_is_no_such": 1},
], ids=str)
def test_wrong_options_of_open(bpf_object, options):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        pylbpf.open(bpf_object("task_rename"), **options)


@pytest.mark.parametrize("source", [5, None, 1.5, [], {}, object(), memoryview(b"x" * 100)[::2]], ids=steady)
def test_wrong_sources_of_open(source):
    with pytest.raises((TypeError, BufferError)):
        pylbpf.open(source)
    with pylbpf.register(pylbpf.ProgramHandler(section="after_a_wrong_source/")):
        pass  # nothing is locked for ever


def test_too_many_or_few_arguments(bpf_object):
    for arguments in ((), (1, 2), (bpf_object("empty"), "name")):
        with pytest.raises(TypeError):
            pylbpf.open(*arguments)


PROGRAM_SETTERS = {
    "type": [None, "5", 1.5, object(), -1, 1 << 40, 1 << 80, [], b"5"],
    "expected_attach_type": [None, "5", 1.5, object(), -1, 1 << 40, 1 << 80, []],
    "flags": [None, "5", 1.5, object(), -1, 1 << 40, 1 << 80, []],
    "log_level": [None, "5", 1.5, object(), -1, 8, 1 << 40, 1 << 80, []],
    "ifindex": [None, 1.5, object(), -1, 1 << 40, 1 << 80, [], b"lo", "", "a\0b", "there_is_no_such"],
}
MAP_SETTERS = {
    **{name: [None, "5", 1.5, object(), -1, 1 << 40, 1 << 80, []]
       for name in ("type", "key_size", "value_size", "max_entries", "flags", "numa_node")},
    "map_extra": [None, "5", 1.5, object(), -1, 1 << 80, []],
    "ifindex": [None, 1.5, object(), -1, 1 << 40, 1 << 80, [], b"lo", "", "a\0b", "there_is_no_such"],
    "pin_path": [5, 1.5, object(), [], "", "a\0b"],
}


@pytest.mark.parametrize("kind, name", [("programs", name) for name in PROGRAM_SETTERS] +
                         [("maps", name) for name in MAP_SETTERS])
def test_wrong_values_of_setters_change_nothing(bpf_object, kind, name):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        thing = obj.programs["on_task_rename"] if kind == "programs" else obj.maps["counts"]
        before, accepted = getattr(thing, name), []
        for wrong in (PROGRAM_SETTERS if kind == "programs" else MAP_SETTERS)[name]:
            try:
                setattr(thing, name, wrong)
            except (TypeError, ValueError, OverflowError, pylbpf.BpfError):
                assert getattr(thing, name) == before
            else:
                accepted.append(wrong)
                setattr(thing, name, before)
        assert not accepted
        obj.close()  # the lock is free


def test_wrong_values_of_object_attributes(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        for wrong in (None, "5", object(), -1, 1 << 40):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                obj.kernel_version = wrong
        for name in ("state", "programs", "maps", "links", "btf", "name", "closed", "token_fd", "there_is_no_such"):
            with pytest.raises(AttributeError):
                setattr(obj, name, 1)
        for name in ("fd", "name", "section", "insns", "insn_count", "handler", "object", "log"):
            with pytest.raises(AttributeError):
                setattr(obj.programs["on_task_rename"], name, 1)


METHODS = [
    ("program", "set_type", 1), ("program", "set_attach_target", 1), ("program", "set_insns", 1),
    ("program", "attach_raw_tracepoint", 1), ("program", "attach_tracepoint", 2), ("program", "attach_kprobe", 1),
    ("program", "attach_uprobe", 1), ("program", "attach_perf_event", 1), ("program", "attach_xdp", 1),
    ("program", "attach_cgroup", 1), ("map", "lookup", 1), ("map", "lookup_and_delete", 1), ("map", "update", 2),
    ("map", "delete", 1), ("map", "next_key", 1), ("map", "reuse_fd", 1), ("map", "pin", 1), ("map", "unpin", 1),
    ("map", "create", 1), ("map", "open_pinned", 1), ("map", "from_id", 1), ("map", "from_fd", 1),
    ("map", "get", 1), ("map", "set", 2), ("map", "pop", 1), ("map", "setdefault", 2), ("map", "set_inner", 1),
    ("map", "set_exclusive_program", 1),
    ("map", "items_array", 1), ("map", "lookup_many", 1), ("map", "update_many", 2), ("map", "delete_many", 1),
    ("map", "pop_many", 1), ("map", "sweep", 1),
    ("obj", "ring_buffer", 2), ("obj", "user_ring_buffer", 1), ("obj", "perf_buffer", 2),
    ("btf", "alignment", 1), ("btf", "c_decl", 1), ("btf", "ctypes", 1), ("btf", "dataclass", 1), ("btf", "dtype", 1),
    ("btf", "enumerators", 1), ("btf", "format", 2), ("btf", "from_bytes", 1), ("btf", "from_id", 1),
    ("btf", "members", 1), ("btf", "module", 1), ("btf", "names", 1), ("btf", "number", 1), ("btf", "parse", 1),
    ("btf", "target", 1),
    ("link", "pin", 1), ("btf", "find", 1), ("btf", "name", 1), ("btf", "kind", 1),
    ("btf", "size", 1), ("btf", "string", 1), ("ring", "poll", 1), ("ring", "consume", 1), ("ring", "add", 2),
    ("ring", "records", 1), ("ring", "read_batch", 1), ("ring", "borrow", 1), ("ring", "start", 1),
    ("program", "attach_kprobe_multi", 1), ("program", "attach_ksyscall", 1), ("program", "attach_uprobe_multi", 2),
    ("program", "attach_usdt", 3), ("program", "attach_tracing_multi", 1), ("program", "attach_freplace", 2),
    ("program", "attach_tcx", 1), ("program", "attach_netkit", 1), ("program", "attach_netns", 1),
    ("program", "attach_sockmap", 1), ("program", "attach_netfilter", 2), ("program", "prog_attach", 2),
    ("program", "prog_detach", 2), ("program", "attach_socket", 1), ("program", "detach_socket", 1),
    ("program", "test_run", 2), ("program", "pin", 1), ("program", "unpin", 1), ("program", "bind_map", 1),
    ("program", "assoc_struct_ops", 1), ("program", "link_create", 2), ("program", "from_fd", 1),
    ("program", "from_id", 1), ("program", "open_pinned", 1), ("link", "open_pinned", 1), ("map", "open_pinned", 1),
    ("link", "update_map", 1),
    ("program", "read_stream", 1), ("link", "update", 1), ("link", "from_fd", 1), ("link", "from_id", 1),
]


@pytest.mark.bpf
@pytest.mark.parametrize("owner, method, count", METHODS, ids=lambda value: str(value))
def test_wrong_arguments_of_methods(bpf_object, owner, method, count):
    """Whatever is given, it is an exception or it works: no crash, no leak, and the object is as good as before."""
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        program, map, btf = obj.programs["on_task_rename"], obj.maps["counts"], obj.btf
        link, ring = program.attach(), obj.ring_buffer("events", lambda record: None)
        things = {"obj": obj, "program": program, "map": map, "btf": btf, "link": link, "ring": ring}
        works = 0
        for arguments in calls(method, count):
            if method in ("poll", "records") and arguments == [None] or method == "poll" and not arguments:
                continue  # for ever
            if method == "read_batch" and (not arguments or arguments[0] is None or isinstance(arguments[0], int)):
                continue
            if method == "poll" and arguments and isinstance(arguments[0], (int, float)) and arguments[0] > 1:
                continue
            try:
                result = getattr(things[owner], method)(*arguments)
            except ACCEPTABLE as error:
                assert str(error)
            else:
                works += 1
                if hasattr(result, "close"):
                    result.close()
        assert works <= len(WRONG_TYPES)
        assert program.name == "on_task_rename" and map.lookup(bytes(4)) and not link.closed
        ring.close()
        link.close()
    if owner == "link":
        for path in ("fitting", "text"):
            assert not os.path.lexists(path)


@pytest.mark.bpf
@pytest.mark.parametrize("options", [
    {"cookie": -1}, {"cookie": 1 << 64}, {"cookie": "x"}, {"cookie": None}, {"there_is_no_such": 1},
], ids=str)
@pytest.mark.parametrize("method, arguments", [
    ("attach_raw_tracepoint", ("sys_enter",)), ("attach_tracepoint", ("task", "task_rename")),
    ("attach_kprobe", ("do_nanosleep",)), ("attach_uprobe", ("/bin/true",)), ("attach_perf_event", (0,)),
    ("attach_trace", ()),
], ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_options_of_attach(bpf_object, method, arguments, options):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        with pytest.raises((TypeError, ValueError, OverflowError)):
            getattr(obj.programs["on_task_rename"], method)(*arguments, **options)


@pytest.mark.bpf
@pytest.mark.parametrize("options", [
    {"pid": "1"}, {"pid": 1 << 40}, {"offset": -1}, {"offset": 1 << 64}, {"function": 5}, {"function": ""},
    {"function": "a\0b"}, {"ref_ctr_offset": -1},
], ids=str)
def test_wrong_options_of_attach_uprobe(bpf_object, options):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        with pytest.raises((TypeError, ValueError, OverflowError)):
            obj.programs["on_task_rename"].attach_uprobe("/bin/true", **options)


@pytest.mark.parametrize("function", [
    pylbpf.open, pylbpf.register, pylbpf.section_info, pylbpf.set_print, pylbpf.Link.open, pylbpf.RingBuffer,
], ids=lambda function: getattr(function, "__qualname__", str(function)))
def test_wrong_arguments_of_functions(function):
    before = pylbpf.set_print(None)
    for wrong in WRONG_TYPES:
        if function is pylbpf.section_info and isinstance(wrong, str) and wrong.isalpha():
            continue
        if function is pylbpf.set_print and (wrong is None or callable(wrong)):
            continue
        with pytest.raises(ACCEPTABLE):
            function(wrong)
    pylbpf.set_print(before)


def test_every_method_of_the_main_classes_was_tried():
    """So that what is added later gets its turn."""
    tried = {(owner, method) for owner, method, _ in METHODS}
    without_arguments = {
        "attach", "close", "load", "prepare", "reopen", "destroy", "detach", "disconnect", "unpin", "fileno", "keys",
        "items", "unload", "clone", "disassemble", "tobytes", "attach_trace", "attach_lsm", "attach_iter",
        "attach_struct_ops", "view_insns", "open", "detach_fds", "freeze", "stats", "read_batch_async",
        "typed", "view", "info", "fdinfo", "values", "popitem", "clear", "iter",
        "to_numpy", "to_dict", "to_arrow", "to_pandas", "kernel", "gen_loader",
    }
    for owner, cls in (("program", pylbpf.Program), ("map", pylbpf.Map), ("link", pylbpf.Link), ("obj", pylbpf.Object),
                       ("btf", pylbpf.Btf), ("ring", pylbpf.RingBuffer)):
        for name in dir(cls):
            if not name.startswith("_") and inspect.isroutine(getattr(cls, name)) and name not in without_arguments:
                assert (owner, name) in tried, f"{cls.__name__}.{name}"


# ---------------------------------------------------------------- want of descriptors


EXHAUSTED = """
import os, resource, sys, pylbpf

path = sys.argv[1]
pylbpf.MapType, pylbpf.State, pylbpf.RingBuffer        # modules that are imported when asked for
with pylbpf.open(path) as obj:
    obj.maps
with pylbpf.open(path) as obj:      # what is kept for good, like the kernel's features, is asked for now
    obj.load()
    obj.attach().close()
used = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
links = set()
results = []
for room in range(0, 24):
    kept = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(used) + room, hard))
    try:
        with pylbpf.open(path) as obj:
            obj.load()
            with obj.attach():
                with obj.ring_buffer("even") as ring:
                    results.append("worked")
    except OSError as error:
        assert isinstance(error, pylbpf.BpfError), repr(error)
        assert str(error)
        results.append(error.errno)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == before, room
assert results[0] == 24, results
assert results[-1] == "worked", results
print("fine")
"""


@pytest.mark.bpf
def test_descriptors_run_out_at_every_point(bpf_object):
    assert run(EXHAUSTED, bpf_object("rings")) == "fine\n"


def test_limit_is_back_and_all_works_again(bpf_object):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(pylbpf.BpfError) as raised:
            pylbpf.open(bpf_object("task_rename"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised.value.errno == 24 and highest >= 2
    pylbpf.open(bpf_object("task_rename")).close()


# ---------------------------------------------------------------- callbacks that misbehave


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError,
                                   StopIteration, type("Own", (BaseException,), {})], ids=lambda error: error.__name__)
def test_exceptions_of_setup_come_out_unchanged_and_nothing_is_left(bpf_object, error):
    class Handler(pylbpf.ProgramHandler):
        section = "probe/"

        def setup(self, program):
            raise error("why")

    with pytest.raises(error) as raised:
        pylbpf.open(bpf_object("handlers"), handlers=[Handler()])
    assert type(raised.value) is error and raised.value.args == ("why",)


@pytest.mark.parametrize("junk", [0, -1, 5, "text", object(), True, [], 1 << 80], ids=steady)
def test_results_of_callbacks_are_not_taken_for_numbers(bpf_object, junk):
    class Handler(pylbpf.ProgramHandler):
        section = "sample"

        def setup(self, program):
            return junk

    with contextlib.suppress(TypeError):
        with pylbpf.open(bpf_object("handlers"), handlers=[Handler()]) as obj:
            assert "on_sample" in obj.programs


def test_deep_recursion_out_of_setup_is_a_recursion_error(bpf_object):
    class Handler(pylbpf.ProgramHandler):
        section = "sample"

        def setup(self, program):
            self.setup(program)

    with pytest.raises(RecursionError):
        pylbpf.open(bpf_object("handlers"), handlers=[Handler()])


def test_opens_inside_opens_have_an_end(bpf_object):
    path, depth = bpf_object("handlers"), []

    class Handler(pylbpf.ProgramHandler):
        section = "sample"

        def setup(self, program):
            depth.append(program.name)
            if len(depth) < 30:
                pylbpf.open(path, handlers=[self]).close()

    worker = threading.Thread(target=lambda: pylbpf.open(path, handlers=[Handler()]).close())
    worker.start()
    worker.join()
    assert len(depth) == 30
