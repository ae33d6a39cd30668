"""Views of instructions: sequences and buffers without a copy, and for how long they are good."""
from __future__ import annotations

import ctypes
import gc
import struct
import sys
import threading

import pytest

import objects
import pylbpf
from pylbpf import Insn

VERSION = pylbpf.libbpf_version()
numpy = pytest.importorskip("numpy")


@pytest.fixture
def obj(bpf_object):
    with pylbpf.open(bpf_object("subprogs")) as obj:
        yield obj


@pytest.fixture
def insns(obj):
    return obj.programs["first"].insns


def address(thing) -> int:
    return numpy.asarray(thing).__array_interface__["data"][0]


# ---------------------------------------------------------------- a sequence


def test_insns_are_a_sequence_of_insn(insns):
    raw = insns.tobytes()
    assert len(raw) == 8 * len(insns)
    expected = [Insn(*fields) for fields in struct.iter_unpack("=BBhi", raw)]
    assert list(insns) == expected
    assert [insns[at] for at in range(len(insns))] == expected
    assert insns[-1] == expected[-1] and insns[-len(insns)] == expected[0]
    assert expected[1] in insns and list(reversed(insns)) == expected[::-1]


def test_index_out_of_range(insns):
    for at in (len(insns), -len(insns) - 1, 1 << 62, 1 << 70):
        with pytest.raises(IndexError):
            insns[at]
    for wrong in ("0", None, 1.0, (0, 1)):
        with pytest.raises(TypeError):
            insns[wrong]
    with pytest.raises(ValueError):
        insns[::0]


def test_insn_splits_the_registers_by_byte_order():
    # A register copy r3 = r7.
    regs = 0x73 if sys.byteorder == "little" else 0x37
    insn = Insn(0xBF, regs, 0, 0)
    assert (insn.code, insn.dst, insn.src, insn.off, insn.imm) == (0xBF, 3, 7, 0, 0)
    assert repr(insn) == "Insn(code=0xbf, dst=3, src=7, off=0, imm=0)"


def test_insn_equality_and_hash():
    one, same, other = Insn(1, 2, 3, 4), Insn(1, 2, 3, 4), Insn(1, 2, 3, 5)
    assert one == same and hash(one) == hash(same) and one != other
    assert len({one, same, other}) == 2
    assert one != (1, 2, 3, 4)


@pytest.mark.parametrize("part", [
    slice(None), slice(1, None), slice(None, -1), slice(2, 5), slice(None, None, 2), slice(1, None, 3),
    slice(None, None, -1), slice(-2, 1, -2), slice(5, 5), slice(5, 2), slice(100, 200), slice(-100, 3),
], ids=str)
def test_slices_are_views(insns, part):
    expected = list(insns)[part]
    view = insns[part]
    assert isinstance(view, pylbpf.Insns)
    assert list(view) == expected and len(view) == len(expected)
    assert view.tobytes() == b"".join(struct.pack("=BBhi", i.code, i.regs, i.off, i.imm) for i in expected)
    array = numpy.asarray(view)
    assert array.shape == (len(expected),)
    assert array["code"].tolist() == [insn.code for insn in expected]
    if expected:
        assert numpy.shares_memory(array, numpy.asarray(insns))
    again = view[1:]
    assert list(again) == expected[1:]


def test_slices_of_slices(insns):
    expected = list(insns)
    assert list(insns[1:][::2][::-1][1:]) == expected[1:][::2][::-1][1:]
    assert insns[::-1][::-1] == insns


def test_views_are_equal_by_content_and_cannot_be_hashed(obj, insns):
    assert insns == obj.programs["first"].insns and insns is not obj.programs["first"].insns
    assert insns != obj.programs["second"].insns
    assert insns != insns[1:] and insns != list(insns) and insns != insns.tobytes()
    with pytest.raises(TypeError, match="unhashable"):
        hash(insns)
    assert repr(insns) == f"<Insns: {len(insns)} instructions>"


# ---------------------------------------------------------------- a buffer


def test_memoryview_has_the_format_of_struct_bpf_insn(insns):
    with memoryview(insns) as view:
        assert view.readonly and view.contiguous
        assert (view.itemsize, view.ndim, view.shape, view.strides) == (8, 1, (len(insns),), (8,))
        assert view.format == "T{B:code:B:regs:h:off:i:imm:}"
        assert view.nbytes == 8 * len(insns)
        assert bytes(view) == view.tobytes() == insns.tobytes()


def test_memoryview_of_a_step_keeps_the_step(insns):
    with memoryview(insns[::-2]) as view:
        assert view.strides == (-16,) and view.shape == (len(insns[::-2]),)
        assert not view.c_contiguous
    with pytest.raises(BufferError):
        struct.unpack_from("=B", insns[::2])  # wants plain bytes


def test_numpy_gives_a_structured_array(insns):
    array = numpy.asarray(insns)
    assert array.dtype.names == ("code", "regs", "off", "imm")
    assert [array.dtype[name].str.lstrip("|<>=") for name in array.dtype.names] == ["u1", "u1", "i2", "i4"]
    assert array.dtype.itemsize == 8 and array.shape == (len(insns),)
    for name in array.dtype.names:
        assert array[name].tolist() == [getattr(insn, name) for insn in insns]


def test_numpy_makes_no_copy(obj, insns):
    array = numpy.asarray(insns)
    assert address(insns) == address(obj.programs["first"].insns) == array.__array_interface__["data"][0]
    assert not array.flags.owndata
    base = array.base
    while isinstance(base, numpy.ndarray):
        base = base.base
    assert isinstance(base, memoryview) and base.obj is insns
    assert array["imm"].__array_interface__["data"][0] == address(insns) + 4
    assert address(insns[3:]) == address(insns) + 24


def test_views_are_read_only(insns):
    array = numpy.asarray(insns)
    assert not array.flags.writeable
    with pytest.raises(ValueError):
        array["imm"] = 1
    with pytest.raises(ValueError):
        array.flags.writeable = True
    with pytest.raises((TypeError, NotImplementedError)):
        memoryview(insns)[0] = 0
    with pytest.raises(TypeError):
        insns[0] = insns[1]
    with pytest.raises((BufferError, TypeError)):
        (ctypes.c_char * 8).from_buffer(insns)


def test_array_and_memoryview_keep_the_object(bpf_object):
    obj = pylbpf.open(bpf_object("subprogs"))
    expected = obj.programs["first"].insns.tobytes()
    array, view = numpy.asarray(obj.programs["first"].insns), memoryview(obj.programs["first"].insns)
    del obj
    gc.collect()
    assert array.tobytes() == view.tobytes() == expected


# ---------------------------------------------------------------- how long it is good


def test_close_with_a_view_exported_is_a_buffer_error(bpf_object):
    obj = pylbpf.open(bpf_object("subprogs"))
    expected = obj.programs["first"].insns.tobytes()
    view = memoryview(obj.programs["first"].insns)
    with pytest.raises(BufferError, match="cannot close subprogs.bpf.o: 1 views"):
        obj.close()
    array = numpy.asarray(obj.programs["second"].insns[1:])
    with pytest.raises(BufferError, match="2 views"):
        obj.close()
    assert not obj.closed and view.tobytes() == expected and obj.programs["first"].name == "first"
    view.release()
    del array
    obj.close()
    assert obj.closed


@pytest.mark.bpf
def test_load_with_a_view_exported_is_a_buffer_error(obj, insns):
    with memoryview(insns) as view:
        before = view.tobytes()
        with pytest.raises(BufferError, match="cannot load"):
            obj.load()
        assert obj.state is pylbpf.State.OPEN and view.tobytes() == before
    obj.load()
    assert obj.state is pylbpf.State.LOADED


def test_newer_c16_prepare_with_a_view_exported_is_a_buffer_error(obj, insns, requires_bpf):
    if VERSION < (1, 6):
        with pytest.raises(pylbpf.NotSupported):
            obj.prepare()
        return
    with memoryview(insns):
        with pytest.raises(BufferError, match="cannot prepare"):
            obj.prepare()
        assert obj.state is pylbpf.State.OPEN
    obj.prepare()


@pytest.mark.bpf
def test_a_view_from_before_load_is_stale_afterwards(obj, insns):
    part = insns[1:]
    obj.load()
    for use in (lambda: insns[0], insns.tobytes, lambda: memoryview(insns), lambda: list(insns), lambda: part[0],
                lambda: insns == insns, lambda: numpy.asarray(insns), insns.disassemble):
        with pytest.raises(ValueError, match="moved since this view was taken; subprogs.bpf.o is now loaded"):
            use()
    assert len(obj.programs["first"].insns) > len(insns)


@pytest.mark.bpf
def test_a_view_from_after_load_is_good_until_close(obj):
    obj.load()
    program = obj.programs["first"]
    view = program.insns
    before = view.tobytes()
    with obj.attach():
        program.unload()
        assert view.tobytes() == before
    program.unload()
    assert view[0] == program.insns[0]


def test_newer_instructions_are_final_once_prepared(obj, requires_bpf):
    """Load moves nothing any more: a view that was exported in between is no obstacle, and stays as it is."""
    if VERSION < (1, 6):
        obj.load()
    else:
        obj.prepare()
    view = obj.programs["first"].insns
    with memoryview(view) as memory:
        before, where = memory.tobytes(), address(view)
        if VERSION >= (1, 6):
            obj.load()
        assert memory.tobytes() == before and address(view) == where == address(obj.programs["first"].insns)
    assert view.tobytes() == before


@pytest.mark.bpf
def test_view_taken_by_another_thread_during_load_does_not_dangle():
    """Instructions move while the load is under way: nobody may get hold of where they were."""
    try:
        path = objects.build(objects.many(20, "raw_tp/task_rename", insns=3000, subprogram=True), "many_moving")
    except objects.bpfcc.CompilerMissing as error:
        pytest.skip(f"compiler: {error}")
    views, begun, taken = [], threading.Event(), threading.Event()

    with pylbpf.open(path) as obj:
        programs = list(obj.programs.values())

        def take():
            begun.wait(10)
            for program in programs:
                try:
                    views.append((program, memoryview(program.insns)))
                except (pylbpf.StateError, BufferError, ValueError):
                    pass
            taken.set()

        def on_line(level, line):
            if not begun.is_set():  # libbpf's first words of the load
                begun.set()
                taken.wait(0.3)     # but whoever waits for the load to end may do so

        thread = threading.Thread(target=take)
        thread.start()
        before = pylbpf.set_print(on_line, pylbpf.LogLevel.DEBUG)
        try:
            obj.load()
        except BufferError:
            pass
        finally:
            pylbpf.set_print(before)
            begun.set()
            thread.join()
        dangling = [program for program, view in views if address(view) != address(program.insns)]
        for _, view in views:
            view.release()
        assert not dangling


def test_view_taken_in_setup_is_a_copy_that_stays(bpf_object):
    views = []

    class Handler(pylbpf.ProgramHandler):
        section = "sample"

        def setup(self, program):
            views.append(program.insns)
            views.append(memoryview(program.insns))

    with pylbpf.open(bpf_object("handlers"), handlers=[Handler()]) as obj:
        expected = obj.programs["on_sample"].insns.tobytes()
        assert address(views[0]) != address(obj.programs["on_sample"].insns)
    gc.collect()
    assert views[0].tobytes() == views[1].tobytes() == expected
    assert views[0][0].code == expected[0]


def test_view_taken_in_setup_outlives_a_failed_open(bpf_object):
    views = []

    class Handler(pylbpf.ProgramHandler):
        section = "sample"

        def setup(self, program):
            views.append((program, program.insns))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pylbpf.open(bpf_object("handlers"), handlers=[Handler()])
    gc.collect()
    assert len(views[0][1].tobytes()) == 8 * len(views[0][1])
    with pytest.raises(ValueError, match="closed"):
        views[0][0].insns


def test_insns_cannot_be_pickled_and_insn_is_a_copy(insns):
    import copy
    import pickle
    with pytest.raises(TypeError):
        pickle.dumps(insns)
    with pytest.raises(TypeError):
        copy.copy(insns)
    first = insns[0]
    with pytest.raises(AttributeError):
        first.imm = 5
