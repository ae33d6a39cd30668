"""What can go wrong around handlers in libbpf, and what pylbpf does instead: one by one, named by number."""
from __future__ import annotations

import ctypes
import errno
import gc
import os
import signal
import threading
import time
import warnings
import weakref

import pytest

import kernel
import pylbpf
from handling import HIT, libbpf, overridden, RAW, Recorder, registered, rest, run_python, steady, value
from pylbpf import AttachType, ProgramType, State

bpf = pytest.mark.bpf

SETUP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_long)
PREPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)
ATTACH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_long, ctypes.POINTER(ctypes.c_void_p))


class Boom(Exception):
    pass


@pytest.fixture
def plain(bpf_object):
    """Programs in sections that mean nothing to libbpf."""
    return bpf_object("handlers")


@pytest.fixture
def builtin(bpf_object):
    """Programs in sections that are libbpf's own."""
    return bpf_object("override")


def notes(error):
    return getattr(error, "__notes__", [])


# ---------------------------------------------------------------- libbpf's table moves


@bpf
def test_thirty_registrations_while_an_object_is_open(plain):
    before = [Recorder(f"early/{number}") for number in range(10)]
    handlers = [Recorder("sample"), Recorder("probe/"), Recorder("event+"), Recorder("eventful")]
    registrations = [pylbpf.register(handler) for handler in before + handlers]
    with pylbpf.open(plain) as obj:
        for registration in registrations[:10]:
            registration.unregister()
        later = [pylbpf.register(Recorder(f"late/{number}")) for number in range(30)]
        obj.load()
        for registration in later:
            registration.unregister()
        obj.attach()
        kernel.rename_task()
        for handler, names in zip(handlers, (["on_sample"], ["probe_one", "probe_two", "probe_bare"],
                                             ["on_event", "on_event_x"], ["on_eventful"])):
            assert handler.names("prepare_load") == handler.names("attach") == names
        assert all(value(obj.maps["hits"], slot) for slot in range(7))
    for registration in registrations:
        registration.unregister()
    assert pylbpf.handlers() == ()


@bpf
def test_unregistering_keeps_the_handler_of_open_objects(plain):
    handler = Recorder(None)
    registration = pylbpf.register(handler)
    with pylbpf.open(plain) as obj:
        registration.unregister()
        assert not registration.active
        with pylbpf.open(plain) as other:
            assert other.programs["on_sample"].handler is None
        assert obj.programs["on_sample"].handler is handler
        obj.load()
        obj.attach()
        assert len(handler.names("setup")) == 9 and len(handler.names("attach")) == 7


@bpf
def test_overrides_are_refused_while_libbpfs_table_must_not_move(builtin):
    with registered(Recorder("raw_tp+")):
        with pylbpf.open(builtin) as obj:
            with pytest.raises(pylbpf.HandlerBusyError, match="not yet loaded") as caught:
                pylbpf.register(pylbpf.ProgramHandler(section="xdp"))
            assert caught.value.errno == errno.EBUSY
            with pytest.raises(pylbpf.HandlerBusyError):
                pylbpf.open(builtin, handlers=[pylbpf.ProgramHandler(section="xdp")])
            # What needs no entry of its own is never refused.
            with registered(Recorder("anything"), Recorder(None), Recorder("raw_tp+", priority=1)):
                pass
            obj.load()
            with registered(pylbpf.ProgramHandler(section="xdp")):
                assert overridden("xdp")
    with pylbpf.open(builtin):
        pass


@bpf
def test_override_is_logically_gone_at_once_and_physically_later(builtin):
    handler = Recorder("xdp", program_type=ProgramType.XDP)
    registration = pylbpf.register(handler)
    assert overridden("xdp")
    obj = pylbpf.open(builtin)
    registration.unregister()
    assert overridden("xdp"), "the object's programs point there"
    assert pylbpf.section_info("xdp").handler is None
    with pylbpf.open(builtin) as other:
        assert other.programs["xdp"].handler is None
    assert obj.programs["xdp"].handler is handler
    obj.close()
    assert not overridden("xdp")


def test_overrides_come_and_go_many_times(builtin):
    """Up to version 1.2, libbpf frees its table with the last entry and uses it again."""
    code = f"""
import pylbpf
for section in ("raw_tp+", "xdp", "tc") * 20:
    with pylbpf.register(pylbpf.ProgramHandler(section=section)):
        pylbpf.open({str(builtin)!r}).close()
print("alive")
"""
    # Each freed block is filled, so that any use of it shows.
    assert run_python(code, MALLOC_PERTURB_="165").strip() == "alive"


@bpf
def test_new_fallback_does_not_take_over_open_objects(plain):
    old, new = Recorder(None, cookie=4), Recorder(None, cookie=99)
    registration = pylbpf.register(old)
    with pylbpf.open(plain) as obj:
        registration.unregister()
        with registered(new):
            obj.load()
            obj.attach()
            assert obj.programs["on_sample"].handler.cookie == 4
    assert new.calls == [] and len(old.names("attach")) == 7


def test_slot_is_never_given_back():
    pylbpf.register(Recorder(None)).unregister()
    assert libbpf().libbpf_register_prog_handler(None, 0, 0, None) == -errno.EBUSY


# ---------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    "section, error",
    [("", ValueError), ("/", ValueError), ("+", ValueError), ("?x", ValueError), ("?", ValueError), ("a\0b", ValueError),
     ("\0", ValueError), (b"x", TypeError), (5, TypeError), (object(), TypeError), (["x"], TypeError), (True, TypeError)],
    ids=steady,
)
def test_patterns_that_libbpf_would_stumble_over(plain, section, error):
    handler = Recorder(section)
    before = pylbpf.handlers()
    with pytest.raises(error, match="section"):
        pylbpf.register(handler)
    with pytest.raises(error, match="section"):
        pylbpf.open(plain, handlers=[handler])
    assert pylbpf.handlers() == before


@pytest.mark.parametrize("section", ["a//", "a++", "/a", "+a", "a?", " ", "ä", "\udcff", "x" * 5000])
def test_strange_but_harmless_patterns(plain, section):
    with registered(Recorder(section)), pylbpf.open(plain) as obj:
        assert len(obj.programs) == 9
        assert pylbpf.section_info("sample") is None


@pytest.mark.parametrize(
    "wrong",
    [{"program_type": -1}, {"program_type": 1 << 32}, {"program_type": "XDP"}, {"program_type": None},
     {"expected_attach_type": -1}, {"program_flags": 1.5}, {"autoload": 1}, {"priority": "high"}, {"priority": True},
     {"priority": 1 << 40}],
    ids=str,
)
def test_wrong_declarations(wrong):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        pylbpf.register(Recorder("sample", **wrong))
    assert pylbpf.handlers() == ()


@pytest.mark.parametrize("handler", [None, object(), Recorder, "sample", lambda: None])
def test_not_a_handler(plain, handler):
    with pytest.raises(TypeError, match="handler must be a ProgramHandler"):
        pylbpf.register(handler)
    with pytest.raises(TypeError, match="handler must be a ProgramHandler"):
        pylbpf.open(plain, handlers=[handler])


def test_duplicates_are_refused(plain):
    first = Recorder("sample")
    with registered(first):
        with pytest.raises(pylbpf.HandlerExistsError, match="priority") as caught:
            pylbpf.register(Recorder("sample"))
        assert isinstance(caught.value, ValueError) and caught.value.errno == errno.EEXIST
        with pytest.raises(pylbpf.HandlerExistsError):
            pylbpf.register(first)
        with registered(Recorder("sample", priority=-1)):
            pylbpf.open(plain).close()
        with pytest.raises(pylbpf.HandlerExistsError):
            pylbpf.open(plain, handlers=[Recorder("event"), Recorder("event")])
    assert first.names("setup") == ["on_sample"]
    with registered(first):
        pass


def test_refused_override_leaves_nothing_behind():
    with registered(pylbpf.ProgramHandler(section="xdp")):
        with pytest.raises(pylbpf.HandlerExistsError):
            pylbpf.register(pylbpf.ProgramHandler(section="xdp"))
        assert overridden("xdp")
    assert not overridden("xdp")


# ---------------------------------------------------------------- threads


def test_register_from_inside_a_callback(plain, builtin):
    seen = []

    class Nested(Recorder):
        def setup(self, program):
            with registered(Recorder("nested/"), Recorder(None)):
                seen.append(len(pylbpf.handlers()))
            for override in (lambda: pylbpf.register(pylbpf.ProgramHandler(section="xdp")),
                             lambda: pylbpf.open(builtin, handlers=[pylbpf.ProgramHandler(section="xdp")])):
                with pytest.raises(pylbpf.HandlerBusyError, match="inside a callback"):
                    override()

    pylbpf.open(plain, handlers=[Nested("sample")]).close()
    assert seen == [2] and pylbpf.handlers() == ()


def test_unregister_oneself_from_inside_a_callback(plain):
    class Once(Recorder):
        def setup(self, program):
            super().setup(program)
            registration.unregister()

    handler = Once("probe/")
    registration = pylbpf.register(handler)
    for _ in range(2):
        pylbpf.open(plain).close()
    assert len(handler.names("setup")) == 4, "the open under way goes on with what it began with"


def test_register_override_waits_for_an_open_in_another_thread(plain):
    inside, go_on = threading.Event(), threading.Event()

    class Slow(Recorder):
        def setup(self, program):
            inside.set()
            assert go_on.wait(20)

    done = []

    def override():
        with registered(pylbpf.ProgramHandler(section="xdp")):
            done.append(overridden("xdp"))

    threads = [threading.Thread(target=lambda: pylbpf.open(plain, handlers=[Slow("sample")]).close()),
               threading.Thread(target=override)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    with registered(Recorder("meanwhile")):     # is kept waiting by nobody
        time.sleep(0.05)
        assert done == []
    go_on.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert done == [True] and not overridden("xdp")


def test_two_threads_register_while_others_open(plain):
    failures = []
    over = threading.Event()

    def churn(thread):
        try:
            for number in range(300):
                handler = Recorder(f"sample/{thread}")
                with registered(handler, Recorder(f"churn/{thread}/{number}")):
                    assert handler in pylbpf.handlers()
        except BaseException as error:
            failures.append(error)

    def opening():
        try:
            while not over.is_set():
                handler = Recorder("sample")
                pylbpf.open(plain, handlers=[handler]).close()
                assert handler.names("setup") == ["on_sample"]
        except BaseException as error:
            failures.append(error)

    openers = [threading.Thread(target=opening) for _ in range(2)]
    writers = [threading.Thread(target=churn, args=(number,)) for number in range(2)]
    for thread in openers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    for thread in openers:
        thread.join()
    assert failures == [] and pylbpf.handlers() == ()


@pytest.mark.parametrize("first", ["None", "pylbpf.register(pylbpf.ProgramHandler(section='other'))"])
def test_register_from_inside_the_print_callback(plain, first):
    """libbpf prints while it reads its table: registering there must not wait for its own thread."""
    code = f"""
import pylbpf
kept = {first}
said = []
def listen(level, line):
    pylbpf.set_print(None)
    for section in ("sample", "xdp"):
        try:
            said.append(pylbpf.register(pylbpf.ProgramHandler(section=section)))
        except pylbpf.HandlerBusyError as error:
            said.append(error)
pylbpf.set_print(listen, pylbpf.LogLevel.DEBUG)
pylbpf.open({str(plain)!r}).close()
print(len(said))
"""
    assert run_python(code, timeout=60).strip() == "2"


# ---------------------------------------------------------------- types and results


@bpf
def test_set_type_keeps_or_drops_the_handler(plain):
    class Choosing(Recorder):
        def setup(self, program):
            super().setup(program)
            program.set_type(RAW, drop_handler=self.cookie)

    keeping, dropping = Choosing("probe/one", program_type=0), Choosing("probe/two", program_type=0, cookie=True)
    with pylbpf.open(plain, handlers=[keeping, dropping, rest()]) as obj:
        assert obj.programs["probe_one"].handler is keeping
        assert obj.programs["probe_two"].handler is None
        obj.load()
        assert obj.programs["probe_two"] in obj.attach().skipped
    assert keeping.calls == [(kind, "probe_one") for kind in ("setup", "prepare_load", "attach")]
    assert dropping.calls == [("setup", "probe_two")]


@pytest.mark.parametrize("result", [-4096, -5000, -0x40000000, -(2**31)])
def test_result_that_is_no_errno_is_an_error_all_the_same(plain, result):
    handler = pylbpf.NativeHandler("sample", setup=SETUP(lambda *_: result))
    with pytest.raises(pylbpf.BpfError) as caught:
        pylbpf.open(plain, handlers=[handler])
    assert caught.value.errno == errno.EINVAL


@bpf
@pytest.mark.parametrize(
    "result, expected", [(-(2**31), errno.EINVAL), (-4096, errno.EINVAL), (-errno.ENOBUFS, errno.ENOBUFS)])
def test_results_of_prepare_load(plain, result, expected):
    handler = pylbpf.NativeHandler("sample", program_type=RAW, prepare_load=PREPARE(lambda *_: result))
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        with pytest.raises(pylbpf.BpfError) as caught:
            obj.load()
        assert caught.value.errno == expected and obj.state is State.FAILED


@bpf
@pytest.mark.parametrize("result", [3, 2**31 - 1, -(2**31), -4096])
def test_results_of_attach(plain, result):
    """libbpf would take 3 for a link that failed with errno -3."""
    handler = pylbpf.NativeHandler("sample", program_type=RAW, attach=ATTACH(lambda *_: result))
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        obj.load()
        with pytest.raises(pylbpf.BpfError) as caught:
            obj.programs["on_sample"].attach()
        assert caught.value.errno == errno.EINVAL


# ---------------------------------------------------------------- failures half-way


@pytest.mark.parametrize("at", [0, 3, 8])
@pytest.mark.parametrize("error", [Boom("boom"), KeyboardInterrupt(), SystemExit(3), OSError(errno.EIO, "bad")], ids=steady)
def test_setup_fails_half_way(plain, error, at):
    seen = []

    class Failing(Recorder):
        def setup(self, program):
            seen.append(program)
            if len(seen) > at:
                error.__notes__ = []
                raise error

    with pytest.raises(type(error)) as caught:
        pylbpf.open(plain, handlers=[Failing(None)])
    assert caught.value is error
    assert len(seen) == at + 1
    names = "on_sample probe_one probe_two probe_bare on_event on_event_x on_eventful probe_off nobody_knows".split()
    assert len(notes(error)) == 1
    assert all(word in notes(error)[0] for word in ("setup of Failing", repr(names[at])))
    for program in seen:
        for use in (lambda: program.name, lambda: program.insns, lambda: program.set_type(RAW), lambda: program.fd,
                    program.attach, lambda: program.set_attach_target("x"), lambda: program.handler):
            with pytest.raises(ValueError, match="is closed"):
                use()
        assert "closed" in repr(program)


def test_traceback_reaches_into_the_callback(plain):
    class Failing(Recorder):
        def setup(self, program):
            raise Boom

    with pytest.raises(Boom) as caught:
        pylbpf.open(plain, handlers=[Failing("sample")])
    assert caught.traceback[-1].name == "setup"
    assert "section 'sample'" in notes(caught.value)[0]


@bpf
@pytest.mark.parametrize("at", [0, 4])
@pytest.mark.parametrize("error", [Boom("boom"), KeyboardInterrupt(), SystemExit(3)], ids=steady)
def test_prepare_load_fails_half_way(plain, error, at):
    class Failing(Recorder):
        failing = True

        def prepare_load(self, program, opts):
            super().prepare_load(program, opts)
            if self.failing and len(self.calls) == 9 + at + 1:
                error.__notes__ = []
                raise error

    handler = Failing(None)
    with pylbpf.open(plain, handlers=[handler]) as obj:
        obj.programs["on_sample"].log_level = 2
        with pytest.raises(type(error)) as caught:
            obj.load()
        assert caught.value is error
        name = handler.names("prepare_load")[-1]
        assert "prepare_load of Failing" in notes(error)[0] and repr(name) in notes(error)[0]
        assert obj.state is State.FAILED
        assert {program.fd for program in obj.programs.values()} == {-1}
        assert ("processed" in obj.programs["on_sample"].log) is (at > 0), "logs of earlier programs can be read"
        assert len(obj.programs["on_sample"].insns) > 10
        for use in (obj.load, obj.attach, obj.programs["on_sample"].attach, lambda: obj.programs["on_sample"].set_type(RAW)):
            with pytest.raises(pylbpf.StateError, match="failed"):
                use()
        handler.failing = False
        with obj.reopen() as again:
            again.load()
            assert again.state is State.LOADED and again.programs["on_sample"].handler is handler


@bpf
def test_handlers_given_as_an_iterator_are_there_after_reopen(plain):
    handler = Recorder("sample")
    with pylbpf.open(plain, handlers=(each for each in [handler])) as obj, obj.reopen() as again:
        assert again.programs["on_sample"].handler is obj.programs["on_sample"].handler is handler


@bpf
@pytest.mark.parametrize("error", [Boom("boom"), KeyboardInterrupt(), SystemExit(3)], ids=steady)
@pytest.mark.parametrize("whole", [False, True])
def test_attach_fails_after_it_made_links(plain, error, whole):
    made = []

    class Failing(Recorder):
        def attach(self, program):
            made.append(program.attach_raw_tracepoint(HIT))
            made.append(program.attach_raw_tracepoint("oom_score_adj_update"))
            error.__notes__ = []
            raise error

    with pylbpf.open(plain, handlers=[Failing("eventful"), Recorder(None)]) as obj:
        obj.load()
        before = kernel.own_link_ids()
        with pytest.raises(type(error)) as caught:
            obj.attach() if whole else obj.programs["on_eventful"].attach()
        # The traceback is held all the time, and with it every local variable.
        assert caught.value is error and caught.value.__traceback__ is not None
        assert "attach of Failing" in notes(error)[0] and "'on_eventful'" in notes(error)[0]
        assert len(made) == 2 and all(link.closed for link in made)
        assert kernel.own_link_ids() == before and len(obj.links) == 0
        # While they were attached, other processes may have run them.
        hits = [value(obj.maps["hits"], slot) for slot in range(9)]
        kernel.rename_task()
        assert [value(obj.maps["hits"], slot) for slot in range(9)] == hits
        assert obj.state is State.LOADED


@bpf
def test_native_attach_fails_after_it_made_a_link(plain):
    library = libbpf()
    library.bpf_program__attach_raw_tracepoint.restype = ctypes.c_void_p
    library.bpf_program__attach_raw_tracepoint.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

    def attach(program, cookie, link):
        link[0] = library.bpf_program__attach_raw_tracepoint(program, HIT.encode())
        return -errno.EXDEV

    handler = pylbpf.NativeHandler("sample", program_type=RAW, attach=ATTACH(attach))
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        obj.load()
        before = kernel.own_link_ids()
        for use in (obj.programs["on_sample"].attach, obj.attach):
            with pytest.raises(pylbpf.BpfError) as caught:
                use()
            assert caught.value.errno == errno.EXDEV
        assert kernel.own_link_ids() == before


@bpf
@pytest.mark.parametrize("junk", [5, "x", object(), [5], [None], b"link", 1.5, True], ids=steady)
def test_attach_returns_junk(plain, junk):
    class Junk(Recorder):
        def attach(self, program):
            self.link = program.attach_raw_tracepoint(HIT)
            return junk

    handler = Junk("sample")
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        obj.load()
        with pytest.raises(TypeError, match="attach must return"):
            obj.programs["on_sample"].attach()
        assert handler.link.closed


@bpf
def test_attach_returns_a_link_of_no_object(plain):
    """It ends with the object like all others."""
    class Found(Recorder):
        def attach(self, program):
            link = program.attach_raw_tracepoint(HIT)
            fd = link.disconnect()
            try:
                return pylbpf.Link.from_fd(fd)
            finally:
                os.close(fd)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pylbpf.open(plain, handlers=[Found("sample"), rest()]) as obj:
            obj.load()
            link = obj.programs["on_sample"].attach()
            number = link.info().id
            assert link.program is None and not link.closed
        assert link.closed and number not in [found.id for found in pylbpf.query.links()]
        del link
        gc.collect()
    assert [each.message for each in warned] == []


@bpf
def test_attach_returns_a_closed_link(plain):
    class Closed(Recorder):
        def attach(self, program):
            link = program.attach_raw_tracepoint(HIT)
            link.close()
            return link

    with pylbpf.open(plain, handlers=[Closed("sample"), rest()]) as obj:
        obj.load()
        with pytest.raises(ValueError, match="closed"):
            obj.programs["on_sample"].attach()


@bpf
def test_failing_attach_all_takes_back_what_others_attached(plain):
    class Failing(Recorder):
        def attach(self, program):
            raise Boom

    good = Recorder(None)
    with pylbpf.open(plain, handlers=[good, Failing("eventful")]) as obj:
        obj.load()
        before = kernel.own_link_ids()
        with pytest.raises(Boom):
            obj.attach()
        assert len(good.names("attach")) == 6 and kernel.own_link_ids() == before


@pytest.mark.parametrize("junk", [0, False, "x", -1, []], ids=steady)
def test_setup_returns_junk(plain, junk):
    class Junk(Recorder):
        def setup(self, program):
            return junk

    with pytest.raises(TypeError, match="setup must return None"):
        pylbpf.open(plain, handlers=[Junk("sample")])


@bpf
def test_prepare_load_returns_junk(plain):
    class Junk(Recorder):
        def prepare_load(self, program, opts):
            return -1

    with pylbpf.open(plain, handlers=[Junk("sample"), rest()]) as obj:
        with pytest.raises(TypeError, match="prepare_load must return None"):
            obj.load()
        assert obj.state is State.FAILED


# ---------------------------------------------------------------- None, and nested calls


@bpf
@pytest.mark.parametrize("nothing", [None, [], ()], ids=steady)
def test_none_from_attach(plain, nothing):
    class Nothing(Recorder):
        def attach(self, program):
            super_calls.append(program.name)
            return nothing

    super_calls = []
    with pylbpf.open(plain, handlers=[Nothing("sample"), Recorder(None)]) as obj:
        obj.load()
        program = obj.programs["on_sample"]
        with pytest.raises(pylbpf.BpfError, match="no automatic attach") as caught:
            program.attach()
        assert caught.value.errno == errno.EOPNOTSUPP
        links = obj.attach()
        assert links.skipped == (program,) and len(links) == 6
    assert super_calls == ["on_sample"] * 2


@bpf
def test_calls_into_the_object_at_work(plain):
    refused = []

    class Nesting(Recorder):
        def prepare_load(self, program, opts):
            self.try_all(program, "load")

        def attach(self, program):
            self.try_all(program, "attach")
            return super().attach(program)

        def try_all(self, program, phase):
            obj = program.object
            for use in (obj.load, obj.attach, obj.close, lambda: setattr(obj, "kernel_version", 1), obj.__exit__):
                with pytest.raises(pylbpf.StateError, match="inside a callback") as caught:
                    use()
                assert caught.value.errno == errno.EBUSY
                refused.append(phase)
            other = obj.programs["probe_one"]
            with pytest.raises(pylbpf.StateError):
                other.set_insns(other.insns)
            with pytest.raises(pylbpf.StateError):
                other.view_insns(writable=True)

    with pylbpf.open(plain, handlers=[Nesting("sample"), Recorder(None)]) as obj:
        obj.load()
        obj.attach()
        kernel.rename_task()
        assert value(obj.maps["hits"], 0) >= 1
    assert refused == ["load"] * 5 + ["attach"] * 5


def test_calls_into_the_object_being_opened(plain):
    class Nesting(Recorder):
        def setup(self, program):
            super().setup(program)
            with pytest.raises(pylbpf.StateError):
                program.attach()
            with pytest.raises(pylbpf.StateError):
                program.set_insns(program.insns)
            with pytest.raises(pylbpf.StateError):
                program.unload()
            assert program.object is None and program.fd == -1

    handler = Nesting("sample")
    pylbpf.open(plain, handlers=[handler]).close()
    assert handler.names("setup") == ["on_sample"]


@bpf
def test_other_objects_from_inside_callbacks(plain):
    inner = Recorder(None)

    class Opening(Recorder):
        def use(self):
            with pylbpf.open(plain, handlers=[inner]) as obj:
                obj.load()
                obj.attach()

        def setup(self, program):
            self.use()

        def prepare_load(self, program, opts):
            self.use()
            opts.attempts = 3       # the outer call is as it was

        def attach(self, program):
            self.use()
            return super().attach(program)

    with pylbpf.open(plain, handlers=[Opening("sample"), rest()]) as obj:
        obj.load()
        with obj.programs["on_sample"].attach():
            assert len(inner.names("attach")) == 21


@bpf
def test_failure_of_an_inner_object_is_no_failure_of_the_outer(plain, bpf_object):
    class Opening(Recorder):
        def prepare_load(self, program, opts):
            with pylbpf.open(bpf_object("rejected")) as obj, pytest.raises(pylbpf.VerifierError) as caught:
                obj.load()
            assert caught.value.program == "careless"

    with pylbpf.open(plain, handlers=[Opening("sample"), rest()]) as obj:
        obj.load()
        assert obj.programs["on_sample"].log == ""


@bpf
def test_attach_of_the_same_program_from_its_attach(plain):
    """There is nothing to hand on to: it says so, rather than calling itself for ever."""

    class Again(Recorder):
        def attach(self, program):
            super_calls.append(program.name)
            return program.attach()

    super_calls = []
    with pylbpf.open(plain, handlers=[Again("sample"), rest()]) as obj:
        obj.load()
        with pytest.raises((pylbpf.BpfError, RecursionError)):
            obj.programs["on_sample"].attach()
        obj.programs["on_sample"].attach_raw_tracepoint(HIT).close()


@bpf
def test_autoload_cannot_be_switched_on_in_the_middle_of_a_load(plain):
    """libbpf would load instructions that it never relocated."""

    class Late(Recorder):
        def prepare_load(self, program, opts):
            with pytest.raises(pylbpf.StateError):
                program.object.programs["probe_off"].autoload = True

    with pylbpf.open(plain, handlers=[Late("sample"), rest()]) as obj:
        obj.load()
        assert obj.programs["probe_off"].fd == -1


# ---------------------------------------------------------------- cookies and names


@bpf
def test_cookie_is_any_object(plain):
    cookie = object()
    seen = []

    class Cookie(Recorder):
        def prepare_load(self, program, opts):
            seen.append(self.cookie)

    with pylbpf.open(plain, handlers=[Cookie("sample", cookie=cookie), rest()]) as obj:
        obj.load()
    assert seen == [cookie]


@pytest.mark.parametrize("cookie", [0, 1, -1, 2 ** (8 * ctypes.sizeof(ctypes.c_long) - 1) - 1,
                                    -(2 ** (8 * ctypes.sizeof(ctypes.c_long) - 1))])
def test_native_cookie_is_a_long(plain, cookie):
    seen = []
    function = SETUP(lambda program, given: seen.append(given) or 0)
    pylbpf.open(plain, handlers=[pylbpf.NativeHandler("sample", setup=function, cookie=cookie)]).close()
    assert seen == [cookie]


def test_native_cookie_that_is_no_long():
    for wrong, error in ((1 << 80, OverflowError), ("x", TypeError), (None, TypeError)):
        with pytest.raises(error):
            pylbpf.NativeHandler("sample", cookie=wrong)


@bpf
def test_handler_lives_as_long_as_its_last_object(plain):
    handler = Recorder(None)
    alive = weakref.ref(handler)
    registration = pylbpf.register(handler)
    obj = pylbpf.open(plain)
    registration.unregister()
    del handler, registration
    gc.collect()
    obj.load()
    obj.attach()
    assert len(alive().names("attach")) == 7
    obj.close()
    gc.collect()
    assert alive() is None


def test_handler_lives_as_long_as_a_program_of_its_object(plain):
    alive = weakref.ref(handler := Recorder(None))
    program = pylbpf.open(plain, handlers=[handler]).programs["on_sample"]
    del handler
    gc.collect()
    assert program.handler is alive()
    del program
    gc.collect()
    assert alive() is None


def test_functions_of_a_native_handler_are_kept(plain):
    seen = []
    handler = pylbpf.NativeHandler("sample", setup=SETUP(lambda *_: seen.append(1) or 0))
    gc.collect()
    with pylbpf.open(plain, handlers=[handler]):
        pass
    assert seen == [1]


def test_name_queries_answer_from_our_registry():
    assert pylbpf.section_info("sample") is None
    exact, fallback = Recorder("sample"), Recorder(None, program_type=ProgramType.XDP)
    with registered(exact):
        info = pylbpf.section_info("sample")
        assert (info.name, info.program_type, info.handler, info.builtin) == ("sample", RAW, exact, False)
        assert pylbpf.section_info("?sample").handler is exact
        assert pylbpf.section_info("samples") is None
        builtin = pylbpf.section_info("xdp")
        assert (builtin.program_type, builtin.expected_attach_type) == (ProgramType.XDP, AttachType.XDP)
        assert builtin.builtin and builtin.handler is None
        with registered(fallback):
            assert pylbpf.section_info("samples").handler is fallback
            assert pylbpf.section_info("xdp").handler is None
    for wrong, error in (("", ValueError), ("a\0b", ValueError), (b"xdp", TypeError), (None, TypeError)):
        with pytest.raises(error):
            pylbpf.section_info(wrong)


# ---------------------------------------------------------------- threads, signals, the end


@bpf
def test_many_callbacks_at_once(plain):
    barrier = threading.Barrier(4, timeout=120)
    seen = []

    class Meeting(Recorder):
        def prepare_load(self, program, opts):
            barrier.wait()      # all four are in their callbacks, or none gets past
            seen.append(threading.get_ident())

    handler = Meeting("sample")
    failures = []

    def load():
        try:
            with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
                obj.load()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == [] and len(set(seen)) == 4


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(3000):
        time.sleep(0.01)


@bpf
@pytest.mark.parametrize("kind", ["setup", "prepare_load", "attach"])
def test_signal_during_a_callback(plain, kind):
    handler = Recorder("sample")
    setattr(handler, kind, lambda *_: interrupt())
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
            obj.load()
            obj.attach()
    assert time.monotonic() - began < 29
    assert any(f"in {kind} of Recorder" in note for note in notes(caught.value))


@bpf
def test_signal_during_the_load_comes_right_after(plain):
    """Blocked while libbpf and the kernel work, because it would interrupt the verifier; but not lost."""
    seen = []

    def prepare_load(program, opts, cookie):
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        seen.append("prepare_load")
        return 0

    previous = signal.signal(signal.SIGUSR1, lambda *_: seen.append("signal"))
    try:
        handler = pylbpf.NativeHandler("sample", program_type=RAW, prepare_load=PREPARE(prepare_load))
        with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
            obj.load()
            assert seen == ["prepare_load", "signal"] and obj.state is State.LOADED
    finally:
        signal.signal(signal.SIGUSR1, previous)


@bpf
def test_interrupt_during_the_load_comes_out_of_it(plain):
    """The load is done by then, and stays so."""
    function = PREPARE(lambda *_: signal.pthread_kill(threading.get_ident(), signal.SIGINT) or 0)
    handler = pylbpf.NativeHandler("sample", program_type=RAW, prepare_load=function)
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        with pytest.raises(KeyboardInterrupt):
            obj.load()
        assert obj.state is State.LOADED and obj.programs["on_sample"].fd >= 0


@bpf
def test_first_exception_wins_and_later_callbacks_are_not_called(plain):
    class Failing(Recorder):
        def setup(self, program):
            super().setup(program)
            raise Boom(program.name)

    handler = Failing(None)
    with pytest.raises(Boom, match="on_sample"):
        pylbpf.open(plain, handlers=[handler])
    assert handler.names("setup") == ["on_sample"]


def test_exceptions_that_resist(plain):
    """Notes that cannot be added, and text that cannot be made, are no reason to lose the exception."""

    class Mute(Exception):
        __slots__ = ()

        def __str__(self):
            raise ZeroDivisionError

        __repr__ = __str__

    class Failing(Recorder):
        def setup(self, program):
            raise Mute

        __repr__ = Mute.__str__

    with pytest.raises(Mute):
        pylbpf.open(plain, handlers=[Failing("sample")])


@bpf
def test_interpreter_ends_with_everything_open(plain):
    code = f"""
import threading, time
import pylbpf
inside = threading.Event()
class Slow(pylbpf.ProgramHandler):
    section = "sample"
    program_type = {int(RAW)}
    def prepare_load(self, program, opts):
        print("inside", flush=True)
        inside.set()
        time.sleep(0.3)
rest = pylbpf.ProgramHandler(program_type={int(RAW)})
pylbpf.register(rest)
obj = pylbpf.open({str(plain)!r}, handlers=[Slow()])
loaded = pylbpf.open({str(plain)!r})
loaded.load()
thread = threading.Thread(target=obj.load, daemon=True)
thread.start()
inside.wait()
"""
    assert run_python(code, timeout=240).split() == ["inside"]


# ---------------------------------------------------------------- what callbacks keep


@bpf
def test_views_that_callbacks_keep(plain):
    kept = {}

    class Keeping(Recorder):
        def setup(self, program):
            kept["setup"] = program.insns
            kept["setup memory"] = memoryview(program.insns)

        def prepare_load(self, program, opts):
            kept["opts"] = opts
            kept["insns"] = program.insns
            kept["writable"] = program.view_insns(writable=True)
            kept["slice"] = kept["writable"][1:3]

    with pylbpf.open(plain, handlers=[Keeping("sample"), rest()]) as obj:
        early = bytes(kept["setup memory"])
        obj.load()
        assert bytes(kept["setup memory"]) == early == kept["setup"].tobytes()
        assert kept["insns"].tobytes() == obj.programs["on_sample"].insns.tobytes()
        for use in (lambda: kept["opts"].prog_flags, lambda: setattr(kept["opts"], "prog_flags", 0),
                    lambda: kept["opts"].func_info, lambda: setattr(kept["opts"], "attempts", 1)):
            with pytest.raises(ValueError, match="over"):
                use()
        for name in ("writable", "slice"):
            with pytest.raises(ValueError, match="lent"):
                kept[name][0]
            with pytest.raises(ValueError, match="lent"):
                memoryview(kept[name])


@bpf
def test_buffer_of_a_writable_view_that_is_kept(plain):
    kept = []

    class Keeping(Recorder):
        def prepare_load(self, program, opts):
            kept.append(memoryview(program.view_insns(writable=True)))

    with pylbpf.open(plain, handlers=[Keeping("sample"), rest()]) as obj:
        with pytest.raises(BufferError, match="kept beyond prepare_load") as caught:
            obj.load()
        assert "'on_sample'" in notes(caught.value)[0]
        assert obj.state is State.FAILED
        with pytest.raises(BufferError):
            obj.close()
        kept.pop().release()


@bpf
def test_buffer_of_a_plain_view_that_is_kept(plain):
    kept = []

    class Keeping(Recorder):
        def prepare_load(self, program, opts):
            kept.append(memoryview(program.insns))

    with pylbpf.open(plain, handlers=[Keeping("sample"), rest()]) as obj:
        obj.load()
        assert bytes(kept[0]) == obj.programs["on_sample"].insns.tobytes()
        with pytest.raises(BufferError):
            obj.close()
        assert obj.state is State.LOADED
        kept.pop().release()


@bpf
def test_options_passed_to_another_callback(plain):
    kept = []

    class Passing(Recorder):
        def prepare_load(self, program, opts):
            for old in kept:
                with pytest.raises(ValueError):
                    old.attempts
            kept.append(opts)

    with pylbpf.open(plain, handlers=[Passing(None)]) as obj:
        obj.load()
    assert len(kept) == 7
