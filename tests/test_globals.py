"""Global variables: read and written by name, before and after load."""
from __future__ import annotations

import contextlib
import gc
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import objects
import pylbpf


@pytest.fixture
def obj(bpf_object):
    with pylbpf.open(bpf_object("variables")) as obj:
        yield obj


NUMBERS = {"u8": 1, "u16": 2, "u32": 3, "u64": 4, "s8": -1, "s16": -2, "s32": -3, "s64": -4, "on": True, "single": 0.5,
           "ratio": 2.25, "color": 5, "negative": -3, "wide": -5, "pointer": 0x1234, "limit": 10, "tuned": -5, "zeroed": 0,
           "hidden": 77}
INTEGERS = {"u8": (0, 255), "u16": (0, (1 << 16) - 1), "u32": (0, (1 << 32) - 1), "u64": (0, (1 << 64) - 1),
            "s8": (-128, 127), "s16": (-(1 << 15), (1 << 15) - 1), "s32": (-(1 << 31), (1 << 31) - 1),
            "s64": (-(1 << 63), (1 << 63) - 1), "wide": (-(1 << 127), (1 << 127) - 1)}


def test_numbers_are_what_the_source_says(obj):
    for name, value in NUMBERS.items():
        found = getattr(obj.globals, name)
        assert found == value and isinstance(found, type(value)), name
        assert obj.globals[name] == value
    assert obj.globals.color.name == "GREEN" and repr(obj.globals["negative"]) == "<negative.MINUS: -3>"


def test_names_are_listed(obj):
    names = dir(obj.globals)
    assert set(NUMBERS) <= set(names) and "run.calls" in names and "LINUX_KERNEL_VERSION" in names
    assert set(names) == set(obj.globals) and len(obj.globals) == len(names)
    assert "u8" in obj.globals and (".data", "u8") in obj.globals and "nothing" not in obj.globals
    assert "u8" in repr(obj.globals) and obj.globals is obj.globals


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_integers_go_round(bpf_objects, data):
    with pylbpf.open(bpf_objects["variables"]) as obj:
        for name, (least, most) in INTEGERS.items():
            value = data.draw(st.integers(least, most))
            setattr(obj.globals, name, value)
            assert obj.globals[name] == value
        for wrong in (least - 1, most + 1):
            with pytest.raises(ValueError):
                obj.globals.wide = wrong
        obj.globals.ratio = number = data.draw(st.floats(allow_nan=False))
        assert obj.globals.ratio == number


@pytest.mark.parametrize("name", INTEGERS)
def test_what_does_not_fit_is_refused(obj, name):
    least, most = INTEGERS[name]
    before = obj.globals[name]
    for value in (least, most, np.int64(3), True):
        setattr(obj.globals, name, value)
        assert obj.globals[name] == value
    setattr(obj.globals, name, before)
    for value in (least - 1, most + 1, 1 << 200):
        with pytest.raises(ValueError, match=f"'{name}'"):
            setattr(obj.globals, name, value)
    for value in (1.0, "1", None, b"1", [1]):
        if name == "wide" and value == b"1":
            continue
        with pytest.raises(TypeError, match=f"'{name}'"):
            setattr(obj.globals, name, value)
    assert obj.globals[name] == before


def test_wrong_types(obj):
    for name, value, error in (("on", 2, TypeError), ("on", "yes", TypeError), ("ratio", "1", TypeError),
                               ("ratio", None, TypeError), ("color", 1.5, TypeError), ("color", "GREN", ValueError),
                               ("color", 1 << 40, ValueError), ("text", 5, TypeError), ("text", "x" * 17, ValueError),
                               ("numbers", [1, 2], ValueError), ("numbers", 5, ValueError), ("numbers", ["a"] * 8, TypeError),
                               ("numbers", [-1] * 8, ValueError), ("numbers", [1.5] * 8, TypeError),
                               ("event", 5, TypeError), ("event", {"whne": 1}, ValueError), ("event", {"pid": -1}, ValueError),
                               ("event", b"short", ValueError), ("texts", ["a"], ValueError), ("bits", {"low": 9}, ValueError)):
        before = obj.globals[name]
        before = before.tobytes() if hasattr(before, "tobytes") else before
        with pytest.raises(error, match="'"):
            setattr(obj.globals, name, value)
        after = obj.globals[name]
        assert (after.tobytes() if hasattr(after, "tobytes") else after) == before, name
    with pytest.raises(ValueError, match="did you mean 'GREEN'"):
        obj.globals.color = "GREN"
    with pytest.raises(ValueError, match="did you mean 'when'"):
        obj.globals.event = {"whne": 1}


def test_numbers_of_arrays():
    """Large integers stay exact; what does not fit is refused and changes nothing."""
    text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#include <stdbool.h>\n" \
           "__u64 large[2]; bool flags[2]; float singles[2]; double doubles[2];\n" \
           'SEC("socket") int run(void *c) { return large[0] + flags[0]; }\nchar _license[] SEC("license") = "GPL";\n'
    with pylbpf.open(objects.build(text, "arrays_of_numbers")) as obj:
        for name, value in (("large", [(1 << 64) - 1, 1]), ("large", (np.uint64(1 << 63), np.int64(5))), ("flags", [0, 1]),
                            ("flags", [True, False]), ("flags", np.array([1, 0])), ("singles", [float("inf"), 0.5]),
                            ("doubles", [1e300, 1 << 70])):
            obj.globals[name] = value
            assert obj.globals[name].tolist() == list(value), name
        before = {name: obj.globals[name].tobytes() for name in ("large", "flags", "singles", "doubles")}
        for name, value in (("large", [1 << 64, 0]), ("large", [1 << 63, -1]), ("flags", [0, 2]), ("flags", [1 << 70, 0]),
                            ("singles", [0, 1e300]), ("singles", [1 << 200, 0]), ("doubles", [0, 1 << 2000])):
            with pytest.raises(ValueError, match=f"'{name}'"):
                obj.globals[name] = value
        for name, value in (("large", [1 << 63, 0.5]), ("large", [None, 0]), ("flags", [0.0, 1.0]), ("doubles", ["1", 0])):
            with pytest.raises(TypeError, match=f"'{name}'"):
                obj.globals[name] = value
        assert before == {name: obj.globals[name].tobytes() for name in before}


def test_floats_that_do_not_fit(obj):
    for name, value in (("single", 1e300), ("single", -1 << 130), ("ratio", 1 << 2000)):
        with pytest.raises(ValueError, match=f"'{name}'"):
            setattr(obj.globals, name, value)
    obj.globals.single = float("-inf")
    assert obj.globals.single == float("-inf") and obj.globals.ratio == 2.25


def test_structs_take_tuples(obj):
    names = [name for name in obj.globals.event.dtype.names if not name.startswith("bits@")]
    obj.globals.event = {"pid": 7, "comm": b"old"}
    values = tuple(obj.globals.event[name] for name in names)
    obj.globals.event = {"pid": 1, "comm": b""}
    obj.globals.events = [values, {"pid": 8}]
    obj.globals.event = values
    assert obj.globals.event["pid"] == 7 and obj.globals.events["pid"].tolist() == [7, 8]
    with pytest.raises(ValueError, match="has 13 fields"):
        obj.globals.event = values[1:]
    with pytest.raises(ValueError, match="'low' has"):
        obj.globals.bits = {"low": 1 << 80}


def test_unknown_names(obj):
    with pytest.raises(AttributeError, match="no global variable 'limt'; did you mean 'limit'"):
        obj.globals.limt
    with pytest.raises(AttributeError, match="did you mean 'limit'"):
        obj.globals.limt = 5
    with pytest.raises(KeyError, match="did you mean 'limit'"):
        obj.globals["limt"]
    with pytest.raises(KeyError):
        obj.globals["limt"] = 5
    with pytest.raises(KeyError):
        obj.globals[".bss", "limit"]
    for wrong in (5, None):
        with pytest.raises(TypeError):
            obj.globals[wrong]
    assert not hasattr(obj.globals, "keys") and obj.globals.__class__.__name__ == "Globals"
    with pytest.raises(TypeError):
        type(obj.globals)()


def test_a_name_in_several_sections(obj):
    twins = [key for key in ((".data.tuned", "twins"), (".data.hidden", "again.twins")) if key in obj.globals]
    assert twins
    text = 'int a __attribute__((section(".data.one"))) = 1; static volatile int b __attribute__((section(".data.one"))) = 3;\n' \
           'int __attribute__((section("socket"), used)) p(void *c) { return a + b; }\n' \
           'char _license[] __attribute__((section("license"), used)) = "GPL";\n'
    with pylbpf.open(objects.build(text, "several")) as other:
        assert other.globals[".data.one", "a"] == 1 and other.globals[".data.one", "b"] == 3


def test_enums_are_set_by_name_and_number(obj):
    obj.globals.color = "BLUE"
    assert obj.globals.color == 6 and obj.globals.color.name == "BLUE"
    obj.globals.color = 77
    assert obj.globals.color == 77
    obj.globals.negative = -1
    assert obj.globals.negative == -1


def test_text_is_bytes(obj):
    assert obj.globals.text == b"hello"
    for value, expected in (("Grüße", "Grüße".encode()), (b"\0a\0b\0\0", b"\0a\0b"), (b"x" * 16, b"x" * 16), ("", b"")):
        obj.globals.text = value
        assert obj.globals.text == expected
    assert obj.globals.texts.tolist() == [b"one", b"two"]
    obj.globals.texts = ["three", b"4"]
    assert obj.globals.texts.tolist() == [b"three", b"4"]


def test_arrays_are_live_views(obj):
    numbers = obj.globals.numbers
    assert numbers.dtype == np.dtype("u4") and numbers.tolist() == [1, 2, 3, 0, 0, 0, 0, 0]
    numbers[4] = 9
    assert obj.globals.numbers[4] == 9
    obj.globals.numbers = range(8)
    assert numbers.tolist() == list(range(8))
    obj.globals.grid[1, 1] = -7
    assert obj.globals.grid.tolist() == [[0, 0, 0], [0, -7, 0]]
    obj.globals.grid = np.arange(6).reshape(2, 3)
    assert obj.globals.grid[1, 2] == 5


def test_structs_are_live_records(obj):
    event = obj.globals.event
    assert event.when == 7 and event.version.minor == 2 and event["version"]["major"] == 1
    event.when = 8
    event.version.major = 3
    assert obj.globals.event.when == 8 and obj.globals.event.version.major == 3
    obj.globals.event = {"pid": 5, "comm": "init", "version": {"minor": 9}, "raw": [1, 2, 3, 4]}
    assert (event.pid, event.comm, event.version.minor, event.version.major) == (5, b"init", 9, 3)
    obj.globals.event = bytes(event.dtype.itemsize)
    assert event.when == 0 and not event.tobytes().strip(b"\0")
    obj.globals.events[1].pid = 6
    assert obj.globals.events.pid.tolist() == [0, 6]
    obj.globals.events = [{"pid": 1}, {"pid": 2}]
    assert obj.globals.events["pid"].tolist() == [1, 2]
    obj.globals.event = obj.globals.events[1]
    assert event.pid == 2


def test_bit_fields_and_unions(obj):
    bits = obj.globals.bits
    assert pylbpf.bit_field(bits, "low") == 5 and pylbpf.bit_field(bits, "negative") == -3
    pylbpf.set_bit_field(bits, "low", 2)
    assert pylbpf.bit_field(obj.globals.bits, "low") == 2
    obj.globals.bits = {"mid": 1000, "after": 7, "negative": -16}
    assert pylbpf.bit_field(bits, "mid") == 1000 and bits.after == 7 and pylbpf.bit_field(bits, "low") == 2
    number = obj.globals.number
    number.byte = 0xFF
    assert number.word == 0x010203FF or number.word == 0xFF020304
    assert number.halves.dtype.names == ("lo", "hi")


def test_custom_and_static_sections(obj):
    assert obj.globals.tuned == -5 and obj.globals.zeroed == 0 and obj.globals.table.tolist() == [1, 2]
    obj.globals.tuned = 6
    obj.globals.zeroed = 7
    obj.globals.table[1] = 8
    obj.globals["hidden"] = 9
    assert (obj.globals.tuned, obj.globals.zeroed, obj.globals.table[1], obj.globals.hidden) == (6, 7, 8, 9)
    assert obj.globals["run.calls"] == 0 and obj.globals[".bss", "run.calls"] == 0


# ---------------------------------------------------------------- in the kernel

@pytest.mark.bpf
def test_values_stay_over_a_load_and_are_shared_with_programs(obj, trigger):
    obj.globals.limit = 20
    obj.globals.s64 = 1000
    obj.globals.title = "yes"
    obj.globals.hidden = 1
    obj.load()
    assert (obj.globals.u8, obj.globals.s64, obj.globals.limit, obj.globals.hidden) == (1, 1000, 20, 1)
    with obj.programs["run"].attach():
        trigger()
    assert obj.globals.u8 != 1 and (obj.globals.u8 - 1) % 20 == 0 and obj.globals.s64 < 1000
    assert obj.globals.numbers[7] == obj.globals["run.calls"] > 0 and obj.globals.event.comm[:1] == b"y"
    obj.globals.u8 = 5
    obj.globals.hidden = 4
    assert obj.globals.u8 == 5 and obj.globals.hidden == 4


@pytest.mark.bpf
def test_views_are_of_what_programs_write(obj, trigger):
    obj.load()
    numbers, event = obj.globals.numbers, obj.globals.event
    with obj.programs["run"].attach():
        trigger()
    assert numbers[7] == obj.globals["run.calls"] > 0 and event.pid == obj.globals.LINUX_KERNEL_VERSION
    numbers[0] = 1234
    assert obj.globals.numbers[0] == 1234


@pytest.mark.bpf
def test_constants_are_read_only_once_loaded(obj):
    obj.load()
    assert obj.globals.limit == 10 and obj.globals.title == b"const" and obj.globals.fixed.b == 2
    assert obj.globals.table.tolist() == [1, 2]
    for name, value in (("limit", 1), ("title", "x"), ("table", [1, 2]), ("fixed", {"a": 1})):
        with pytest.raises(pylbpf.StateError, match="read-only: the object is loaded"):
            setattr(obj.globals, name, value)
    with pytest.raises(ValueError, match="read-only"):
        obj.globals.table[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        obj.globals.fixed.a = 5


@pytest.mark.bpf
def test_constants_are_read_only_once_prepared(obj):
    if pylbpf.libbpf_version() < (1, 6):
        pytest.skip("libbpf >= 1.6: to prepare")
    obj.prepare()
    obj.globals.u8 = 9
    with pytest.raises(pylbpf.StateError, match="read-only"):
        obj.globals.limit = 1
    obj.load()
    assert obj.globals.u8 == 9


@pytest.mark.bpf
def test_externs(obj):
    import platform
    with pytest.raises(pylbpf.StateError, match="known when the object is prepared or loaded"):
        obj.globals.LINUX_KERNEL_VERSION
    with pytest.raises(pylbpf.StateError):
        obj.globals.LINUX_KERNEL_VERSION = 5
    obj.load()
    major, minor = map(int, platform.release().split(".")[:2])
    assert obj.globals.LINUX_KERNEL_VERSION >> 8 == major << 8 | minor
    assert isinstance(obj.globals.CONFIG_BPF_SYSCALL, bool)
    with pytest.raises(pylbpf.StateError, match="read-only"):
        obj.globals.LINUX_KERNEL_VERSION = 5
    try:
        address = obj.globals.bpf_prog_put
    except PermissionError:
        pytest.skip("kernel addresses: hidden here")
    assert address == 0 or address > 1 << 32
    with pytest.raises(pylbpf.StateError, match="read-only"):
        obj.globals.bpf_prog_put = 1


@pytest.mark.bpf
def test_maps_that_cannot_be_mapped_are_read_and_written_as_elements(obj, trigger):
    """Where all variables of a section are static, libbpf does not ask for memory that can be mapped."""
    view = obj.globals.hidden_array
    view[0] = 5
    del view
    flags = [map.flags for map in obj.maps.values() if map.name.endswith(".data.hidden")][0]
    assert not flags & pylbpf.MapFlags.MMAPABLE
    obj.load()
    copy = obj.globals.hidden_array
    assert copy.tolist() == [5, 2] and not copy.flags.writeable
    obj.globals.hidden_array = [7, 8]
    obj.globals.hidden = 1 << 31
    assert obj.globals.hidden_array.tolist() == [7, 8] and obj.globals.hidden == 1 << 31


@pytest.mark.bpf
def test_a_map_that_was_there_before_is_what_is_seen(bpf_object):
    """libbpf leaves its own copy as it was: what counts is the map."""
    with pylbpf.open(bpf_object("variables")) as first, pylbpf.open(bpf_object("variables")) as second:
        first.load()
        first.globals.u32 = 4242
        for name in (".data", ".bss", ".rodata"):
            mine, other = ([map for map in obj.maps.values() if map.name.endswith(name)][0] for obj in (first, second))
            other.reuse_fd(mine)
        second.globals.u32 = 7
        second.load()
        assert second.globals.u32 == 4242
        second.globals.u32 = 4343
        second.globals.numbers[1] = 99
        assert first.globals.u32 == 4343 and first.globals.numbers[1] == 99


@pytest.mark.bpf
def test_a_map_of_another_program_is_seen_with_our_types():
    """It brings its name and the numbers of its types, which mean nothing here."""
    text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n{}__u32 x; __s32 y;\n" \
           'SEC("socket") int run(void *c) {{ return x + y; }}\nchar _license[] SEC("license") = "GPL";\n'
    more = "struct more { int a; } first; struct most { struct more more[2]; } second;\n"
    small, large = objects.build(text.format("int rest[3];"), "small"), objects.build(text.format(more), "large")
    for one, other in ((small, large), (large, small)):
        with pylbpf.open(one) as first, pylbpf.open(other) as second:
            first.load()
            mine, theirs = ([map for map in obj.maps.values() if map.name.endswith(".bss")][0] for obj in (first, second))
            theirs.reuse_fd(mine)
            assert set(second.globals) == {"x", "y", *(("first", "second") if other == large else ("rest",))}
            assert (".bss", "x") in second.globals


@pytest.mark.bpf
def test_a_map_that_is_not_made(obj):
    for map in obj.maps.values():
        if map.name.endswith(".data.sums"):
            map.autocreate = False
    obj.programs["run"].autoload = False
    assert obj.globals.sums.tolist() == [0, 0, 0, 0]
    obj.load()
    with pytest.raises(pylbpf.StateError, match="no map of it"):
        obj.globals.sums


@pytest.mark.bpf
def test_after_a_failed_load(bpf_object):
    text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nint value = 5;\n" \
           'SEC("socket") int wrong(void *c) { return *(int *)((long)value); }\nchar _license[] SEC("license") = "GPL";\n'
    with pylbpf.open(objects.build(text, "failing")) as obj:
        assert obj.globals.value == 5
        with pytest.raises(pylbpf.VerifierError):
            obj.load()
        for use in (lambda: obj.globals.value, lambda: setattr(obj.globals, "value", 6)):
            with pytest.raises(pylbpf.StateError, match="no map of it|read-only"):
                use()


# ---------------------------------------------------------------- views in the way

def views(obj):
    return (lambda: obj.globals.numbers, lambda: obj.globals.event, lambda: obj.globals.event.version,
            lambda: obj.globals.events.pid, lambda: obj.globals.numbers[2:4], lambda: obj.globals.events[1])


@pytest.mark.parametrize("which", range(6))
def test_a_view_keeps_its_object_open(obj, which):
    view = views(obj)[which]()
    for use in (obj.close, obj.load):
        with pytest.raises(BufferError, match="views of its maps' memory are in use"):
            use()
    view = None         # noqa: F841
    gc.collect()
    obj.close()
    with pytest.raises(ValueError, match="closed"):
        obj.globals


@pytest.mark.bpf
def test_a_view_keeps_a_loaded_object_open(obj):
    obj.load()
    view = obj.globals.numbers
    with pytest.raises(BufferError):
        obj.close()
    with pytest.raises(BufferError):
        obj.detach_fds()
    view[1] = 5
    del view
    obj.close()


def test_a_view_outlives_every_name_of_its_object(bpf_object):
    obj = pylbpf.open(bpf_object("variables"))
    numbers, variables = obj.globals.numbers, obj.globals
    del obj
    gc.collect()
    numbers[1] = 77
    assert variables.numbers[1] == 77
    del variables
    gc.collect()
    assert numbers[1] == 77


def test_variables_of_a_closed_object(obj):
    variables = obj.globals
    obj.close()
    for use in (lambda: variables.u8, lambda: setattr(variables, "u8", 1), lambda: variables.numbers,
                lambda: setattr(variables, "event", {"pid": 1}), lambda: variables.text, lambda: variables.color,
                lambda: variables.bpf_prog_put):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert "u8" in dir(variables)


def test_closing_while_a_value_is_converted(obj):
    class Closer:
        def __index__(self):
            obj.close()
            return 1

        def __float__(self):
            obj.close()
            return 1.0

    with pytest.raises(ValueError, match="closed"):
        obj.globals.u32 = Closer()
    with pytest.raises(ValueError, match="closed"):
        obj.globals.u8 = Closer()


@pytest.mark.bpf
def test_a_view_moves_with_a_resized_section(obj):
    sums = [map for map in obj.maps.values() if map.name.endswith(".data.sums")][0]
    if pylbpf.libbpf_version() < (1, 3):
        pytest.skip("libbpf >= 1.3: to resize data")
    view = obj.globals.sums
    with pytest.raises(BufferError):
        sums.value_size = 4 * 4000
    del view
    obj.globals.sums = [1, 2, 3, 4]
    sums.value_size = 4 * 4000
    assert obj.globals.sums.shape == (4000,) and obj.globals.sums[:4].tolist() == [1, 2, 3, 4]
    obj.globals.sums[3999] = 5
    obj.load()
    assert obj.globals.sums[3999] == 5


@pytest.mark.bpf
def test_a_forked_child_may_not_use_them(obj):
    obj.load()
    variables = obj.globals
    child = os.fork()
    if child == 0:
        try:
            variables.u8
        except pylbpf.StateError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.bpf
def test_other_threads_wait_for_a_load(bpf_object):
    """Reading while another thread loads is either before or after, never in between."""
    for _ in range(5):
        with pylbpf.open(bpf_object("variables")) as obj:
            obj.globals.u32 = 55
            wrong, done = [], threading.Event()

            def read():
                while not done.is_set():
                    if obj.globals.u32 != 55 or obj.globals.text != b"hello":
                        wrong.append(1)

            threads = [threading.Thread(target=read) for _ in range(2)]
            for thread in threads:
                thread.start()
            obj.load()
            done.set()
            for thread in threads:
                thread.join()
            assert not wrong


@pytest.mark.bpf
def test_callbacks_see_variables(bpf_object):
    seen = []

    class Handler(pylbpf.ProgramHandler):
        section = "raw_tp/"
        override = True

        def prepare_load(self, program, opts):
            variables = program.object.globals
            seen.append((variables.u32, variables.limit))
            with pytest.raises(pylbpf.StateError, match="read-only"):
                variables.limit = 5
            variables.u32 = 8

    with pylbpf.open(bpf_object("variables"), handlers=[Handler()]) as obj:
        if (1, 4) <= pylbpf.libbpf_version() < (1, 6):      # these tell descriptors of maps when the load has ended
            with pytest.raises(pylbpf.StateError, match="no map of it in the kernel"):
                obj.load()
            return
        obj.load()
        assert seen[0] == (3, 10) and obj.globals.u32 == 8


def test_an_object_without_types(bpf_object, tmp_path):
    from test_btf import strip_btf
    with pylbpf.open(strip_btf(bpf_object("isa"), tmp_path)) as obj, pytest.raises(ValueError, match="no BTF"):
        obj.globals


def test_no_cycle_is_made(bpf_object):
    import weakref
    gc.disable()
    try:
        obj = pylbpf.open(bpf_object("variables"))
        obj.globals.u8, obj.globals.color, obj.globals.event
        alive = weakref.ref(obj)
        del obj
        assert alive() is None
    finally:
        gc.enable()


def test_numbers_and_text_need_no_numpy(bpf_object):
    import subprocess
    import sys
    code = f"import sys, pylbpf\nwith pylbpf.open({str(bpf_object('variables'))!r}) as obj:\n" \
           "    obj.globals.u8 += 1; obj.globals.text = obj.globals.text + b'!'; obj.globals.on = False; obj.globals.color\n" \
           "    sys.exit('numpy' in sys.modules or 'ctypes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---------------------------------------------------------------- in arenas

ARENA = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define __arena __attribute__((address_space(1)))
struct {
	__uint(type, 33);
	__uint(map_flags, (1 << 10)%s);
	__uint(max_entries, 10);
} arena SEC(".maps");
struct pair { int a; long b; };
int __arena counter = 7;
struct pair __arena pairs[3] = {{1, 2}, {3, 4}};
char __arena large[5000];
__u64 plain = 9;
SEC("syscall") int count(void *ctx)
{
	/* Which arena they are in, for the verifier. */
	void __arena *where = (void __arena *)&arena;
	asm volatile("" :: "r"(where));
	counter += 1;
	pairs[1].b += counter;
	return counter + plain;
}
char _license[] SEC("license") = "GPL";
"""


def open_arena(flags=""):
    if pylbpf.libbpf_version() < (1, 4):
        pytest.skip("libbpf >= 1.4: arenas with variables")
    obj = pylbpf.open(objects.build(ARENA % flags, "in_arena"))
    return obj


def load_arena(obj):
    try:
        obj.load()
    except pylbpf.BpfError as error:
        if isinstance(error, pylbpf.StateError):
            raise
        pytest.skip(f"map ARENA: this kernel makes none ({error.strerror})")


def test_variables_in_an_arena():
    with open_arena() as obj:
        assert obj.globals.counter == 7 and obj.globals[".addr_space.1", "counter"] == 7 and obj.globals.plain == 9
        assert {"counter", "pairs", "large"} <= set(dir(obj.globals))
        obj.globals.counter = 40
        obj.globals.pairs["a"][2] = 5
        load_arena(obj)
        assert obj.globals.counter == 40 and obj.globals.pairs.tolist() == [(1, 2), (3, 4), (5, 0)]
        assert obj.programs["count"].test_run().retval == 50
        assert obj.globals.counter == 41 and obj.globals.pairs[1]["b"] == 45
        obj.globals.counter = 1
        assert obj.programs["count"].test_run().retval == 11
        pairs = obj.globals.pairs
        pairs["b"][1] = 100
        assert obj.programs["count"].test_run().retval == 12
        assert pairs[1].tolist() == (3, 103)
        with pytest.raises(BufferError):
            obj.close()             # which would take the memory away
        del pairs
        gc.collect()
        globals = obj.globals
    for use in (lambda: globals.counter, lambda: globals.pairs, lambda: setattr(globals, "counter", 1)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_variables_of_an_arena_that_was_there_before():
    with open_arena() as first, open_arena() as second:
        load_arena(first)
        second.maps["arena"].reuse_fd(first.maps["arena"].fileno())
        load_arena(second)
        with pytest.raises(pylbpf.StateError, match="was there before"):
            second.globals.counter
        second.close()


def test_an_arena_that_kills_who_writes_its_variables_is_not_loaded():
    with open_arena("|(1 << 17)") as obj, pytest.raises(pylbpf.StateError, match="SEGV_ON_FAULT"):
        load_arena(obj)


# ---------------------------------------------------------------- structs

SHADOWS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum mode { OFF, ALL = 7 };
struct inner { __u32 size; __u8 flags; };
struct event { __u16 size; __u32 flags; __u64 data; enum mode mode; char name[8]; struct inner shape; struct inner T[2]; };
struct event event = {.size = 11, .flags = 12, .data = 13, .shape = {14, 15}, .T = {{16, 17}, {18, 19}}};
struct event events[2];
SEC("socket") int use(void *ctx) { return event.size + events[1].size; }
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture
def shadows(requires_bpf):
    with pylbpf.open(objects.build(SHADOWS, "shadows")) as obj:
        obj.load()
        yield obj.globals


def test_members_come_before_what_numpy_has_of_that_name(shadows):
    event = shadows.event
    assert (event.size, event.flags, event.data, event["size"]) == (11, 12, 13, 11)
    assert (event.shape.size, event.shape.flags, event.T[1].size, event.T["size"].tolist()) == (14, 15, 18, [16, 18])
    event.size, event.shape.size, event.T[1].flags = 21, 24, 29
    assert (shadows.event.size, shadows.event.shape.size, shadows.event["T"]["flags"].tolist()) == (21, 24, [17, 29])
    shadows.events[1].size = 5
    assert shadows.events["size"].tolist() == [0, 5] and shadows.events[1].size == 5
    assert {"size", "shape"} <= set(dir(event)) and "21" in repr(event)


def test_members_take_what_fits(shadows):
    event = shadows.event
    for name, value, error in (("size", 70000, ValueError), ("size", -1, ValueError), ("size", 80.9, TypeError),
                               ("size", "81", TypeError), ("size", np.int64(-1), ValueError), ("name", "x" * 9, ValueError),
                               ("mode", "SOME", ValueError), ("shape", {"sise": 1}, ValueError), ("shape", 5, TypeError)):
        with pytest.raises(error, match=name):
            setattr(event, name, value)
        with pytest.raises(error, match=name):
            event[name] = value
        with pytest.raises(error, match=name):
            shadows.event = {name: value}
    with pytest.raises(AttributeError, match="did you mean 'size'"):
        event.sise = 1
    with pytest.raises(KeyError, match="did you mean 'size'"):
        event["sise"] = 1
    assert event.size == 11
    event.mode, event.name, event.shape = "ALL", "web", {"flags": 3}
    assert (shadows.event.mode, shadows.event.name, shadows.event.shape.tolist()) == (7, b"web", (14, 3))
    event.T = [(1, 2), (3, 4)]
    assert shadows.event.T.tolist() == [(1, 2), (3, 4)]


def test_names_that_can_be_asked_for(obj):
    for name in obj.globals:
        with contextlib.suppress(pylbpf.StateError, PermissionError):   # known after load; the kernel may hide addresses
            obj.globals[name]
        assert name in obj.globals
