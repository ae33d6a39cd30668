"""Objects: what they are opened from, their phases, and what they hold."""
from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import objects
import pylbpf
from handling import count_this_process

VERSION = pylbpf.libbpf_version()
ZERO = bytes(4)


def u64(map: pylbpf.Map, slot: int = 0) -> int:
    return struct.unpack("=Q", map.lookup(struct.pack("=I", slot)))[0]


# ---------------------------------------------------------------- open


def sources(path: Path):
    data = path.read_bytes()
    with open(path, "rb") as file:
        yield "str", str(path)
        yield "PathLike", path
        yield "bytes", data
        yield "bytearray", bytearray(data)
        yield "memoryview", memoryview(b"x" + data)[1:]
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            yield "mmap", mapped


def test_opens_paths_and_anything_bytes_like(bpf_object):
    for kind, source in sources(bpf_object("task_rename")):
        with pylbpf.open(source) as obj:
            assert list(obj.programs) == ["on_task_rename"], kind
            assert {"counts", "events"} < set(obj.maps), kind


def test_bytes_are_not_needed_after_open(bpf_object):
    data = bytearray(bpf_object("task_rename").read_bytes())
    with pylbpf.open(data) as obj:
        before = obj.programs["on_task_rename"].insns.tobytes()
        data[:] = bytes(len(data))
        data.append(0)  # no export is held
        assert obj.programs["on_task_rename"].insns.tobytes() == before
        assert obj.maps["counts"].max_entries == 1


def test_file_is_not_kept_open(bpf_object, tmp_path):
    path = tmp_path / "copy.bpf.o"
    path.write_bytes(bpf_object("empty").read_bytes())
    with pylbpf.open(path) as obj:
        assert not [fd for fd in os.listdir("/proc/self/fd") if same_file(fd, path)]
        os.truncate(path, 0)
        assert obj.maps["table"].max_entries == 8


def same_file(fd: str, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}") == str(path)
    return False


def test_name_is_that_of_the_file_up_to_the_first_dot(bpf_object):
    with pylbpf.open(bpf_object("empty")) as obj:
        assert obj.name == "empty"
        assert "empty.bpf.o" in repr(obj)


def test_name_can_be_given(bpf_object):
    with pylbpf.open(bpf_object("task_rename").read_bytes(), name="given") as obj:
        assert obj.name == "given"
        assert "given.bss" in obj.maps


def test_objects_are_made_by_open_only():
    for cls in (pylbpf.Object, pylbpf.Program, pylbpf.Map, pylbpf.Link, pylbpf.Btf, pylbpf.Insns):
        with pytest.raises(TypeError, match=r"made by|come from|comes from"):
            cls()


def test_kconfig_given_overrides_the_kernels(bpf_object):
    text = "CONFIG_BPF_SYSCALL=y\nCONFIG_PYLBPF_NOT_THERE=7\n"
    with pylbpf.open(bpf_object("kconfig"), kconfig=text) as obj:
        assert ".kconfig" in obj.maps or any(name.endswith(".kconfig") for name in obj.maps)


@pytest.mark.bpf
def test_kconfig_reaches_the_program(bpf_object, trigger):
    with pylbpf.open(bpf_object("kconfig"), kconfig="CONFIG_BPF_SYSCALL=y\nCONFIG_PYLBPF_NOT_THERE=77\n") as obj:
        obj.load()
        bss = next(map for name, map in obj.maps.items() if name.endswith(".bss"))
        with obj.attach():
            trigger()
            values = struct.unpack(f"={bss.value_size // 4}I", bss.lookup(ZERO))
    assert 77 in values and 1 in values


@pytest.mark.bpf
def test_bad_kconfig_value_is_an_error_that_names_it(bpf_object):
    with pytest.raises(pylbpf.BpfError) as raised:
        with pylbpf.open(bpf_object("kconfig"), kconfig="CONFIG_PYLBPF_NOT_THERE=rubbish\n") as obj:
            obj.load()
    assert "CONFIG_PYLBPF_NOT_THERE" in raised.value.log


@pytest.mark.bpf
def test_btf_custom_path_is_what_types_are_found_in(bpf_object, requires_btf, tmp_path):
    with pylbpf.open(bpf_object("core"), btf_custom_path="/sys/kernel/btf/vmlinux") as obj:
        obj.load()
        assert obj.state == pylbpf.State.LOADED
    rubbish = tmp_path / "rubbish.btf"
    rubbish.write_bytes(b"no types in here")
    with pylbpf.open(bpf_object("core"), btf_custom_path=rubbish) as obj:
        with pytest.raises(pylbpf.BpfError):
            obj.load()


@pytest.mark.bpf
def test_pin_root_path_is_where_pinned_maps_are_shared(bpf_object, bpffs):
    with pylbpf.open(bpf_object("pinned"), pin_root_path=bpffs) as one:
        assert one.maps["shared"].pin_path == f"{bpffs}/shared"
        one.load()
        one.maps["shared"].update(ZERO, struct.pack("=Q", 42))
        with pylbpf.open(bpf_object("pinned"), pin_root_path=bpffs) as two:
            two.load()
            assert u64(two.maps["shared"]) == 42
    assert (bpffs / "shared").exists()


def test_log_level_is_that_of_every_program(bpf_object):
    with pylbpf.open(bpf_object("subprogs"), log_level=2) as obj:
        assert [program.log_level for program in obj.programs.values()] == [2] * len(obj.programs)
    for level, error in ((-1, ValueError), (8, ValueError), (1 << 40, ValueError), (True, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="log_level"):
            pylbpf.open(bpf_object("subprogs"), log_level=level)


def test_relaxed_maps_ignores_what_it_does_not_know():
    source = """
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, int); __type(value, int);
                 __uint(of_the_future, 1); } strange SEC(".maps");
        char _license[] SEC("license") = "GPL";
    """
    path = build(source, "strange")
    with pytest.raises(pylbpf.BpfError) as raised:
        pylbpf.open(path)
    assert "of_the_future" in str(raised.value)
    with pylbpf.open(path, relaxed_maps=True) as obj:
        assert obj.maps["strange"].max_entries == 1


def build(source: str, name: str) -> Path:
    try:
        return objects.build(source, name)
    except objects.bpfcc.CompilerMissing as error:
        pytest.skip(f"compiler: {error}")


def test_newer_token_path(bpf_object, bpffs):
    """A BPF file system that delegates nothing makes no token."""
    if VERSION < (1, 4):
        with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.4"):
            pylbpf.open(bpf_object("empty"), token_path=bpffs)
    else:
        with pytest.raises(pylbpf.BpfError, match="token"):
            with pylbpf.open(bpf_object("empty"), token_path=bpffs) as obj:
                obj.load()


# ---------------------------------------------------------------- what is in it


def test_programs_and_maps_are_mappings_in_the_order_of_the_file(bpf_object):
    with pylbpf.open(bpf_object("handlers")) as obj:
        names = list(obj.programs)
        assert names == ["on_sample", "probe_one", "probe_two", "probe_bare", "on_event", "on_event_x", "on_eventful",
                         "probe_off", "nobody_knows"]
        assert len(obj.programs) == len(names)
        assert [program.name for program in obj.programs.values()] == names
        assert [name for name, program in obj.programs.items() if program == obj.programs[name]] == names
        assert list(obj.maps)[:3] == ["hits", "seen", "events"]
        assert len(obj.maps) == len(list(obj.maps)) == len(list(obj.maps.values()))
        assert "on_sample" in obj.programs and "on_sample" not in obj.maps
        assert obj.programs.get("nothing") is None and obj.maps.get("nothing", 3) == 3


def test_sections_whose_names_libbpf_cuts_can_be_had(bpf_object):
    with pylbpf.open(bpf_object("variables")) as obj:
        names = list(obj.maps)
        long = [map for map in obj.maps.values() if map.name == ".bss.long_name_"]
        assert names.count(".bss.long_name_") == len(long) == 2 and long[0] != long[1]
        assert obj.maps[".bss.long_name_"] == long[0] and ".bss.long_name_" in obj.maps
        assert {long[0], long[1]} == {obj.maps[".bss.long_name_of_one"], obj.maps[".bss.long_name_of_two"]}
        assert [(name, map.name) for name, map in obj.maps.items()] == list(zip(names, names))
        assert len(obj.maps.values()) == len(names) and all(map in obj.maps.values() for map in long)
        assert ("x", long[0]) not in obj.maps.items() and (long[0].name, long[0]) in obj.maps.items()
        assert obj.globals.long_one == 0 and obj.globals.long_two == 0
        obj.globals.long_two = 2
        assert (obj.globals.long_one, obj.globals.long_two) == (0, 2)


def test_unknown_name_is_a_key_error_with_a_hint(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        with pytest.raises(KeyError, match="did you mean 'on_task_rename'"):
            obj.programs["on_task_renam"]
        with pytest.raises(KeyError, match="did you mean 'counts'"):
            obj.maps["count"]


@pytest.mark.parametrize("name", ["", "a\0b", "counts\0", "\udcff", "\ud800", "x" * 100000, 5, None, b"counts", ()])
def test_any_other_key_is_a_key_error(bpf_object, name):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        for mapping in (obj.programs, obj.maps):
            with pytest.raises(KeyError):
                mapping[name]
            assert name not in mapping


def test_wrappers_are_made_when_asked_for():
    path = build(objects.many(200), "many200")
    gc.collect()
    before = sum(isinstance(thing, pylbpf.Program) for thing in gc.get_objects())
    with pylbpf.open(path) as obj:
        assert sum(isinstance(thing, pylbpf.Program) for thing in gc.get_objects()) == before
        assert len(obj.programs) == 200
        assert sum(isinstance(thing, pylbpf.Program) for thing in gc.get_objects()) == before


def test_programs_and_maps_of_one_name_are_equal_and_of_other_objects_not(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as one, pylbpf.open(bpf_object("task_rename")) as two:
        for kind in ("programs", "maps"):
            for name in getattr(one, kind):
                first, again, other = getattr(one, kind)[name], getattr(one, kind)[name], getattr(two, kind)[name]
                assert first is not again and first == again and hash(first) == hash(again)
                assert first != other and len({first, again, other}) == 2
                assert first != name and first != None  # noqa: E711


def test_program_of_a_closed_object_is_not_one_of_another_that_took_its_place(bpf_object):
    old = []
    for _ in range(20):
        with pylbpf.open(bpf_object("task_rename")) as obj:
            program, map = obj.programs["on_task_rename"], obj.maps["counts"]
            assert program not in [each[0] for each in old] and map not in [each[1] for each in old]
            old.append((program, map))


def test_object_without_programs_loads_and_attaches_nothing(bpf_object, requires_bpf):
    with pylbpf.open(bpf_object("empty")) as obj:
        assert list(obj.programs) == []
        obj.load()
        assert len(obj.attach()) == 0


def test_kernel_version_is_kept(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.kernel_version = 0x050400
        assert obj.kernel_version == 0x050400


# ---------------------------------------------------------------- phases


@pytest.mark.bpf
def test_states_follow_each_other(bpf_object):
    obj = pylbpf.open(bpf_object("task_rename"))
    assert obj.state is pylbpf.State.OPEN and not obj.closed
    obj.load()
    assert obj.state is pylbpf.State.LOADED
    obj.close()
    assert obj.state is pylbpf.State.CLOSED and obj.closed


@pytest.mark.bpf
def test_second_load_is_refused(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        with pytest.raises(pylbpf.StateError, match="loaded, it must be open or prepared") as raised:
            obj.load()
        assert raised.value.errno == errno.EINVAL
        assert obj.state == pylbpf.State.LOADED and obj.programs["on_task_rename"].fd >= 0


def test_attach_before_load_is_refused(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        with pytest.raises(pylbpf.StateError, match="open, it must be loaded"):
            obj.attach()
        assert list(obj.links) == []


@pytest.mark.bpf
def test_failed_load_ends_in_failed_with_names_and_logs(bpf_object):
    with pylbpf.open(bpf_object("rejected")) as obj:
        with pytest.raises(pylbpf.VerifierError):
            obj.load()
        assert obj.state is pylbpf.State.FAILED
        assert list(obj.programs) == ["careful", "careless"]
        assert "map_value_or_null" in obj.programs["careless"].log
        assert obj.programs["careful"].fd == obj.maps["values"].fd == -1
        for refused in (obj.load, obj.attach, obj.programs["careful"].attach, obj.maps["values"].next_key):
            with pytest.raises(pylbpf.StateError):
                refused()
        with pytest.raises(pylbpf.StateError):
            obj.programs["careful"].autoload = False


@pytest.mark.bpf
def test_reopen_is_the_way_on_from_failed(bpf_object):
    with pylbpf.open(bpf_object("rejected"), name="again", log_level=1) as obj:
        with pytest.raises(pylbpf.VerifierError):
            obj.load()
        with obj.reopen() as again:
            assert again.name == "again" and again.programs["careful"].log_level == 1
            again.programs["careless"].autoload = False
            again.load()
            assert again.state is pylbpf.State.LOADED


def test_reopen_keeps_source_and_handlers(bpf_object):
    seen = []

    class Handler(pylbpf.ProgramHandler):
        section = "sample"

        def setup(self, program):
            seen.append(program.name)

    data = bytearray(bpf_object("handlers").read_bytes())
    with pylbpf.open(data, handlers=(handler for handler in [Handler()])) as obj:
        data.clear()
        with obj.reopen() as again:
            assert list(again.programs) == list(obj.programs)
    assert seen == ["on_sample", "on_sample"]


def test_newer_prepare(bpf_object, requires_bpf):
    with pylbpf.open(bpf_object("subprogs")) as obj:
        before = obj.programs["first"].insn_count
        if VERSION < (1, 6):
            with pytest.raises(pylbpf.NotSupported, match=r"bpf_object__prepare needs libbpf 1\.6"):
                obj.prepare()
            assert obj.state is pylbpf.State.OPEN
        else:
            obj.prepare()
            assert obj.state is pylbpf.State.PREPARED
            assert obj.maps["counts"].fd >= 0 and obj.programs["first"].fd == -1
            obj.maps["counts"].update(ZERO, bytes(8))
            assert obj.programs["first"].insn_count > before
            with pytest.raises(pylbpf.StateError, match="prepared, it must be open"):
                obj.prepare()
            with pytest.raises(pylbpf.StateError):
                obj.attach()
        obj.load()
        assert obj.state is pylbpf.State.LOADED and obj.programs["first"].fd >= 0


def test_newer_c28_failed_prepare_ends_in_failed(bpf_object, requires_bpf):
    with pylbpf.open(bpf_object("empty")) as obj:
        obj.maps["table"].max_entries = 0
        attempt = obj.load if VERSION < (1, 6) else obj.prepare
        with pytest.raises(pylbpf.BpfError):
            attempt()
        assert obj.state is pylbpf.State.FAILED
        with pytest.raises(pylbpf.StateError):
            obj.load()


def test_newer_token_fd(bpf_object):
    with pylbpf.open(bpf_object("empty")) as obj:
        if VERSION < (1, 5):
            with pytest.raises(pylbpf.NotSupported, match=r"bpf_object__token_fd needs libbpf 1\.5"):
                obj.token_fd
        else:
            assert obj.token_fd <= 0


def test_what_newer_libbpf_has_works_there():
    """The tests named newer, with the library that PYLBPF_NEWER_LIBBPF points to."""
    if VERSION >= (1, 7):
        assert hasattr(pylbpf.Object, "prepare")  # this very run shows it
        return
    folder = os.environ.get("PYLBPF_NEWER_LIBBPF")
    if not folder:
        pytest.skip("newer libbpf: PYLBPF_NEWER_LIBBPF names none")
    here = Path(__file__).parent
    files = [str(here / f"test_{room}.py") for room in ("object", "program", "insns", "map", "attach")]
    found = os.pathsep.join(filter(None, [folder, os.environ.get("LD_LIBRARY_PATH")]))
    command = [sys.executable, "-c", "import pylbpf; print(*pylbpf.libbpf_version())"]
    environment = {**os.environ, "LD_LIBRARY_PATH": found}
    running = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert tuple(map(int, running.split())) >= (1, 7), running
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "newer and not works_there", *files],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout


# ---------------------------------------------------------------- attach


@pytest.mark.bpf
def test_attach_attaches_all_and_the_object_keeps_the_links(bpf_object, trigger):
    with pylbpf.open(bpf_object("subprogs")) as obj:
        obj.load()
        links = obj.attach()
        assert len(links) == len(obj.links) == 3 and list(links.skipped) == []
        del links
        gc.collect()
        trigger(2)
        counts = obj.maps["counts"]
        assert [u64(counts, slot) >= 2 for slot in range(4)] == [True, True, True, False]
        obj.links.close()
        before = u64(counts, 0)
        trigger()
        assert u64(counts, 0) == before
        assert list(obj.links) == []


@pytest.mark.bpf
def test_attach_lists_what_has_no_automatic_attach(bpf_object):
    with pylbpf.open(bpf_object("network")) as obj:
        obj.load()
        links = obj.attach()
        assert len(links) == 0
        assert [program.name for program in links.skipped] == ["on_socket", "on_tc", "on_message"]


@pytest.mark.bpf
def test_autoattach_off_is_not_attached(bpf_object, trigger):
    with pylbpf.open(bpf_object("subprogs")) as obj:
        obj.programs["first"].autoattach = False
        obj.load()
        with obj.attach() as links:
            assert len(links) == 2
            trigger()
            assert [u64(obj.maps["counts"], slot) > 0 for slot in range(3)] == [False, False, True]


@pytest.mark.bpf
def test_failing_attach_leaves_nothing_attached(bpf_object, trigger):
    source = objects.many(3, ["raw_tp/task_rename", "raw_tp/task_rename", "raw_tp/there_is_no_such"], with_map=True,
                          by_process=True)
    with pylbpf.open(build(source, "half_attachable")) as obj:
        obj.load()
        count_this_process(obj)
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(FileNotFoundError, match="p0002") as raised:
            obj.attach()
        assert isinstance(raised.value, pylbpf.BpfError) and raised.value.operation.startswith("attach")
        assert sorted(os.listdir("/proc/self/fd")) == before
        trigger()
        assert [u64(obj.maps["counts"], slot) for slot in range(3)] == [0, 0, 0]
        assert list(obj.links) == []


@pytest.mark.bpf
def test_ring_buffer_is_opened_by_name_or_map(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        with obj.ring_buffer("events") as ring:
            assert "events" in repr(ring)
        with obj.ring_buffer(obj.maps["events"], print) as ring:
            assert ring.consume() == 0
        with pytest.raises(KeyError):
            obj.ring_buffer("nothing")
        with pytest.raises(ValueError, match="ARRAY, not a RINGBUF"):
            obj.ring_buffer("counts")


# ---------------------------------------------------------------- close


def test_close_twice_does_nothing(bpf_object):
    obj = pylbpf.open(bpf_object("task_rename"))
    obj.close()
    obj.close()
    assert "closed" in repr(obj)


def test_everything_on_a_closed_object_is_a_value_error(bpf_object):
    obj = pylbpf.open(bpf_object("task_rename"))
    programs, maps, btf = obj.programs, obj.maps, obj.btf
    program, map, insns = programs["on_task_rename"], maps["counts"], programs["on_task_rename"].insns
    obj.close()
    for use in (
        lambda: obj.programs, lambda: obj.maps, lambda: obj.links, lambda: obj.btf, lambda: obj.name, obj.load,
        obj.attach, obj.__enter__, lambda: obj.kernel_version, lambda: obj.ring_buffer("events"),
        lambda: programs["on_task_rename"], lambda: list(programs), lambda: len(programs),
        lambda: list(programs.values()),
        lambda: maps["counts"], lambda: list(maps), lambda: len(maps),
        lambda: program.name, lambda: program.insns, lambda: program.fd, program.attach, program.unload,
        lambda: program.set_insns(bytes(8)), lambda: program.log, lambda: setattr(program, "autoload", True),
        lambda: map.name, lambda: map.lookup(ZERO), lambda: map.fd, map.pin, lambda: setattr(map, "max_entries", 1),
        lambda: insns[0], lambda: memoryview(insns), lambda: len(btf), lambda: btf.name(1), btf.tobytes,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert repr(program) == "<Program: closed>" and repr(map) == "<Map: closed>"
    assert repr(obj) and hash(program) == hash(program)


def test_with_closes_also_after_an_exception(bpf_object):
    with pytest.raises(ZeroDivisionError):
        with pylbpf.open(bpf_object("task_rename")) as obj:
            1 / 0
    assert obj.closed


def test_iterating_over_programs_while_the_object_is_closed_is_a_value_error(bpf_object):
    obj = pylbpf.open(bpf_object("subprogs"))
    iterators = [iter(obj.programs), iter(obj.programs.values()), iter(obj.maps), iter(obj.programs.items())]
    for iterator in iterators:
        next(iterator)
    obj.close()
    for iterator in iterators:
        with pytest.raises(ValueError, match="closed"):
            next(iterator)


# ---------------------------------------------------------------- odd sources


@pytest.mark.bpf
def test_bytes_of_a_class_of_ones_own(bpf_object):
    class Mine(bytes):
        pass

    with pylbpf.open(Mine(bpf_object("raw_tp").read_bytes())) as obj:
        assert obj.programs
    with pylbpf.load_many([Mine(bpf_object("empty").read_bytes())]) as loaded:
        assert not loaded.failed


@pytest.mark.parametrize("use", [pylbpf.open, lambda source: pylbpf.load_many([source]), pylbpf.load_many,
                                 lambda source: pylbpf.verify_many([source])])
def test_what_is_raised_while_a_source_is_looked_at_comes_out(use):
    class Stopping:
        @property
        def __class__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use(Stopping())
