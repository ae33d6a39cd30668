"""Memory of maps as buffers, how long it lives, and what it forbids."""
from __future__ import annotations

import ctypes
import gc
import mmap

import pytest

import pylbpf
from test_fork import in_child
from pylbpf import Map, MapFlags, MapType

pytestmark = pytest.mark.bpf
numpy = pytest.importorskip("numpy")


def array(value="u8", entries=8, flags=MapFlags.MMAPABLE) -> Map:
    return Map.create(MapType.ARRAY, key="u4", value=value, max_entries=entries, flags=flags)


def test_memory_and_elements_are_the_same():
    with array() as map, map.view() as view:
        numbers = view.array()
        assert numbers.dtype == "u8" and numbers.shape == (8,) and not view.readonly
        numbers[3] = 99
        map[4] = 77
        assert map[3] == 99 and numbers[4] == 77 and list(map.values()) == numbers.tolist()
        assert view.nbytes == len(view) == mmap.PAGESIZE and memoryview(view)[24] == 99
        del numbers


def test_values_are_rounded_up_to_8_bytes():
    for value, put, shown in (("u2", 513, 513), ([("a", "u4"), ("b", "u8"), ("c", "u1")], (1, 2, 3), (1, 2, 3)),
                              ("S5", "abc", b"abc")):
        with array(value) as map, map.view() as view:
            map[2] = put
            elements = view.array()
            assert elements.shape == (8,) and elements[2].item() == shown and elements[1] == numpy.zeros((), elements.dtype)
            del elements


def test_a_view_of_an_object_s_map_outlives_it(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        numbers = obj.maps["mmapable"].view().array()
        obj.maps["mmapable"][1] = 5
    gc.collect()
    assert numbers[1] == 5
    numbers[1] = 6


def test_closing_while_a_buffer_is_in_use_is_a_buffer_error():
    with array() as map:
        view = map.view()
        buffer = memoryview(view)
        with pytest.raises(BufferError, match="1 buffers"):
            view.close()
        buffer.release()
        numbers = view.array()
        with pytest.raises(BufferError):
            view.close()
        del numbers
        map.close()  # the memory stays
        assert bytes(memoryview(view)[:8]) == bytes(8)
        view.close(), view.close()
        assert view.closed and "closed" in repr(view)
        for use in (view.array, lambda: memoryview(view), view.__enter__):
            with pytest.raises((ValueError, BufferError)):
                use()


def test_a_view_keeps_the_memory_as_long_as_its_arrays():
    numbers = array().view().array()
    gc.collect()
    numbers[:] = 7
    assert numbers.sum() == 56


def test_frozen_maps_give_views_for_reading():
    with array() as map:
        with map.view() as view:
            with pytest.raises(pylbpf.BpfError):
                map.freeze()  # somebody could write
        map.freeze()
        with map.view() as view:
            assert view.readonly and "read-only" in repr(view) and memoryview(view).readonly
            with pytest.raises(ValueError):
                view.array()[0] = 1


def test_a_map_opened_for_reading_cannot_be_mapped(bpffs):
    with array() as map:
        map.pin(bpffs / "array")
        if pylbpf.libbpf_version() < (1, 2):
            pytest.skip("libbpf >= 1.2: to open a pin for reading")
        with Map.open_pinned(bpffs / "array", flags=MapFlags.RDONLY) as reader:
            with pytest.raises(PermissionError, match="opened for reading"):
                reader.view()


def test_what_has_no_memory_is_refused(bpf_object):
    with array(flags=0) as map, pytest.raises(TypeError, match="MMAPABLE"):
        map.view()
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        for name in ("hash", "percpu_array", "queue", "ringbuf", "prog_array", "lpm_trie"):
            with pytest.raises(TypeError, match="no memory"):
                obj.maps[name].view()


def test_variables_can_be_seen_before_the_load_which_must_wait(bpf_object):
    with pylbpf.open(bpf_object("globals")) as obj:
        map = obj.maps[".data.tuned"]
        with map.view() as view:
            assert len(view) == map.value_size and not view.readonly
            for use in (obj.load, obj.close):
                with pytest.raises(BufferError):
                    use()
            if pylbpf.libbpf_version() >= (1, 3):
                with pytest.raises(BufferError):
                    map.value_size = 1000
            buffer = memoryview(view)
            buffer[0] = 42
            buffer.release()
        obj.load()
        assert map.raw[0][0] == 42


def test_a_map_without_memory_before_the_load_has_no_view_then(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        with pytest.raises(pylbpf.StateError, match="does not exist in the kernel"):
            obj.maps["mmapable"].view()


def test_maps_of_variables_are_not_resized_where_libbpf_cannot(bpf_object):
    with pylbpf.open(bpf_object("globals")) as obj:
        map = obj.maps[".data.tuned"]
        if pylbpf.libbpf_version() < (1, 3):
            with pytest.raises(pylbpf.NotSupported, match="1.3"):
                map.value_size = 1 << 20
        else:
            map.value_size = 1 << 20
            assert map.value_size == 1 << 20
        with pytest.raises(ValueError, match="has one entry"):
            map.max_entries = 100


@pytest.mark.parametrize("value", ["(3,)u2", "(2,2)u4", (ctypes.c_uint32 * 2) * 3, numpy.dtype(("(2,)u4", 3))])
def test_values_that_are_arrays(value):
    with array(value) as map, map.view() as view:
        elements = view.array()
        whole = numpy.arange(elements[1].size, dtype=elements.dtype).reshape(elements.shape[1:])
        map[1] = whole
        assert (elements[1] == whole).all() and not elements[0].any() and not elements[2].any()
        elements[2] = whole + 1
        assert (map[2] == whole + 1).all() and (map.to_numpy()[1] == elements).all()
        del elements


# ---------------------------------------------------------------- arenas


@pytest.fixture
def arena():
    try:
        map = Map.create(MapType.ARENA, max_entries=4, flags=MapFlags.MMAPABLE, name="arena")
    except pylbpf.BpfError as error:
        pytest.skip(f"map ARENA: this kernel makes none ({error.strerror})")
    with map:
        yield map


def test_an_arena_is_memory(arena):
    with arena.view() as view:
        assert len(view) == 4 * mmap.PAGESIZE
        pages = view.array()
        pages[::mmap.PAGESIZE] = 5
        assert pages.sum() == 20
        assert arena.view() is view  # there is one in a process
        del pages
    with arena.view() as again:
        assert again is not view and again.array()[0] == 5


def test_an_arena_has_one_view_however_it_was_found(arena):
    with arena.view() as view, Map.from_fd(arena) as other:
        view.array()[:3] = (1, 2, 3)
        assert other.view() is view
    with Map.from_fd(arena) as other, other.view() as again:      # at the same address: programs have pointers into it
        assert again is not view and again.array()[:3].tolist() == [1, 2, 3]


def load_with_arena(obj: pylbpf.Object) -> Map:
    """Load an object one map of which is an arena."""
    map = obj.maps["hash"]
    map.type, map.flags, map.key_size, map.value_size, map.max_entries = MapType.ARENA, MapFlags.MMAPABLE, 0, 0, 2
    for program in obj.programs.values():
        program.autoload = False
    try:
        obj.load()
    except pylbpf.BpfError as error:
        pytest.skip(f"map ARENA: this kernel makes none ({error.strerror})")
    return map


def test_the_arena_of_an_object_has_one_view(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        map = load_with_arena(obj)
        for number in range(3):
            with map.view() as first, map.view() as second:
                first.array()[-1] = number
                assert second.array()[-1] == number


def place(address, length):
    """Have memory there, which others must leave alone, if the place is free."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    return libc.mmap(address, length, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000, -1, 0) == address   # NOREPLACE


def test_a_forked_child_has_zeros_for_an_arena(arena):
    """The kernel gives it none, and what came to its place would be unmapped with the view."""
    view = arena.view()
    pages = view.array()
    pages[7] = 9

    def child():
        nonlocal view, pages
        assert not place(pages.ctypes.data, len(pages)) and pages[7] == 0
        for use in (view.array, lambda: memoryview(view), arena.view):
            with pytest.raises(pylbpf.StateError):
                use()
        del pages
        view.close()

    in_child(child)
    assert pages[7] == 9
    del pages
    view.close()


def test_a_forked_child_may_drop_an_object_with_an_arena(bpf_object):
    obj = pylbpf.open(bpf_object("maps"))
    map = load_with_arena(obj)
    with map.view() as view:
        address, length = view.array().ctypes.data, len(view)

    def child():
        if pylbpf.libbpf_version() >= (1, 4):       # which maps it
            assert not place(address, length)
        obj.close()
        assert place(address, length)

    in_child(child)
    with map.view() as view:
        assert view.array()[0] == 0
    obj.close()


def test_an_arena_has_no_elements(arena):
    with pytest.raises(TypeError, match="has no keys"):
        arena[0]


def test_an_arena_that_kills_is_refused():
    try:
        map = Map.create(MapType.ARENA, max_entries=4, flags=MapFlags.MMAPABLE | MapFlags.SEGV_ON_FAULT)
    except pylbpf.BpfError as error:
        pytest.skip(f"map ARENA: this kernel makes none ({error.strerror})")
    with map, pytest.raises(TypeError, match="SEGV_ON_FAULT"):
        map.view()


def test_an_arena_of_an_object_never_covers_memory_of_the_process(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        room = mmap.mmap(-1, 16 * mmap.PAGESIZE)
        at = ctypes.addressof(ctypes.c_char.from_buffer(room))
        map = obj.maps["hash"]
        map.type, map.key_size, map.value_size, map.max_entries = MapType.ARENA, 0, 0, 4
        map.flags, map.map_extra = MapFlags.MMAPABLE, at
        with pytest.raises(pylbpf.StateError, match=f"arena 'hash' is to be at {at:#x}"):
            obj.load()
        assert obj.state.name == "OPEN"


# ---------------------------------------------------------------- what the kernel tells


def test_info_is_what_the_kernel_tells(bpf_object):
    with array() as map:
        info = map.info()
        assert (info.type, info.key_size, info.value_size, info.max_entries) == (MapType.ARRAY, 4, 8, 8)
        assert info.flags == MapFlags.MMAPABLE and info.id > 0 and map.fdinfo()["frozen"] == "0"
        map.freeze()
        assert map.fdinfo()["frozen"] == "1" and map.fdinfo()["map_id"] == str(info.id)
        with Map.from_id(info.id) as same:
            assert same.info().id == info.id
    with pylbpf.open(bpf_object("maps")) as obj:
        with pytest.raises(pylbpf.StateError):
            obj.maps["hash"].info()
        obj.load()
        assert obj.maps["hash"].info().btf_key_type_id > 0
