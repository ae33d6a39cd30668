"""What libbpf does with handlers of custom sections, and what pylbpf keeps of it or makes better: one by one.

The names number the rules of libbpf that a handler's author relies on, from registration to the fallback slot.
"""
from __future__ import annotations

import ctypes
import errno
import os
import struct

import pytest

import kernel
import objects
import pylbpf
from handling import HIT, RAW, Recorder, libbpf, registered, rest, value
from pylbpf import AttachType, ProgramFlags, ProgramType, State

NOTHING = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
bpf = pytest.mark.bpf


@pytest.fixture
def plain(bpf_object):
    """Programs in sections that mean nothing to libbpf."""
    return bpf_object("handlers")


# ---------------------------------------------------------------- registration


def test_earliest_registration_wins(plain):
    first, second = Recorder("probe/"), Recorder("probe/one")
    with registered(first, second):
        assert pylbpf.handlers() == (first, second)
        pylbpf.open(plain).close()
        assert "probe_one" in first.names("setup") and second.calls == []
    with registered(second, first):
        first.calls.clear()
        pylbpf.open(plain).close()
        assert second.names("setup") == ["probe_one"] and "probe_one" not in first.names("setup")


def test_second_takes_over_when_the_first_goes(plain):
    first, second = Recorder("probe/one"), Recorder("probe/")
    with pylbpf.register(first) as registration, pylbpf.register(second):
        registration.unregister()
        pylbpf.open(plain).close()
        assert first.calls == [] and "probe_one" in second.names("setup")


def test_what_is_registered_is_copied(plain):
    """libbpf copies the fields; changing the handler afterwards changes nothing."""
    handler = Recorder("sample")
    with registered(handler):
        handler.section, handler.program_type = "eventful", ProgramType.XDP
        with pylbpf.open(plain) as obj:
            assert handler.names("setup") == ["on_sample"]
            assert obj.programs["on_sample"].type is RAW
            assert obj.programs["on_eventful"].type is ProgramType.UNSPEC


def test_there_is_no_last_number(plain):
    """libbpf counts ids up for ever; ours never reach libbpf."""
    for _ in range(3000):
        pylbpf.register(pylbpf.ProgramHandler(section="sample")).unregister()
    handler = Recorder("sample")
    with registered(handler):
        pylbpf.open(plain).close()
    assert handler.names("setup") == ["on_sample"]


# ---------------------------------------------------------------- search


def test_handlers_then_sections_of_libbpf_then_the_fallback(bpf_object):
    fallback, own = Recorder(None), Recorder("raw_tp/sys_enter")
    with registered(fallback, own):
        with pylbpf.open(bpf_object("override")) as obj:
            assert own.names("setup") == ["raw_tp_noisy"]
            assert fallback.calls == []
            assert obj.programs["raw_tp"].handler is None
            assert obj.programs["xdp"].type is ProgramType.XDP
        pylbpf.open(bpf_object("unknown")).close()
        assert fallback.names("setup") == ["nobody_knows"]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("sample", ["on_sample"]),
        ("probe/one", ["probe_one"]),
        ("probe/", ["probe_one", "probe_two", "probe_bare", "probe_off"]),
        ("probe", []),
        ("probe+", ["probe_one", "probe_two", "probe_bare", "probe_off"]),
        ("event+", ["on_event", "on_event_x"]),
        ("event", ["on_event"]),
        ("event/", ["on_event_x"]),
        ("even+", []),
        ("sampl", []),
        ("samples", []),
        ("no+", []),
        ("nobody/", ["nobody_knows"]),
        ("nobody/knows+", ["nobody_knows"]),
    ],
)
def test_forms_of_patterns(plain, pattern, expected):
    handler = Recorder(pattern)
    with pylbpf.open(plain, handlers=[handler]):
        assert handler.names("setup") == expected


def test_no_match_is_no_error_at_open(plain):
    with registered(Recorder("elsewhere")), pylbpf.open(plain) as obj:
        assert {program.type for program in obj.programs.values()} == {ProgramType.UNSPEC}


# ---------------------------------------------------------------- the fallback, and nobody


def test_one_fallback_unless_priorities_differ(plain):
    first = Recorder(None)
    with registered(first):
        with pytest.raises(pylbpf.HandlerExistsError) as caught:
            pylbpf.register(Recorder(None))
        assert caught.value.errno == errno.EEXIST
        # Better than libbpf, which has one slot: another priority, or one object's own.
        higher, own = Recorder(None, priority=1), Recorder(None, priority=1)
        with registered(higher):
            pylbpf.open(plain, handlers=[own]).close()
            assert len(own.names("setup")) == 9 and not higher.calls and not first.calls
            pylbpf.open(plain).close()
            assert len(higher.names("setup")) == 9 and not first.calls
    with registered(Recorder(None)):
        pass


def test_libbpf_gives_its_slot_to_nobody_else(plain):
    with registered(Recorder("sample")):
        assert libbpf().libbpf_register_prog_handler(None, 0, 0, None) == -errno.EBUSY
    assert libbpf().libbpf_register_prog_handler(None, 0, 0, None) == -errno.EBUSY


@bpf
def test_unmatched_program_opens_but_does_not_load(bpf_object):
    with pylbpf.open(bpf_object("unknown")) as obj:
        assert obj.programs["nobody_knows"].type is ProgramType.UNSPEC
        with pytest.raises(pylbpf.BpfError) as caught:
            obj.load()
        assert caught.value.errno == errno.EINVAL
        assert obj.state is State.FAILED


@bpf
def test_unmatched_program_may_be_given_a_type(bpf_object):
    with pylbpf.open(bpf_object("unknown")) as obj:
        obj.programs["nobody_knows"].type = RAW
        obj.load()
        assert obj.programs["nobody_knows"].fd >= 0


# ---------------------------------------------------------------- setup


@bpf
def test_question_mark_is_no_part_of_the_name(plain):
    class Loader(Recorder):
        def setup(self, program):
            super().setup(program)
            assert (program.section, program.autoload) == ("probe/off", False)
            program.autoload = True

    handler = Loader("probe/off")
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        obj.load()
        assert handler.calls == [("setup", "probe_off"), ("prepare_load", "probe_off")]
        assert obj.programs["probe_off"].fd >= 0
        assert obj.programs["nobody_knows"].fd == -1


def test_setup_is_never_called_for_subprograms():
    handler = Recorder("sub/")
    path = objects.build(objects.many(3, "sub/{i}", subprogram=True), "subs")
    with pylbpf.open(path, handlers=[handler]):
        assert handler.names("setup") == ["p0000", "p0001", "p0002"]


def test_setup_runs_in_order_of_the_file_before_relocation(plain):
    seen = []

    class Looking(Recorder):
        def setup(self, program):
            super().setup(program)
            seen.append((program.object, program.insns))

    handler = Looking(None)
    with pylbpf.open(plain, handlers=[handler]) as obj:
        assert handler.names("setup") == list(obj.programs)
        assert {owner for owner, _ in seen} == {None}
        assert obj.programs["on_sample"].object is obj
        # A pair that loads a map's address: no map is in it yet.
        loads = [insn for _, insns in seen for insn in insns if insn.code == 0x18]
        assert {insn.src for insn in loads} == {0}


def test_setup_sees_what_was_declared(plain):
    seen = []

    class Looking(Recorder):
        def setup(self, program):
            seen.append((program.type, program.expected_attach_type, program.flags, program.autoload))

    handler = Looking("sample", program_type=ProgramType.CGROUP_SOCK_ADDR, autoload=False,
                      expected_attach_type=AttachType.CGROUP_INET4_BIND, program_flags=ProgramFlags.STRICT_ALIGNMENT)
    pylbpf.open(plain, handlers=[handler]).close()
    assert seen == [(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_BIND, ProgramFlags.STRICT_ALIGNMENT, False)]


SETUP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_long)
PREPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)
ATTACH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_long, ctypes.POINTER(ctypes.c_void_p))


def test_negative_result_aborts_the_open(plain):
    with pytest.raises(pylbpf.BpfError) as caught:
        pylbpf.open(plain, handlers=[pylbpf.NativeHandler("sample", setup=SETUP(lambda *_: -errno.EBADMSG))])
    assert caught.value.errno == errno.EBADMSG


@pytest.mark.parametrize("result", [0, 1, 7, 2**31 - 1])
def test_any_other_result_is_success(plain, result):
    with pylbpf.open(plain, handlers=[pylbpf.NativeHandler("sample", setup=SETUP(lambda *_: result))]) as obj:
        assert obj.programs["on_sample"].handler is not None


# ---------------------------------------------------------------- prepare_load


@bpf
def test_once_for_each_program_with_final_instructions():
    maps = []
    sizes = {}

    class Looking(Recorder):
        def setup(self, program):
            sizes[program.name] = [program.insn_count]

        def prepare_load(self, program, opts):
            super().prepare_load(program, opts)
            sizes[program.name].append(len(program.insns))
            maps.extend(insn.imm for insn in program.insns if insn.code == 0x18 and insn.src == 1)

    handler = Looking("sub/")
    source = objects.many(3, "sub/{i}", subprogram=True, with_map=True)
    with pylbpf.open(objects.build(source, "final"), handlers=[handler]) as obj:
        obj.programs["p0001"].autoload = False
        obj.load()
        assert handler.names("prepare_load") == ["p0000", "p0002"]
        for name in ("p0000", "p0002"):
            before, final = sizes[name]
            assert final > before, "the sub-program was appended"
        assert maps == [obj.maps["counts"].fd] * 2


@bpf
def test_only_a_negative_result_is_an_error(plain):
    handler = pylbpf.NativeHandler(None, program_type=RAW, prepare_load=PREPARE(lambda *_: 7))
    with pylbpf.open(plain, handlers=[handler]) as obj:
        obj.load()
        assert obj.programs["on_sample"].fd >= 0


@bpf
def test_clone_takes_no_positive_result_for_a_descriptor(plain):
    handler = pylbpf.NativeHandler(None, program_type=RAW, prepare_load=PREPARE(lambda *_: 7))
    with pylbpf.open(plain, handlers=[handler]) as obj:
        if pylbpf.libbpf_version() < (1, 8):
            with pytest.raises(pylbpf.StateError):
                obj.programs["on_sample"].clone()
            return
        obj.prepare()
        fd = obj.programs["on_sample"].clone()
        assert "bpf-prog" in os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)


def load_with(path, change, **declared):
    """Load with one program whose options `change` may change; the object's programs are alive until it is closed."""

    class Changing(Recorder):
        def prepare_load(self, program, opts):
            change(program, opts)

    with pylbpf.open(path, handlers=[Changing("sample", **declared), rest()]) as obj:
        obj.load()
        return obj.programs["on_sample"].fd


@bpf
@pytest.mark.parametrize(
    "field, wrong",
    [
        ("attach_btf_id", 1),
        ("attach_btf_obj_fd", 9999),
        ("attach_prog_fd", 9999),
        ("prog_flags", 1 << 30),
        ("prog_ifindex", 1),
        ("prog_btf_fd", 9999),
        ("func_info", struct.pack("II", 5, 0xFFFFFF)),
        ("line_info", struct.pack("IIII", 9999, 1, 1, 1)),
    ],
)
def test_the_kernel_gets_what_the_callback_sets(plain, field, wrong):
    """A value that no kernel accepts: without it the same object loads."""
    assert load_with(plain, lambda program, opts: None) >= 0
    with pytest.raises(pylbpf.BpfError):
        load_with(plain, lambda program, opts: setattr(opts, field, wrong))


@bpf
def test_attach_type_for_this_load(plain):
    """Programs of cgroup socket addresses cannot be loaded without one."""
    declared = {"program_type": ProgramType.CGROUP_SOCK_ADDR}
    with pytest.raises(pylbpf.BpfError):
        load_with(plain, lambda program, opts: None, expected_attach_type=AttachType.CGROUP_DEVICE, **declared)

    def change(program, opts):
        assert opts.expected_attach_type is AttachType.CGROUP_DEVICE
        opts.expected_attach_type = AttachType.CGROUP_INET4_BIND

    assert load_with(plain, change, expected_attach_type=AttachType.CGROUP_DEVICE, **declared) >= 0


@bpf
@pytest.mark.parametrize("field, value", [("attempts", 1), ("kern_version", 0x60000), ("func_info", None),
                                          ("line_info", None), ("fd_array", [0]), ("fd_array", None)])
def test_harmless_changes(plain, field, value):
    assert load_with(plain, lambda program, opts: setattr(opts, field, value)) >= 0


@bpf
def test_attach_target_by_number(plain, requires_btf):
    """All that libbpf would look up for a tp_btf program, by hand and only in the options."""
    number = libbpf().libbpf_find_vmlinux_btf_id(HIT.encode(), int(AttachType.TRACE_RAW_TP))
    assert number > 0

    class Tracing(pylbpf.ProgramHandler):
        section = "sample"
        program_type = ProgramType.TRACING
        expected_attach_type = AttachType.TRACE_RAW_TP

        def prepare_load(self, program, opts):
            opts.attach_btf_id = number

        def attach(self, program):
            return program.attach_trace()

    with pylbpf.open(plain, handlers=[Tracing(), rest()]) as obj:
        obj.load()
        with obj.programs["on_sample"].attach():
            kernel.rename_task()
        assert value(obj.maps["hits"], 0) >= 1


@bpf
@pytest.mark.parametrize("field", ["log_level", "log_size", "log_buf"])
def test_log_fields_are_read_only_and_say_so(plain, field):
    def change(program, opts):
        with pytest.raises(AttributeError, match=f"{field} cannot be changed.*Program.log_level"):
            setattr(opts, field, 1)

    assert load_with(plain, change) >= 0


@bpf
def test_log_level_is_that_of_the_program_before_the_load(plain):
    class Late(Recorder):
        def prepare_load(self, program, opts):
            program.log_level = 2

    with pylbpf.open(plain, handlers=[Late("sample"), rest()]) as obj:
        obj.programs["probe_one"].log_level = 2
        obj.load()
        assert "processed" in obj.programs["probe_one"].log
        assert obj.programs["on_sample"].log == "", "libbpf had read it already"


@bpf
def test_setters_in_the_callback(plain):
    """The type counts for this load; flags, attach type and target were read before. None of them fails."""

    def change(program, opts):
        assert program.type is ProgramType.SOCKET_FILTER
        program.type = RAW
        program.flags = 1 << 30
        program.expected_attach_type = 4000
        assert (opts.prog_flags, opts.expected_attach_type) == (0, 0)

    class Changing(Recorder):
        def prepare_load(self, program, opts):
            change(program, opts)

    handler = Changing("sample", program_type=ProgramType.SOCKET_FILTER)
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        obj.load()
        with obj.programs["on_sample"].attach():    # a socket filter could not
            kernel.rename_task()
        assert value(obj.maps["hits"], 0) >= 1


@bpf
@pytest.mark.parametrize("replace", [False, True])
def test_set_insns_is_picked_up(plain, replace):
    class Replacing(Recorder):
        def prepare_load(self, program, opts):
            if replace:
                program.set_insns(NOTHING)
                assert program.insn_count == 2
                assert opts.func_info == opts.line_info == b""

    with pylbpf.open(plain, handlers=[Replacing("sample"), rest()]) as obj:
        obj.load()
        with obj.programs["on_sample"].attach():
            kernel.rename_task()
        assert (value(obj.maps["hits"], 0) > 0) is not replace


@bpf
def test_change_in_place_is_picked_up(plain):
    class Patching(Recorder):
        def prepare_load(self, program, opts):
            numpy = pytest.importorskip("numpy", reason="numpy: not installed")
            code = numpy.asarray(program.view_insns(writable=True))
            code[0], code[-1] = numpy.frombuffer(NOTHING, code.dtype)
            code[1:-1] = code[0]
            opts.func_info = opts.line_info = None

    with pylbpf.open(plain, handlers=[Patching("sample"), rest()]) as obj:
        obj.load()
        with obj.programs["on_sample"].attach():
            kernel.rename_task()
        assert value(obj.maps["hits"], 0) == 0


# ---------------------------------------------------------------- attach


@bpf
def test_without_attach_there_is_no_automatic_attach(plain):
    with pylbpf.open(plain, handlers=[rest()]) as obj:
        program = obj.programs["on_sample"]
        with pytest.raises(pylbpf.StateError) as early:
            program.attach()
        assert early.value.errno == errno.EINVAL
        obj.load()
        with pytest.raises(pylbpf.BpfError) as caught:
            program.attach()
        assert caught.value.errno == errno.EOPNOTSUPP
        links = obj.attach()
        assert len(links) == 0 and program in links.skipped


@bpf
@pytest.mark.parametrize("result, expected", [(-errno.EXDEV, errno.EXDEV), (3, errno.EINVAL), (-5000, errno.EINVAL)])
def test_any_result_but_zero_is_an_error(plain, result, expected):
    handler = pylbpf.NativeHandler("sample", program_type=RAW, attach=ATTACH(lambda *_: result))
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        obj.load()
        for attach in (obj.programs["on_sample"].attach, obj.attach):
            with pytest.raises(pylbpf.BpfError) as caught:
                attach()
            assert caught.value.errno == expected
        assert len(obj.links) == 0


@bpf
def test_zero_without_link_is_skipped_by_attach_all(plain):
    handler = pylbpf.NativeHandler("sample", program_type=RAW, attach=ATTACH(lambda *_: 0))
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        obj.load()
        with pytest.raises(pylbpf.BpfError) as caught:
            obj.programs["on_sample"].attach()
        assert caught.value.errno == errno.EOPNOTSUPP
        assert obj.programs["on_sample"] in obj.attach().skipped


@bpf
def test_program_that_was_not_loaded(plain):
    with pylbpf.open(plain, handlers=[Recorder(None)]) as obj:
        obj.load()
        with pytest.raises(pylbpf.StateError, match="was not loaded") as caught:
            obj.programs["probe_off"].attach()
        assert caught.value.errno == errno.EINVAL


# ---------------------------------------------------------------- types


@bpf
def test_another_type_keeps_the_handler(plain):
    """libbpf keeps that of the fallback only; ours are all there."""

    class Choosing(Recorder):
        def setup(self, program):
            super().setup(program)
            program.set_type(RAW)

    handler = Choosing("sample", program_type=ProgramType.XDP)
    with pylbpf.open(plain, handlers=[handler, rest()]) as obj:
        obj.load()
        obj.attach()
        assert handler.calls == [(kind, "on_sample") for kind in ("setup", "prepare_load", "attach")]


@pytest.mark.parametrize("type, kept", [(ProgramType.RAW_TRACEPOINT, True), (ProgramType.XDP, False)])
def test_override_says_that_it_would_be_dropped(bpf_object, type, kept):
    handler = pylbpf.ProgramHandler(section="raw_tp+")
    with pylbpf.open(bpf_object("override"), handlers=[handler]) as obj:
        program = obj.programs["raw_tp"]
        if kept:
            program.set_type(type)
            assert program.handler is handler
        else:
            with pytest.raises(ValueError, match="would drop"):
                program.set_type(type)
            assert (program.type, program.handler) == (RAW, handler)
            program.set_type(type, drop_handler=True)
            assert (program.type, program.handler) == (type, None)


@bpf
def test_native_setup_of_an_override_that_changes_the_type(bpf_object):
    """libbpf drops the callback of prepare_load then: that is an error, or the callback comes all the same."""
    library = libbpf()
    prepared = []
    change = SETUP(lambda program, cookie: library.bpf_program__set_type(program, int(ProgramType.KPROBE)))
    handler = pylbpf.NativeHandler(
        "raw_tp/task_rename", setup=change, prepare_load=PREPARE(lambda *_: prepared.append(1) or 0))
    try:
        with pylbpf.open(bpf_object("override"), handlers=[handler]) as obj:
            obj.load()
    except pylbpf.BpfError as error:
        assert error.errno == errno.EBUSY
    else:
        assert prepared == [1]


@bpf
def test_override_does_by_itself_what_it_replaces(bpf_object):
    """libbpf's own callbacks cannot be called; the flags, the attach type and the attach are made again."""
    names = ["raw_tp", "xdp_frags", "iter_sleepable"]
    handlers = [pylbpf.ProgramHandler(section=section) for section in ("raw_tp+", "xdp.frags", "iter.s+")]
    with pylbpf.open(bpf_object("override"), handlers=handlers) as obj:
        for program in obj.programs.values():
            program.autoload = program.name in names
        assert obj.programs["xdp_frags"].flags == ProgramFlags.XDP_HAS_FRAGS
        assert obj.programs["xdp_frags"].expected_attach_type is AttachType.XDP
        assert obj.programs["iter_sleepable"].flags == ProgramFlags.SLEEPABLE
        assert obj.programs["iter_sleepable"].expected_attach_type is AttachType.TRACE_ITER
        if kernel.no_btf():
            obj.programs["iter_sleepable"].autoload = False
        obj.load()
        links = obj.attach()
        kernel.rename_task()
        assert value(obj.maps["counts"], 0) >= 1
        assert [program.name for program in links.skipped] == ["xdp_frags"]


# ---------------------------------------------------------------- the rest


def test_queries_by_name_are_not_fooled_by_the_fallback():
    library = libbpf()
    kind, attach = ctypes.c_int(), ctypes.c_int()
    with registered(Recorder("sample", program_type=ProgramType.XDP, expected_attach_type=AttachType.XDP)):
        assert library.libbpf_prog_type_by_name(b"any/thing", ctypes.byref(kind), ctypes.byref(attach)) == 0
        assert kind.value == 0, "our fallback is the answer"
        assert pylbpf.section_info("any/thing") is None
        info = pylbpf.section_info("sample")
        assert (info.program_type, info.expected_attach_type) == (ProgramType.XDP, AttachType.XDP)
    assert pylbpf.section_info("sample") is None


@bpf
def test_btf_target_chosen_in_setup(plain, requires_btf):
    class Tracing(pylbpf.ProgramHandler):
        section = "sample"

        def setup(self, program):
            program.type = ProgramType.TRACING
            program.expected_attach_type = AttachType.TRACE_RAW_TP
            program.set_attach_target(HIT)

        def attach(self, program):
            return program.attach_trace()

    with pylbpf.open(plain, handlers=[Tracing(), rest()]) as obj:
        obj.load()
        with obj.programs["on_sample"].attach():
            kernel.rename_task()
        assert value(obj.maps["hits"], 0) >= 1


class GenLoader(ctypes.Structure):
    _fields_ = [("sz", ctypes.c_size_t), ("data", ctypes.c_void_p), ("insns", ctypes.c_void_p),
                ("data_sz", ctypes.c_uint32), ("insns_sz", ctypes.c_uint32)]


@bpf
def test_loader_generation_passes_through(bpf_object):
    """Somebody else's object: the callback does run there, and must find nothing to do."""
    library = libbpf()
    handler = Recorder(None)
    data = bpf_object("unknown").read_bytes()
    with registered(handler):
        obj = library.bpf_object__open_mem(data, len(data), None)
        assert obj
        try:
            generated = GenLoader(ctypes.sizeof(GenLoader))
            assert library.bpf_object__gen_loader(obj, ctypes.byref(generated)) == 0
            program = library.bpf_object__next_program(obj, None)
            assert library.bpf_program__set_type(program, int(RAW)) == 0
            assert library.bpf_object__load(obj) == 0
            assert generated.insns_sz > 0 and generated.data_sz > 0
        finally:
            library.bpf_object__close(obj)
        assert handler.calls == []


@bpf
def test_registrations_come_and_go_while_an_object_lives(plain):
    handlers = [Recorder("sample"), Recorder("probe/"), Recorder("event+"), Recorder("eventful")]
    registrations = [pylbpf.register(handler) for handler in handlers]
    try:
        with pylbpf.open(plain) as obj:
            for number in range(30):
                with registered(Recorder(f"other/{number}"), Recorder(f"sample/{number}")):
                    pass
            obj.load()
            for number in range(30):
                with registered(Recorder(f"other/{number}")):
                    pass
            obj.attach()
            kernel.rename_task()
            assert [handler.names("attach") for handler in handlers] == [
                ["on_sample"], ["probe_one", "probe_two", "probe_bare"], ["on_event", "on_event_x"], ["on_eventful"]]
            assert [value(obj.maps["hits"], slot) >= 1 for slot in range(9)] == [True] * 7 + [False] * 2
    finally:
        for registration in registrations:
            registration.unregister()
