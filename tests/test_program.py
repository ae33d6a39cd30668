"""Programs: what they tell, what can be set and when, and what they are loaded with."""
from __future__ import annotations

import errno
import os
import struct

import pytest

import objects
import pylbpf
from pylbpf import AttachType, ProgramFlags, ProgramType

VERSION = pylbpf.libbpf_version()


@pytest.fixture
def obj(bpf_object):
    with pylbpf.open(bpf_object("subprogs")) as obj:
        yield obj


@pytest.fixture
def program(obj):
    return obj.programs["first"]


def in_prepare_load(bpf_object, action, *, section="sample", **options):
    """Load one program of a custom section, with `action(program, opts)` as its prepare_load; return the results."""
    results = []

    class Handler(pylbpf.ProgramHandler):
        program_type = ProgramType.RAW_TRACEPOINT

        def prepare_load(self, program, opts):
            results.append(action(program, opts))

    with pylbpf.open(bpf_object("handlers"), handlers=[Handler(section=section)], **options) as obj:
        for program in obj.programs.values():
            program.autoload = program.section == section
        obj.load()
        assert obj.state is pylbpf.State.LOADED
    return results


# ---------------------------------------------------------------- what it tells


def test_a_program_tells_what_it_is(obj, program):
    assert program.name == "first" and program.section == "raw_tp/task_rename"
    assert program.type is ProgramType.RAW_TRACEPOINT
    assert program.expected_attach_type == 0 and program.flags == 0
    assert program.autoload and program.autoattach
    assert program.ifindex == 0 and program.log_level == 0 and program.log == "" and program.fd == -1
    assert program.object is obj and program.handler is None
    assert str(program) == "program 'first'"
    assert repr(program) == "<Program: first, section 'raw_tp/task_rename', RAW_TRACEPOINT>"


def test_section_is_told_without_the_question_mark(obj):
    program = obj.programs["with_callback"]
    assert program.section == "raw_tp/task_rename" and not program.autoload


def test_insn_count_is_the_length_of_the_view(program):
    assert program.insn_count == len(program.insns) > 2


@pytest.mark.bpf
def test_descriptor_exists_from_load_to_unload(obj, program):
    with pytest.raises(pylbpf.StateError, match="not loaded"):
        program.fileno()
    obj.load()
    assert program.fd == program.fileno() >= 3
    assert not os.get_inheritable(program.fd)
    with pytest.raises(pylbpf.StateError):
        obj.programs["with_callback"].fileno()
    program.unload()
    assert program.fd == -1
    with pytest.raises(pylbpf.StateError):
        program.attach()
    assert len(program.insns) == program.insn_count  # they stay


def test_unload_before_load_is_refused(program):
    with pytest.raises(pylbpf.StateError, match="must be loaded"):
        program.unload()


@pytest.mark.bpf
def test_unload_leaves_a_link_attached(obj, trigger):
    obj.load()
    with obj.programs["second"].attach():
        obj.programs["second"].unload()
        trigger()
        assert struct.unpack("=Q", obj.maps["counts"].lookup(struct.pack("=I", 2)))[0] >= 1


# ---------------------------------------------------------------- what can be set


def test_setters_are_read_back(program):
    program.type = ProgramType.KPROBE
    assert program.type is ProgramType.KPROBE
    program.set_type(ProgramType.XDP)
    assert program.type is ProgramType.XDP
    program.expected_attach_type = AttachType.XDP
    assert program.expected_attach_type is AttachType.XDP
    program.flags = ProgramFlags.XDP_HAS_FRAGS | ProgramFlags.STRICT_ALIGNMENT
    assert program.flags == ProgramFlags.XDP_HAS_FRAGS | ProgramFlags.STRICT_ALIGNMENT
    program.autoload = False
    program.autoattach = False
    assert not program.autoload and not program.autoattach
    program.log_level = 7
    assert program.log_level == 7
    program.ifindex = "lo"
    assert program.ifindex == 1
    program.ifindex = 0
    assert program.ifindex == 0


def test_numbers_that_the_enums_do_not_know_are_taken(program):
    program.expected_attach_type = 200
    assert program.expected_attach_type == 200 and program.expected_attach_type.name == "UNKNOWN_200"
    program.flags = 1 << 30
    assert program.flags == 1 << 30


@pytest.mark.bpf
@pytest.mark.parametrize("attribute, value", [
    ("type", ProgramType.KPROBE), ("expected_attach_type", 1), ("flags", 1), ("autoload", True), ("ifindex", 1),
    ("log_level", 1),
])
def test_setters_after_load_are_state_errors(obj, program, attribute, value):
    obj.load()
    before = getattr(program, attribute)
    with pytest.raises(pylbpf.StateError, match=f"{attribute} of program 'first'.*loaded"):
        setattr(program, attribute, value)
    assert getattr(program, attribute) == before


@pytest.mark.bpf
def test_autoattach_can_be_set_after_load_as_libbpf_has_it(obj, program):
    obj.load()
    program.autoattach = False
    assert len(obj.attach()) == 2


@pytest.mark.bpf
def test_autoload_chooses_what_is_loaded(obj, program):
    program.autoload = False
    obj.programs["with_callback"].autoload = True
    obj.load()
    assert {name: each.fd >= 0 for name, each in obj.programs.items()} == {
        "first": False, "second": True, "with_callback": True, "alone": True}
    with pytest.raises(pylbpf.StateError, match="autoload is off"):
        program.attach()


def test_newer_c22_autoload_after_prepare_is_refused(obj, program, requires_bpf):
    if VERSION < (1, 6):
        obj.load()
    else:
        obj.prepare()
    with pytest.raises(pylbpf.StateError, match="being opened or open"):
        program.autoload = False
    assert program.autoload


@pytest.mark.bpf
def test_flags_reach_the_kernel(bpf_object):
    """The kernel refuses flags that it does not know; that proves it has seen them."""
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.programs["on_task_rename"].flags = 1 << 30
        with pytest.raises(pylbpf.BpfError) as raised:
            obj.load()
        assert raised.value.errno == errno.EINVAL


# ---------------------------------------------------------------- verifier logs


@pytest.mark.bpf
def test_each_program_keeps_its_own_log(bpf_object):
    with pylbpf.open(bpf_object("subprogs"), log_level=1) as obj:
        obj.programs["second"].log_level = 0
        obj.load()
        assert "processed" in obj.programs["first"].log and "processed" in obj.programs["alone"].log
        assert obj.programs["first"].log != obj.programs["alone"].log
        assert obj.programs["second"].log == obj.programs["with_callback"].log == ""
        assert "larger" not in obj.programs["alone"].log     # in that of the other newer kernels name it


@pytest.mark.bpf
def test_log_of_success_only_where_asked_for(bpf_object):
    with pylbpf.open(bpf_object("subprogs")) as obj:
        obj.programs["first"].log_level = 4
        obj.load()
        assert "processed" in obj.programs["first"].log
        assert [each.log for each in obj.programs.values() if each.name != "first"] == ["", "", ""]


# ---------------------------------------------------------------- attach target


@pytest.mark.bpf
def test_attach_target_of_a_tracing_program(bpf_object, requires_btf):
    with pylbpf.open(bpf_object("core")) as obj:
        obj.programs["on_sched_switch"].set_attach_target("task_rename")
        obj.programs["on_sched_switch"].autoload = False
        obj.load()
    with pylbpf.open(bpf_object("core")) as obj:
        with pytest.raises(pylbpf.BpfError, match="there_is_no_such_thing"):
            obj.programs["on_sched_switch"].set_attach_target("there_is_no_such_thing")
        assert obj.state is pylbpf.State.OPEN
        # libbpf has looked through the types of all modules; it closes these when it loads, and only then.
        obj.programs["on_sched_switch"].autoload = False
        obj.load()


@pytest.mark.parametrize("wrong, error", [(True, TypeError), ("first", TypeError), (None, TypeError), (-1, ValueError), (1 << 70, ValueError)])
def test_attach_target_program_that_is_none(bpf_object, wrong, error):
    with pylbpf.open(bpf_object("core")) as obj:
        with pytest.raises(error, match="prog_fd"):
            obj.programs["on_sched_switch"].set_attach_target("first", prog_fd=wrong)


@pytest.mark.bpf
def test_attach_target_program_is_kept_until_load(bpf_object):
    """Its wrapper may be dropped, and its object with it, between set_attach_target() and load()."""
    with pylbpf.open(bpf_object("core")) as obj:
        target = pylbpf.open(bpf_object("subprogs"))
        target.load()
        fd = target.programs["first"].fd
        obj.programs["on_sched_switch"].type = ProgramType.EXT
        obj.programs["on_sched_switch"].expected_attach_type = 0
        obj.programs["on_sched_switch"].set_attach_target("first", prog_fd=target.programs["first"])
        del target
        assert "bpf-prog" in os.readlink(f"/proc/self/fd/{fd}")
        with pytest.raises(pylbpf.BpfError):
            obj.load()  # it has other arguments than what it would replace
        with pytest.raises(FileNotFoundError):
            os.readlink(f"/proc/self/fd/{fd}")


# ---------------------------------------------------------------- set_insns

RETURN_0 = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
PADDING = struct.pack("=BBhi", 0xB7, 0, 0, 0)


@pytest.mark.bpf
def test_set_insns_in_prepare_load(bpf_object, trigger):
    def replace(program, opts):
        program.set_insns(RETURN_0)
        return program.insns.tobytes(), program.insn_count

    assert in_prepare_load(bpf_object, replace) == [(RETURN_0, 2)]


@pytest.mark.bpf
def test_set_insns_of_its_own_view(bpf_object):
    def itself(program, opts):
        before = program.insns.tobytes()
        program.set_insns(program.insns)
        assert program.insns.tobytes() == before
        program.set_insns(program.insns[:])
        program.set_insns(program.insns[0:len(before) // 8:1])
        assert program.insns.tobytes() == before
        program.set_insns(program.insns[::-1])  # strided: copied in its own order
        assert program.insns.tobytes() == b"".join(before[at:at + 8] for at in range(len(before) - 8, -8, -8))
        program.set_insns(before)
        program.set_insns(RETURN_0)
        program.set_insns(program.insns[1:])  # a part
        assert program.insns.tobytes() == RETURN_0[8:]
        program.set_insns(RETURN_0)

    assert in_prepare_load(bpf_object, itself) == [None]


@pytest.mark.bpf
def test_set_insns_of_an_exported_view_of_itself(bpf_object):
    """The export keeps the memory where it is: BufferError, before anything moves."""
    def itself(program, opts):
        before = program.insns.tobytes()
        with memoryview(program.insns) as view:
            for argument in (view, view[1:], RETURN_0):
                with pytest.raises(BufferError):
                    program.set_insns(argument)
            assert view.tobytes() == before
        program.set_insns(before)

    assert in_prepare_load(bpf_object, itself) == [None]


@pytest.mark.bpf
def test_set_insns_leaves_views_of_other_programs_alone(bpf_object):
    def replace(program, opts):
        other = next(each for each in program.object.programs.values() if each != program)
        seen, mine = other.insns, program.insns
        before = seen.tobytes()
        with memoryview(seen) as view:
            program.set_insns(RETURN_0)
            assert view.tobytes() == before == seen.tobytes()
            with pytest.raises(ValueError, match="have moved"):
                mine.tobytes()
            with memoryview(program.insns), pytest.raises(BufferError, match=f"{program.name}.*: 1 views"):
                program.set_insns(RETURN_0)

    assert in_prepare_load(bpf_object, replace) == [None]


@pytest.mark.bpf
def test_set_insns_takes_arrays_of_any_kind(bpf_object):
    numpy = pytest.importorskip("numpy")
    import array

    def replace(program, opts):
        for argument in (RETURN_0, bytearray(RETURN_0), memoryview(RETURN_0), array.array("Q", RETURN_0),
                         numpy.frombuffer(RETURN_0, "u8"), numpy.asarray(program.insns).copy()):
            program.set_insns(argument)
            assert program.insns.tobytes() == memoryview(argument).tobytes()
        program.set_insns(RETURN_0)

    assert in_prepare_load(bpf_object, replace) == [None]


@pytest.mark.parametrize("phase", ["open", "loaded"])
def test_set_insns_outside_its_time_is_a_state_error(obj, program, phase, requires_bpf):
    if phase == "loaded":
        obj.load()
    before = program.insns.tobytes()
    with pytest.raises(pylbpf.StateError, match="must be prepared"):
        program.set_insns(RETURN_0)
    assert program.insns.tobytes() == before


def test_set_insns_in_setup_is_a_state_error(bpf_object):
    class Handler(pylbpf.ProgramHandler):
        section = "sample"

        def setup(self, program):
            program.set_insns(RETURN_0)

    with pytest.raises(pylbpf.StateError, match="set instructions"):
        pylbpf.open(bpf_object("handlers"), handlers=[Handler()])


@pytest.mark.bpf
def test_set_insns_of_another_program_in_prepare_load_is_a_state_error(bpf_object):
    def other(program, opts):
        if VERSION < (1, 6):
            with pytest.raises(pylbpf.StateError):
                program.object.programs["probe_one"].set_insns(RETURN_0)

    assert in_prepare_load(bpf_object, other) == [None]


@pytest.mark.bpf
@pytest.mark.parametrize("argument", [b"", bytes(7), bytes(9), bytes(8 * 1_000_001)],
                         ids=["none", "7", "9", "too many"])
def test_set_insns_takes_1_to_1_000_000(bpf_object, argument):
    def replace(program, opts):
        before = program.insns.tobytes()
        with pytest.raises(ValueError, match="1 to 1,000,000 instructions"):
            program.set_insns(argument)
        return program.insns.tobytes() == before

    assert in_prepare_load(bpf_object, replace) == [True]


@pytest.mark.bpf
def test_the_longest_is_taken_and_what_the_kernel_refuses_it_says(bpf_object):
    class Handler(pylbpf.ProgramHandler):
        section = "sample"
        program_type = ProgramType.RAW_TRACEPOINT

        def prepare_load(self, program, opts):
            program.set_insns(PADDING * 999_998 + RETURN_0)

    with pylbpf.open(bpf_object("handlers"), handlers=[Handler()]) as obj:
        for program in obj.programs.values():
            program.autoload = program.section == "sample"
        try:
            obj.load()
        except pylbpf.BpfError as error:
            assert error.errno in (errno.E2BIG, errno.EINVAL)
        assert obj.programs["on_sample"].insn_count == 1_000_000


@pytest.mark.bpf
def test_a_change_of_length_clears_func_and_line_info(bpf_object):
    def lengthen(program, opts):
        assert opts.func_info and opts.line_info
        program.set_insns(program.insns.tobytes())
        assert opts.func_info and opts.line_info  # as long as before
        program.set_insns(PADDING + RETURN_0)
        return opts.func_info, opts.line_info

    assert in_prepare_load(bpf_object, lengthen) == [(b"", b"")]


@pytest.mark.bpf
def test_writable_views_only_inside_prepare_load(bpf_object, program):
    with pytest.raises(pylbpf.StateError, match="only inside prepare_load"):
        program.view_insns(writable=True)
    kept = []

    def write(program, opts):
        before = program.insns.tobytes()
        view = program.view_insns(writable=True)
        kept.append(view)
        with memoryview(view) as memory:
            assert not memory.readonly and memory.nbytes == len(before)
            raw = memory.cast("B")
            raw[:] = PADDING * (len(before) // 8 - 2) + RETURN_0
            raw.release()
        return program.insns.tobytes() == PADDING * (len(before) // 8 - 2) + RETURN_0

    assert in_prepare_load(bpf_object, write) == [True]
    for use in (lambda: kept[0][0], lambda: memoryview(kept[0]), kept[0].tobytes, lambda: list(kept[0])):
        with pytest.raises(ValueError, match="prepare_load callback, which has returned|closed"):
            use()


@pytest.mark.bpf
@pytest.mark.parametrize("part", [slice(None), slice(1, None), slice(None, None, 2)], ids=str)
def test_a_buffer_of_a_writable_view_kept_beyond_prepare_load_fails_the_load(bpf_object, part):
    kept = []

    class Handler(pylbpf.ProgramHandler):
        section = "sample"
        program_type = ProgramType.RAW_TRACEPOINT

        def prepare_load(self, program, opts):
            kept.append(memoryview(program.view_insns(writable=True)[part]))

    with pylbpf.open(bpf_object("handlers"), handlers=[Handler()]) as obj:
        for program in obj.programs.values():
            program.autoload = program.section == "sample"
        with pytest.raises(BufferError, match="kept beyond prepare_load"):
            obj.load()
        assert obj.state is pylbpf.State.FAILED
        with pytest.raises(BufferError):
            obj.close()
        kept[0].release()


def test_newer_set_insns_when_prepared(obj, program, requires_bpf, trigger):
    if VERSION < (1, 6):
        with pytest.raises(pylbpf.StateError):
            program.set_insns(RETURN_0)
        return
    obj.prepare()
    final = program.insns.tobytes()
    program.set_insns(program.insns)
    assert program.insns.tobytes() == final
    stale = program.insns
    with memoryview(program.insns):
        with pytest.raises(BufferError):
            program.set_insns(final)
    alone = obj.programs["alone"]
    alone.set_insns(alone.insns)
    assert stale.tobytes() == final
    program.set_insns(final)
    with pytest.raises(ValueError, match="moved"):
        stale[0]
    obj.load()
    with obj.attach():
        trigger()
    with pytest.raises(pylbpf.StateError):
        program.set_insns(final)


# ---------------------------------------------------------------- func and line info, clone


def test_newer_func_info(obj, program, requires_bpf):
    if VERSION < (1, 6):
        with pytest.raises(pylbpf.NotSupported, match=r"bpf_program__func_info needs libbpf 1\.6"):
            program.func_info
        return
    assert program.func_info == ()  # made when the object is prepared
    obj.prepare()
    info = program.func_info
    assert isinstance(info, tuple) and isinstance(info[0], pylbpf.FuncInfo)
    assert info[0].insn_off == 0 and obj.btf.name(info[0].type_id) == "first"
    assert sorted(obj.btf.name(item.type_id) for item in info) == ["count", "first", "larger"]
    assert all(item.insn_off < program.insn_count for item in info)
    assert f"type_id={info[0].type_id}" in repr(info[0])


def test_newer_line_info(obj, program, requires_bpf):
    if VERSION < (1, 6):
        with pytest.raises(pylbpf.NotSupported, match=r"bpf_program__line_info needs libbpf 1\.6"):
            program.line_info
        return
    obj.prepare()
    info = program.line_info
    text = (objects.SOURCES / "subprogs.bpf.c").read_text().splitlines()
    known = 0
    for item in info:
        assert isinstance(item, pylbpf.LineInfo) and item.insn_off < program.insn_count
        if obj.btf.string(item.file_name_off).endswith("subprogs.bpf.c") and item.line:
            known += 1
            assert obj.btf.string(item.line_off).strip() == text[item.line - 1].strip()
    assert known > 3
    assert f"line={info[0].line}" in repr(info[0])


def test_newer_c24_clone_needs_a_prepared_object(obj, program, requires_bpf):
    with pytest.raises(pylbpf.StateError, match="must be prepared"):
        program.clone()
    if VERSION >= (1, 8):
        obj.prepare()
        fd = program.clone()
        assert "bpf-prog" in os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
    elif VERSION >= (1, 6):
        obj.prepare()
        with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.8"):
            program.clone()
    obj.load()
    with pytest.raises(pylbpf.StateError, match="must be prepared"):
        program.clone()


# ---------------------------------------------------------------- disassembly


@pytest.mark.bpf
def test_disassemble_shows_the_instructions_of_now(obj, program):
    before = program.disassemble()
    assert before.count("exit") >= 1 and "call" in before
    obj.load()
    after = program.disassemble()
    assert len(after.splitlines()) > len(before.splitlines())


@pytest.mark.bpf
def test_a_program_runs_what_was_set(bpf_object, trigger):
    """Instructions set in prepare_load are those that run: without them nothing is counted."""
    class Silent(pylbpf.ProgramHandler):
        section = "probe/"
        program_type = ProgramType.RAW_TRACEPOINT

        def prepare_load(self, program, opts):
            if program.section == "probe/one":
                program.set_insns(RETURN_0)

    with pylbpf.open(bpf_object("handlers"), handlers=[Silent()]) as obj:
        for program in obj.programs.values():
            program.autoload = program.section in ("probe/one", "probe/two")
        obj.load()
        with obj.programs["probe_one"].attach_raw_tracepoint("task_rename"), \
                obj.programs["probe_two"].attach_raw_tracepoint("task_rename"):
            trigger(3)
        hits = obj.maps["hits"]
        silent, loud = (struct.unpack("=Q", hits.lookup(struct.pack("=I", slot)))[0] for slot in (1, 2))
        assert silent == 0 and loud >= 3
