"""Handlers of custom sections: in Python, in C, declarative; registered or of one object; and overrides of libbpf's own."""
from __future__ import annotations

import ctypes
import errno
import signal
import struct
import threading

import pytest

import kernel
import objects
import pylbpf
from handling import compile_c, gil_takes, HIT, libbpf, overridden, RAW, Recorder, registered, rest, run_python, steady, value
from pylbpf import AttachType, ProgramFlags, ProgramType, State
from test_fork import in_child

bpf = pytest.mark.bpf


@pytest.fixture
def plain(bpf_object):
    """Programs in sections that mean nothing to libbpf."""
    return bpf_object("handlers")


@pytest.fixture
def builtin(bpf_object):
    """Programs in sections that are libbpf's own."""
    return bpf_object("override")


def only(obj, *names):
    for program in obj.programs.values():
        program.autoload = program.name in names


# ---------------------------------------------------------------- three ways to write one


@bpf
def test_handler_in_python_from_open_to_the_first_record(plain):
    handler = Recorder(None)
    with pylbpf.open(plain, handlers=[handler]) as obj:
        obj.load()
        links = obj.attach()
        assert len(links) == 7
        kernel.rename_task()
        assert [value(obj.maps["hits"], slot) > 0 for slot in range(9)] == [True] * 7 + [False] * 2
    assert all(link.closed for link in links)
    loaded = ["on_sample", "probe_one", "probe_two", "probe_bare", "on_event", "on_event_x", "on_eventful"]
    assert handler.names("setup") == loaded + ["probe_off", "nobody_knows"]
    assert handler.names("prepare_load") == handler.names("attach") == loaded


def test_handler_is_declared_by_class_or_by_arguments(plain):
    class Declared(pylbpf.ProgramHandler):
        section = "probe+"
        program_type = ProgramType.CGROUP_SOCK_ADDR
        expected_attach_type = AttachType.CGROUP_INET4_CONNECT
        program_flags = ProgramFlags.ANY_ALIGNMENT
        autoload = True

    by_arguments = pylbpf.ProgramHandler(
        section="event", program_type=6, expected_attach_type=37, program_flags=2, autoload=False)
    with pylbpf.open(plain, handlers=[Declared(), by_arguments]) as obj:
        off = obj.programs["probe_off"]
        assert (off.type, off.expected_attach_type, off.flags, off.autoload) == (
            ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, ProgramFlags.ANY_ALIGNMENT, True)
        event = obj.programs["on_event"]
        assert (event.type, event.expected_attach_type, event.flags, event.autoload) == (
            ProgramType.XDP, AttachType.XDP, 2, False)
    with pytest.raises(TypeError, match="unexpected argument 'sections'"):
        pylbpf.ProgramHandler(sections="x")
    assert repr(by_arguments) == "<ProgramHandler: section 'event'>"


@bpf
def test_declarative_handlers_take_no_gil(plain):
    handlers = [pylbpf.ProgramHandler(section=section, program_type=RAW, program_flags=ProgramFlags.TEST_RND_HI32)
                for section in ("sample", "probe/", "event+", "eventful")]
    before = pylbpf.handler_stats()
    with registered(*handlers), pylbpf.open(plain) as obj:
        obj.load()
        assert len(obj.attach()) == 0
        assert obj.programs["on_event_x"].flags == ProgramFlags.TEST_RND_HI32
    assert vars(pylbpf.handler_stats() - before) == {"setup": 0, "prepare_load": 0, "attach": 0, "gil_acquired": 0}


@bpf
@pytest.mark.parametrize(
    "kind, expected", [("setup", (9, 0, 0, 9)), ("prepare_load", (0, 7, 0, 7)), ("attach", (0, 0, 7, 0))])
def test_only_overridden_methods_are_called(plain, kind, expected):
    """Attach is called by Object.attach() directly, which has the GIL anyway."""
    calls = []
    one = type("One", (pylbpf.ProgramHandler,), {kind: lambda self, *given: calls.append(given)})
    before = pylbpf.handler_stats()
    with pylbpf.open(plain, handlers=[one(program_type=RAW)]) as obj:
        obj.load()
        obj.attach()
    stats = pylbpf.handler_stats() - before
    assert (stats.setup, stats.prepare_load, stats.attach, stats.gil_acquired) == expected
    assert len(calls) == sum(expected[:3])


def test_method_of_the_instance_is_overridden_too(plain):
    handler = rest()
    seen = []
    handler.setup = lambda program: seen.append(program.name)
    pylbpf.open(plain, handlers=[handler]).close()
    assert len(seen) == 9


def test_handler_stats():
    stats = pylbpf.handler_stats()
    assert stats - stats == pylbpf.HandlerStats(0, 0, 0, 0)
    assert stats != pylbpf.HandlerStats(-1, 0, 0, 0) and stats != 5
    assert repr(pylbpf.HandlerStats(1, 2, 3, 4)) == "HandlerStats(setup=1, prepare_load=2, attach=3, gil_acquired=4)"


# ---------------------------------------------------------------- native handlers

NATIVE = r"""
#include <errno.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <pylbpf/handler.h>

int calls[3];
long cookies[3];
unsigned int flags;

static int note(int kind, long cookie) { __sync_fetch_and_add(&calls[kind], 1); cookies[kind] = cookie; return 0; }

int setup(struct bpf_program *prog, long cookie) { return note(0, cookie); }

int prepare_load(struct bpf_program *prog, struct bpf_prog_load_opts *opts, long cookie)
{
	flags = opts->prog_flags |= 4;
	return note(1, cookie);
}

int attach(const struct bpf_program *prog, long cookie, struct bpf_link **link)
{
	note(2, cookie);
	*link = bpf_program__attach_raw_tracepoint(prog, "task_rename");
	return *link ? 0 : -errno;
}

/* They are what the header says, and what libbpf takes. */
pylbpf_setup_fn as_setup = setup;
pylbpf_prepare_load_fn as_prepare_load = prepare_load;
pylbpf_attach_fn as_attach = attach;
const struct libbpf_prog_handler_opts as_libbpf = { .prog_setup_fn = setup, .prog_prepare_load_fn = prepare_load,
	.prog_attach_fn = attach };
"""
KINDS = ("setup", "prepare_load", "attach")


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return compile_c(NATIVE, tmp_path_factory.mktemp("native") / "native.so")


def by_ctypes(path):
    library = ctypes.CDLL(str(path))
    return {kind: library[kind] for kind in KINDS}


def by_address(path):
    return {kind: ctypes.cast(function, ctypes.c_void_p).value for kind, function in by_ctypes(path).items()}


def by_capsule(path):
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return {kind: new(address, name, None) for (kind, address), name in zip(by_address(path).items(), (None, NAME, NAME))}


def by_cffi(path):
    cffi = pytest.importorskip("cffi", reason="cffi: not installed")
    ffi = cffi.FFI()
    ffi.cdef("int setup(void *, long); int prepare_load(void *, void *, long); int attach(const void *, long, void **);")
    library = ffi.dlopen(str(path))
    functions = {kind: ffi.addressof(library, kind) for kind in KINDS}
    functions["attach"] = ffi.cast("void *", functions["attach"])
    return functions


NAME = b"somebody.else's"


@bpf
@pytest.mark.parametrize("given", [by_ctypes, by_address, by_capsule, by_cffi])
def test_native_handler(plain, native, given):
    library = ctypes.CDLL(str(native))
    calls = (ctypes.c_int * 3).in_dll(library, "calls")
    cookies = (ctypes.c_long * 3).in_dll(library, "cookies")
    calls[:] = cookies[:] = (0, 0, 0)
    functions = given(native)
    handler = pylbpf.NativeHandler(None, program_type=RAW, cookie=-77, program_flags=1, **functions)
    assert handler.cookie == -77
    before = pylbpf.handler_stats()
    with registered(handler):
        del functions
        with pylbpf.open(plain) as obj:
            obj.load()
            with obj.programs["on_sample"].attach() as link:
                assert isinstance(link, pylbpf.Link)
            assert len(obj.attach()) == 7
            kernel.rename_task()
            assert value(obj.maps["hits"], 6) >= 1
    stats = pylbpf.handler_stats() - before
    assert list(calls) == [stats.setup, stats.prepare_load, stats.attach] == [9, 7, 8]
    assert list(cookies) == [-77] * 3
    assert ctypes.c_uint.in_dll(library, "flags").value == 5
    assert stats.gil_acquired == 0


@bpf
def test_native_handler_from_numba(plain):
    numba = pytest.importorskip("numba", reason="numba: not installed")

    @numba.cfunc("i4(voidptr, i8)", nopython=True)
    def setup(program, cookie):
        return -5 if cookie == 5 else 0

    before = gil_takes()
    with pytest.raises(OSError) as caught:
        pylbpf.open(plain, handlers=[pylbpf.NativeHandler("sample", setup=setup, cookie=5)])
    assert caught.value.errno == 5
    pylbpf.open(plain, handlers=[pylbpf.NativeHandler("sample", setup=setup)]).close()
    assert gil_takes() == before


def test_what_carries_an_address_is_taken_as_from_numba(plain):
    class Compiled:
        kept = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_long)(lambda *_: -errno.EXDEV)
        address = ctypes.cast(kept, ctypes.c_void_p).value

    with pytest.raises(pylbpf.BpfError) as caught:
        pylbpf.open(plain, handlers=[pylbpf.NativeHandler("sample", setup=Compiled())])
    assert caught.value.errno == errno.EXDEV


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong, error", [("setup", TypeError), (True, TypeError), (lambda *_: 0, TypeError),
                                          (object(), TypeError), (0, ValueError), (-1, OverflowError),
                                          (1 << 70, OverflowError), (1.5, TypeError)], ids=steady)
def test_native_handler_takes_only_functions(kind, wrong, error):
    with pytest.raises(error):
        pylbpf.NativeHandler("sample", **{kind: wrong})


def test_null_function_pointer():
    with pytest.raises(ValueError, match="NULL"):
        pylbpf.NativeHandler("sample", setup=ctypes.CFUNCTYPE(ctypes.c_int)())


@bpf
def test_native_handler_without_functions_is_declarative(plain):
    before = pylbpf.handler_stats()
    with pylbpf.open(plain, handlers=[pylbpf.NativeHandler(program_type=RAW)]) as obj:
        obj.load()
        assert obj.programs["on_sample"].fd >= 0
    assert pylbpf.handler_stats() == before


# ---------------------------------------------------------------- which of several


def test_priority_wins_then_own_then_earliest(plain):
    handlers = {name: Recorder("probe/", priority=priority) for name, priority in (("low", -1), ("zero", 0), ("high", 5))}
    own = Recorder("probe+")
    with registered(*handlers.values()):
        assert pylbpf.handlers() == (handlers["high"], handlers["zero"], handlers["low"])

        def chosen(*scoped):
            with pylbpf.open(plain, handlers=scoped) as obj:
                return obj.programs["probe_one"].handler

        assert chosen() is handlers["high"]
        assert chosen(own) is handlers["high"]
        own.priority = 5
        assert chosen(own) is own
        own.priority = 6
        assert chosen(own) is own
        exact = Recorder("probe/one", priority=6)
        assert chosen(own, exact) is own
        assert chosen(exact, own) is exact


def test_fallback_comes_last_whatever_its_priority(plain):
    fallback, exact = Recorder(None, priority=1000), Recorder("sample", priority=-1000)
    with pylbpf.open(plain, handlers=[fallback, exact]) as obj:
        assert obj.programs["on_sample"].handler is exact
        assert obj.programs["on_event"].handler is fallback


def test_scoped_handlers_are_for_one_object(plain):
    handler = Recorder("sample")
    with pylbpf.open(plain, handlers=[handler]) as obj, pylbpf.open(plain) as other:
        assert obj.programs["on_sample"].handler is handler
        assert other.programs["on_sample"].handler is None
        assert pylbpf.handlers() == () and pylbpf.section_info("sample") is None
    assert handler.names("setup") == ["on_sample"]


def test_scoped_beside_global(plain):
    scoped, everywhere = Recorder("sample"), Recorder("sample")
    with registered(everywhere, Recorder("event")), pylbpf.open(plain, handlers=[scoped]) as obj:
        assert obj.programs["on_sample"].handler is scoped
        assert obj.programs["on_event"].handler is pylbpf.handlers()[1]
    assert everywhere.calls == []


def test_registration_is_a_context_manager(plain):
    handler = Recorder("sample")
    with pylbpf.register(handler) as registration:
        assert registration.active and registration.handler is handler
        assert "active" in repr(registration)
        assert pylbpf.handlers() == (handler,)
    assert not registration.active and "unregistered" in repr(registration)
    registration.unregister()
    assert pylbpf.handlers() == ()
    with pytest.raises(ZeroDivisionError), pylbpf.register(handler):
        raise ZeroDivisionError
    assert pylbpf.handlers() == ()
    with pytest.raises(TypeError):
        pylbpf.Registration()


@pytest.mark.parametrize("pattern, matched, unmatched", [
    ("x+", ["x", "x/", "x/y", "x/y/z"], ["xyz", "x.y", "X", ""]),
    ("x/", ["x/", "x/y", "x/y/z"], ["x", "xyz"]),
    ("x", ["x"], ["x/", "x/y", "xyz"]),
    (None, ["x", "anything/else", "kprobes"], ["kprobe", "xdp"]),
])
def test_patterns_by_name(pattern, matched, unmatched):
    with registered(Recorder(pattern)):
        for name in matched:
            assert pylbpf.section_info(name).handler is not None, name
        for name in filter(None, unmatched):
            info = pylbpf.section_info(name)
            assert info is None or info.handler is None, name


def test_section_info():
    info = pylbpf.section_info("kprobe/do_nanosleep")
    assert (info.program_type, info.handler, info.builtin) == (ProgramType.KPROBE, None, True)
    assert "KPROBE" in repr(info)
    with registered(pylbpf.ProgramHandler(section="xdp+")):
        kept = pylbpf.section_info("xdp")
        assert (kept.program_type, kept.expected_attach_type, kept.builtin) == (ProgramType.XDP, AttachType.XDP, True)
        assert kept.handler is pylbpf.handlers()[0]
    with registered(pylbpf.ProgramHandler(section="xdp", program_type=ProgramType.SCHED_CLS)):
        assert pylbpf.section_info("xdp").program_type is ProgramType.SCHED_CLS


@bpf
def test_several_links_from_one_attach(plain):
    class Twice(Recorder):
        def attach(self, program):
            return (program.attach_raw_tracepoint(name) for name in (HIT, "task_newtask"))

    with pylbpf.open(plain, handlers=[Twice("sample"), rest()]) as obj:
        obj.load()
        with obj.programs["on_sample"].attach() as links:
            assert isinstance(links, pylbpf.LinkSet) and len(links) == 2
            kernel.rename_task()
            assert value(obj.maps["hits"], 0) >= 1
        assert all(link.closed for link in links)
        assert len(obj.attach()) == 2 and len(obj.links) == 2


@bpf
def test_setup_may_change_maps_and_autoattach(plain):
    class Quiet(Recorder):
        def setup(self, program):
            program.autoattach = program.name != "on_sample"

    with pylbpf.open(plain, handlers=[Quiet(None)]) as obj:
        obj.load()
        links = obj.attach()
        assert len(links) == 6
        assert obj.programs["on_sample"] not in links.skipped


# ---------------------------------------------------------------- overrides


@bpf
def test_override_without_attach_attaches_as_the_section_says(builtin):
    before = gil_takes()
    with pylbpf.open(builtin, handlers=[pylbpf.ProgramHandler(section="raw_tp+")]) as obj:
        obj.load()
        with obj.programs["raw_tp"].attach():
            kernel.rename_task()
        assert value(obj.maps["counts"], 0) >= 1
        links = obj.attach()
        assert len(links) == 1 and links.skipped == ()
        kernel.rename_task()
        assert value(obj.maps["counts"], 0) >= 2
    assert gil_takes() == before


@bpf
def test_override_in_python(builtin):
    handler = Recorder("raw_tp+")
    with pylbpf.open(builtin, handlers=[handler]) as obj:
        obj.load()
        assert len(obj.attach()) == 1
        kernel.rename_task()
        assert value(obj.maps["counts"], 0) >= 1
    assert handler.names("setup") == ["raw_tp", "raw_tp_noisy"]
    assert handler.names("prepare_load") == handler.names("attach") == ["raw_tp"]


@bpf
def test_override_in_c(builtin, native):
    before = pylbpf.handler_stats()
    handler = pylbpf.NativeHandler("raw_tp+", **by_address(native))
    with pylbpf.open(builtin, handlers=[handler]) as obj:
        obj.load()
        assert len(obj.attach()) == 1
    stats = pylbpf.handler_stats() - before
    assert (stats.setup, stats.prepare_load, stats.attach, stats.gil_acquired) == (2, 1, 1, 0)


@bpf
@pytest.mark.parametrize(
    "section, name, flags, attach_type",
    [
        ("xdp.frags", "xdp_frags", ProgramFlags.XDP_HAS_FRAGS, AttachType.XDP),
        ("xdp+", "xdp_devmap", 0, AttachType.XDP_DEVMAP),
        ("tp+", "tracepoint", 0, 0),
        ("raw_tp.w+", "raw_tp_writable", 0, 0),
        ("perf_event", "perf_event", 0, 0),
        ("cgroup_skb/", "cgroup_egress", 0, AttachType.CGROUP_INET_EGRESS),
    ],
)
def test_override_loads_what_libbpf_would_have(builtin, section, name, flags, attach_type):
    with pylbpf.open(builtin) as own:
        type = own.programs[name].type
    for handler in (pylbpf.ProgramHandler(section=section), Recorder(section, program_type=0)):
        with pylbpf.open(builtin, handlers=[handler]) as obj:
            only(obj, name)
            program = obj.programs[name]
            assert program.handler is handler
            assert (program.type, program.flags, program.expected_attach_type) == (type, flags, attach_type)
            obj.load()
            assert program.fd >= 0


@bpf
@pytest.mark.parametrize("section, name, flags", [("tp_btf+", "tp_btf", 0), ("iter+", "iter", 0),
                                                  ("iter.s+", "iter_sleepable", ProgramFlags.SLEEPABLE)])
def test_override_finds_the_btf_target(builtin, section, name, flags, requires_btf):
    for handler in (pylbpf.ProgramHandler(section=section), Recorder(section, program_type=0)):
        with pylbpf.open(builtin, handlers=[handler]) as obj:
            only(obj, name)
            obj.programs[name].autoload = True
            obj.load()
            assert obj.programs[name].flags == flags
            if type(handler) is pylbpf.ProgramHandler:
                links = obj.attach()
                assert len(links) == 1 and links.skipped == ()


@pytest.mark.parametrize("section, name", [("fentry+", "fentry"), ("lsm.s+", "lsm_sleepable")])
def test_override_of_functions_and_hooks(builtin, section, name, request):
    request.getfixturevalue("requires_fentry" if name == "fentry" else "requires_lsm")
    with pylbpf.open(builtin, handlers=[pylbpf.ProgramHandler(section=section)]) as obj:
        only(obj, name)
        obj.load()
        assert len(obj.attach()) == 1


@bpf
def test_override_of_a_tracepoint_and_a_kprobe(builtin, tracefs):
    handlers = [pylbpf.ProgramHandler(section="tp+"), pylbpf.ProgramHandler(section="kprobe+")]
    with pylbpf.open(builtin, handlers=handlers) as obj:
        only(obj, "tracepoint")
        obj.load()
        links = obj.attach()
        assert len(links) == 1
        kernel.rename_task()
        assert value(obj.maps["counts"], 10) >= 1


@bpf
def test_override_to_another_type(builtin):
    class Elsewhere(pylbpf.ProgramHandler):
        section = "perf_event"
        program_type = RAW

        def prepare_load(self, program, opts):
            assert program.type is RAW

        def attach(self, program):
            return program.attach_raw_tracepoint(HIT)

    with pylbpf.open(builtin, handlers=[Elsewhere()]) as obj:
        only(obj, "perf_event")
        obj.load()
        with obj.programs["perf_event"].attach():
            kernel.rename_task()
        assert value(obj.maps["counts"], 14) >= 1


@bpf
def test_programs_of_others_pass_through(builtin):
    """Another object's override, or one that is gone, leaves everything as libbpf has it."""
    names = ["raw_tp", "xdp_frags", "iter_sleepable"] if not kernel.no_btf() else ["raw_tp", "xdp_frags"]
    handlers = [Recorder(section, program_type=0) for section in ("raw_tp+", "xdp.frags", "iter.s+")]

    def check(obj):
        only(obj, *names)
        assert {program.handler for program in obj.programs.values()} == {None}
        obj.load()
        links = obj.attach()
        assert [program.name for program in links.skipped] == ["xdp_frags"]
        kernel.rename_task()
        assert value(obj.maps["counts"], 0) >= 1
        assert all(obj.programs[name].fd >= 0 for name in names)

    with pylbpf.open(builtin, handlers=handlers):
        assert overridden("raw_tp/x") or overridden("xdp.frags")
        with pylbpf.open(builtin) as other:
            check(other)
        calls = [list(handler.calls) for handler in handlers]
        assert all(kind == "setup" for each in calls for kind, _ in each)
    registrations = [pylbpf.register(handler) for handler in handlers]
    with pylbpf.open(builtin):
        for registration in registrations:
            registration.unregister()
        with pylbpf.open(builtin) as other:
            check(other)


@bpf
def test_global_fallback_is_not_for_sections_of_libbpf(builtin):
    fallback = Recorder(None)
    with registered(fallback), pylbpf.open(builtin, handlers=[pylbpf.ProgramHandler(section="raw_tp/task_rename")]):
        with pylbpf.open(builtin) as other:
            other.load()
            assert len(other.attach()) == 1
    assert fallback.calls == []


CGROUPS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("cgroup/connect4") int connect4(void *ctx) { return 1; }
SEC("cgroup/dev")      int dev(void *ctx)      { return 1; }
SEC("cgroup/sysctl")   int sysctl(void *ctx)   { return 1; }
SEC("?cgroup/unheard") int unheard(void *ctx)  { return 1; }
char _license[] SEC("license") = "GPL";
"""


@bpf
def test_override_of_several_types_at_once(cgroup):
    path = objects.build(CGROUPS, "cgroups")
    attached = []

    class Cgroups(pylbpf.ProgramHandler):
        section = "cgroup/"

        def attach(self, program):
            attached.append(program.name)
            return program.attach_cgroup(cgroup)

    with pylbpf.open(path, handlers=[Cgroups()]) as obj:
        kinds = {program.name: (program.type, program.expected_attach_type) for program in obj.programs.values()}
        assert kinds == {
            "connect4": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT),
            "dev": (ProgramType.CGROUP_DEVICE, AttachType.CGROUP_DEVICE),
            "sysctl": (ProgramType.CGROUP_SYSCTL, AttachType.CGROUP_SYSCTL),
            "unheard": (ProgramType.UNSPEC, 0),
        }
        obj.load()
        with obj.attach() as links:
            assert len(links) == 3 and attached == ["connect4", "dev", "sysctl"]


def test_override_of_several_types_must_say_which_to_prepare():
    """libbpf forgets the callback of a program whose type changes."""
    with pytest.raises(ValueError, match="several program types.*program_type"):
        pylbpf.register(Recorder("cgroup/", program_type=0))
    assert pylbpf.handlers() == ()
    with registered(Recorder("cgroup/", program_type=ProgramType.CGROUP_SOCK_ADDR)):
        assert pylbpf.section_info("cgroup/connect4").program_type is ProgramType.CGROUP_SOCK_ADDR


@bpf
def test_same_override_with_another_type_is_no_silent_loss(builtin):
    """libbpf asks for the first one only; a callback that it would not make is an error at open."""
    first = Recorder("perf_event", program_type=ProgramType.PERF_EVENT)
    second = Recorder("perf_event", program_type=RAW, priority=1)
    with registered(first, second):
        with pytest.raises(OSError) as caught:
            pylbpf.open(builtin)
        assert caught.value.errno == errno.EBUSY
        assert "another handler overrides the same section" in str(caught.value)


# ---------------------------------------------------------------- options of a load

FUNC = struct.Struct("II")
LINE = struct.Struct("IIII")


def in_prepare_load(path, look):
    """Run `look(program, opts)` in a prepare_load, and bring out what it raised."""
    done = []

    class Looking(Recorder):
        def prepare_load(self, program, opts):
            look(program, opts)
            done.append(opts)

    with pylbpf.open(path, handlers=[Looking("sample"), rest()]) as obj:
        obj.programs["on_sample"].flags = ProgramFlags.TEST_RND_HI32
        obj.load()
        assert obj.state is State.LOADED
    [opts] = done
    return opts


@bpf
def test_opts_hold_what_libbpf_filled_in(plain):
    def look(program, opts):
        assert isinstance(opts, pylbpf.LoadOpts)
        assert opts.prog_flags == ProgramFlags.TEST_RND_HI32 and isinstance(opts.prog_flags, ProgramFlags)
        assert opts.expected_attach_type == 0 and isinstance(opts.expected_attach_type, AttachType)
        assert (opts.attach_btf_id, opts.attach_btf_obj_fd, opts.attach_prog_fd, opts.prog_ifindex) == (0, 0, 0, 0)
        assert opts.attempts == 0 and opts.log_level == 0 and opts.log_size == 0
        assert opts.prog_btf_fd >= 3
        assert opts.func_info_rec_size == 8 and len(opts.func_info) == 8
        assert FUNC.unpack(opts.func_info)[0] == 0
        assert opts.line_info_rec_size == 16 and len(opts.line_info) % 16 == 0 and opts.line_info
        assert not opts.fd_array

    in_prepare_load(plain, look)


@bpf
@pytest.mark.parametrize("field, good", [
    ("expected_attach_type", AttachType.CGROUP_DEVICE), ("attach_btf_id", 0xFFFFFFFF), ("attach_btf_obj_fd", 7),
    ("attach_prog_fd", 2**31 - 1), ("prog_flags", ProgramFlags.SLEEPABLE | ProgramFlags.XDP_HAS_FRAGS),
    ("prog_ifindex", 12), ("kern_version", 0x60102), ("prog_btf_fd", 9), ("attempts", 20),
    ("func_info", FUNC.pack(0, 1) + FUNC.pack(8, 2)), ("line_info", LINE.pack(0, 1, 2, 3)),
])
def test_opts_take_and_give_back(plain, field, good):
    def look(program, opts):
        before = getattr(opts, field)
        setattr(opts, field, good)
        assert getattr(opts, field) == good
        setattr(opts, field, before)
        assert getattr(opts, field) == before

    in_prepare_load(plain, look)


@bpf
@pytest.mark.parametrize("field, wrong", [
    *((field, wrong) for field in ("expected_attach_type", "attach_btf_id", "prog_flags", "prog_ifindex", "kern_version")
      for wrong in (-1, 1 << 32, 1 << 80, "x", None, object())),
    *((field, wrong) for field in ("attach_btf_obj_fd", "attach_prog_fd", "prog_btf_fd")
      for wrong in (-1, 1 << 31, 1 << 80, "x", None, object())),
    *(("attempts", wrong) for wrong in (-1, 1 << 31, "x", None)),
    *((field, wrong) for field in ("func_info", "line_info") for wrong in (b"12345", 5, "text", [1, 2], object())),
    *(("fd_array", wrong) for wrong in (5, [-1], [1 << 31], ["x"], [None])),
    *((field, 1) for field in ("log_level", "log_size", "log_buf", "func_info_rec_size", "line_info_rec_size", "size", "x")),
], ids=steady)
def test_opts_refuse_nonsense(plain, field, wrong):
    def look(program, opts):
        before = getattr(opts, field, None)
        with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
            setattr(opts, field, wrong)
        assert getattr(opts, field, None) == before

    in_prepare_load(plain, look)


@bpf
@pytest.mark.parametrize("field", ["expected_attach_type", "prog_flags"])
@pytest.mark.parametrize("wrong", ["5", 1.5, b"5"], ids=steady)
def test_opts_convert_no_text_and_cut_no_fraction(plain, field, wrong):
    def look(program, opts):
        with pytest.raises((TypeError, ValueError)):
            setattr(opts, field, wrong)

    in_prepare_load(plain, look)


@bpf
def test_opts_keep_what_they_point_to(plain):
    """The buffers given are copied: their owner may do with them what it likes while the kernel reads."""
    def look(program, opts):
        info = bytearray(opts.func_info)
        lines = bytearray(opts.line_info)
        opts.func_info, opts.line_info = info, memoryview(lines)
        info[:] = b"\xff" * len(info)
        lines[:] = b"\xff" * len(lines)
        del info, lines
        opts.fd_array = [opts.prog_btf_fd]

    assert in_prepare_load(plain, look) is not None     # and the kernel has loaded it


@bpf
def test_opts_take_files_for_descriptors(plain, tmp_path):
    def look(program, opts):
        with open(tmp_path / "file", "wb") as file:
            opts.attach_prog_fd = file
            assert opts.attach_prog_fd == file.fileno()
            opts.attach_prog_fd = 0

    in_prepare_load(plain, look)


@bpf
def test_opts_token_needs_a_newer_libbpf(plain):
    def look(program, opts):
        if pylbpf.libbpf_version() < (1, 4):
            with pytest.raises(pylbpf.NotSupported, match="token_fd needs libbpf 1.4"):
                opts.token_fd
            with pytest.raises(pylbpf.NotSupported):
                opts.token_fd = 3
        else:
            opts.token_fd = 3
            assert opts.token_fd == 3
            opts.token_fd = 0

    in_prepare_load(plain, look)


@bpf
def test_opts_are_dead_after_the_callback(plain):
    opts = in_prepare_load(plain, lambda program, opts: None)
    fields = [name for name in dir(pylbpf.LoadOpts) if not name.startswith("_")]
    assert len(fields) >= 17
    for field in fields:
        if field == "token_fd" and pylbpf.libbpf_version() < (1, 4):
            continue
        with pytest.raises(ValueError, match="over"):
            getattr(opts, field)
    for field in ("prog_flags", "func_info", "fd_array", "attempts", "prog_btf_fd"):
        with pytest.raises(ValueError, match="over"):
            setattr(opts, field, b"" if field == "func_info" else [] if field == "fd_array" else 1)
    with pytest.raises(TypeError):
        pylbpf.LoadOpts()


# ---------------------------------------------------------------- others in this process


@bpf
def test_objects_of_others_pass_through(plain, builtin):
    """Somebody uses the same libbpf directly, while our handlers want every section there is."""
    def child() -> None:
        library = libbpf()
        greedy = [Recorder(None), Recorder("sample", priority=2), Recorder("raw_tp+", priority=2)]
        with registered(*greedy):
            for path, name in ((plain, b"on_sample"), (builtin, b"raw_tp")):
                data = path.read_bytes()
                obj = library.bpf_object__open_mem(data, len(data), None)
                assert obj
                try:
                    program = library.bpf_object__find_program_by_name(obj, name)
                    if path is plain:
                        assert library.bpf_program__type(program) == 0, "as without us"
                        each = library.bpf_object__next_program(obj, None)
                        while each:
                            library.bpf_program__set_type(each, int(RAW))
                            each = library.bpf_object__next_program(obj, each)
                    assert library.bpf_program__type(program) == RAW
                    assert library.bpf_program__flags(program) == 0
                    assert library.bpf_object__load(obj) == 0
                    assert library.bpf_program__fd(program) >= 0
                    ctypes.set_errno(0)
                    link = library.bpf_program__attach(program)
                    if path is plain:
                        assert not link and ctypes.get_errno() == errno.EOPNOTSUPP
                    else:
                        assert link
                        library.bpf_link__destroy(link)
                finally:
                    library.bpf_object__close(obj)
            # In the middle of a call of ours it is still somebody else's.
            class Meddling(Recorder):
                def setup(self, program):
                    data = plain.read_bytes()
                    library.bpf_object__close(library.bpf_object__open_mem(data, len(data), None))

            pylbpf.open(plain, handlers=[Meddling("event", priority=3)]).close()
        assert [handler.names("setup") for handler in greedy[1:]] == [["on_sample"], []]
        assert len(greedy[0].names("setup")) == 7

    in_child(child)     # for what is opened so counts to the end of the process


@bpf
def test_libbpfs_table_stays_as_it_is_for_objects_of_others(builtin):
    """Nobody says when they are gone: pylbpf neither adds to it nor takes from it any more."""
    def child() -> None:
        library = libbpf()
        data = builtin.read_bytes()
        first = pylbpf.register(Recorder("raw_tp+"))
        obj = library.bpf_object__open_mem(data, len(data), None)
        first.unregister()
        for _ in range(3):
            with pytest.raises(pylbpf.HandlerBusyError, match="made by C"):
                pylbpf.register(Recorder("xdp+"))
            pylbpf.register(Recorder("raw_tp+")).unregister()   # which has its place already
            pylbpf.register(Recorder("sample")).unregister()
        program = library.bpf_object__find_program_by_name(obj, b"raw_tp")
        assert library.bpf_object__load(obj) == 0
        link = library.bpf_program__attach(program)
        assert link
        library.bpf_link__destroy(link)
        library.bpf_object__close(obj)

    in_child(child)


@pytest.mark.parametrize("use", ["pylbpf.register(handler)", "pylbpf.open(path, handlers=[handler])"])
def test_slot_that_somebody_else_holds(plain, use):
    code = f"""
import handling
import pylbpf
assert handling.libbpf().libbpf_register_prog_handler(None, 0, 0, None) > 0
handler = pylbpf.ProgramHandler(section="sample")
path = {str(plain)!r}
for _ in range(2):
    try:
        {use}
    except pylbpf.HandlerBusyError as error:
        print(error.errno, error)
pylbpf.open(path).close()
print(pylbpf.handlers())
"""
    first, second, last = run_python(code).splitlines()
    assert first == second and first.startswith(f"{errno.EBUSY} ")
    assert "something else in this process holds libbpf's only fallback handler" in first
    assert last == "()"


def test_native_handler_is_made_once():
    """Its functions may be in use: they are not given away for others."""
    handler = pylbpf.NativeHandler("sample", program_type=RAW, cookie=3)
    with pytest.raises(pylbpf.StateError, match="made already"):
        handler.__init__("sample", program_type=RAW, cookie=4)
    assert handler.cookie == 3
    with pytest.raises(TypeError, match="cookie"):
        pylbpf.NativeHandler("sample", cookie=1.5)


# ---------------------------------------------------------------- what goes wrong in them


@bpf
def test_errors_of_a_generator_come_out(plain):
    class Lazy(pylbpf.ProgramHandler):
        section, program_type = None, RAW

        def attach(self, program):
            yield program.attach_raw_tracepoint("task_rename")
            raise TypeError("mine")

    with pylbpf.open(plain, handlers=[Lazy()]) as obj:
        obj.load()
        with pytest.raises(TypeError, match="mine"):
            obj.attach()
        assert pylbpf.query.links() is not None and not kernel.own_link_ids()


@bpf
def test_the_error_of_a_callback_is_not_lost_for_a_view_that_it_had(plain):
    class Views(pylbpf.ProgramHandler):
        section, program_type = None, RAW

        def prepare_load(self, program, opts):
            view = memoryview(program.insns)
            raise LookupError(f"with {len(view)} instructions in view")

    before = kernel.own_link_ids()
    with pytest.raises(LookupError, match="in view") as caught:
        with pylbpf.open(plain, handlers=[Views()]) as obj:
            obj.load()
    assert not obj.closed       # the view is in the frames of the exception
    del caught
    obj.close()
    with pytest.raises(KeyError):
        with pylbpf.open(plain, handlers=[rest()]) as obj:
            obj.load()
            view = memoryview(next(iter(obj.programs.values())).insns)
            links = [program.attach_raw_tracepoint("task_rename") for program in obj.programs.values() if program.autoload]
            raise KeyError
    assert not obj.closed and all(link.closed for link in links) and kernel.own_link_ids() == before
    with pytest.raises(BufferError):
        with obj:
            pass
    view.release()
    obj.close()


@bpf
def test_setup_may_drop_an_override(builtin):
    class Dropping(Recorder):
        def setup(self, program):
            super().setup(program)
            program.set_type(ProgramType.TRACEPOINT, drop_handler=True)
            program.autoload = False

        def prepare_load(self, program, opts):
            raise AssertionError("dropped")

    with pylbpf.open(builtin, handlers=[Dropping("raw_tp+")]) as obj:
        assert obj.programs["raw_tp"].handler is None and obj.programs["raw_tp"].type == ProgramType.TRACEPOINT
        obj.load()


@bpf
@pytest.mark.parametrize("change", ["TRACEPOINT", "RAW_TRACEPOINT"])
@pytest.mark.parametrize("when", ["setup", "open"])
def test_a_program_without_its_override_has_no_automatic_attach(builtin, change, when):
    """Nor does it look where libbpf had the handler, which may be gone after the load: each freed block is filled."""
    code = f"""
import pylbpf

class Dropping(pylbpf.ProgramHandler):
    section = "raw_tp+"
    def setup(self, program):
        if {when!r} == "setup":
            program.set_type(pylbpf.ProgramType.{change}, drop_handler=True)

with pylbpf.open({str(builtin)!r}, handlers=[Dropping()]) as obj:
    for program in obj.programs.values():
        if not program.section.startswith("raw_tp"):
            program.autoload = False
        elif {when!r} == "open":
            program.set_type(pylbpf.ProgramType.{change}, drop_handler=True)
        if {change!r} == "TRACEPOINT":
            program.expected_attach_type = 0
    obj.load()
    print(len(obj.attach()))
    try:
        obj.programs["raw_tp"].attach()
    except pylbpf.BpfError as error:
        print(error.errno == 95)
"""
    assert run_python(code, MALLOC_PERTURB_="165").split() == ["0", "True"]


@bpf
def test_ctrl_c_while_a_registration_waits(plain):
    """A setup on another thread keeps libbpf's table in use; nothing is registered then."""
    begun, done = threading.Event(), threading.Event()

    class Slow(pylbpf.ProgramHandler):
        section, program_type = None, RAW

        def setup(self, program):
            begun.set()
            done.wait(60)

    def interrupt(number, frame):
        raise InterruptedError("enough")

    opening = threading.Thread(target=lambda: pylbpf.open(plain, handlers=[Slow()]).close())
    opening.start()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        assert begun.wait(60)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(InterruptedError):
            pylbpf.register(pylbpf.ProgramHandler(section="xdp"))
        assert not overridden("xdp")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        done.set()
        opening.join()
    pylbpf.register(pylbpf.ProgramHandler(section="xdp")).unregister()
