"""Objects relocated against a part of the kernel's BTF: the same, bit by bit, as against the whole."""
from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import random
import re
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterator, Union

import pytest

import core_sources
import kernel
import objects
import pylbpf
from expectations import rounds
from pylbpf import corebtf
from test_elf import Elf
from test_fork import in_child

INT, STRUCT, UNION, ENUM, FWD, TYPEDEF = 1, 4, 5, 6, 7, 8
F_GET_SEALS, SEALED = 1034, 0xF
SOURCES = {
    **core_sources.AGAINST_KERNEL, **core_sources.AGAINST_RUNNING, "kernel": core_sources.KERNEL,
    **{name: source for name, (source, _) in core_sources.PLAIN.items()},
}


@pytest.fixture(scope="session")
def core() -> Callable[[str], Path]:
    """core(name) -> the compiled object of core_sources."""
    try:
        objects.bpfcc.compiler_version()
    except objects.bpfcc.CompilerMissing as error:
        pytest.skip(f"compiler: {error}")

    def build(name: str) -> Path:
        return objects.build(SOURCES[name], re.sub(r"\W", "_", f"core {name}"))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        built = dict(zip(SOURCES, pool.map(build, SOURCES)))
    return built.__getitem__


@pytest.fixture
def other_kernel(core) -> Path:
    """Types of odd shapes, in an ELF file."""
    return core("kernel")


def outcome(source: Path, btf: Union[str, bytes, Path, None] = None) -> tuple[object, ...]:
    """What becomes of an object: its instructions, or the error in full."""
    with pylbpf.open(source, btf_custom_path=btf) as obj:
        try:
            obj.load()
        except pylbpf.BpfError as error:
            return type(error), error.errno, str(error), error.log
        return tuple((name, without_descriptors(bytes(each.insns))) for name, each in obj.programs.items())


def section_of(elf: Elf, name: str) -> bytes:
    section = elf.sections[name]
    return bytes(elf.data[section.offset:section.offset + section.size])


def without_descriptors(code: bytes) -> bytes:
    """Maps are in instructions as descriptors, which are whatever number is free."""
    changed = bytearray(code)
    for at in range(0, len(code), 8):
        if code[at] == 0x18 and code[at + 1] >> 4:
            changed[at + 4:at + 8] = bytes(4)
    return bytes(changed)


# ---------------------------------------------------------------- the same, bit by bit


@pytest.mark.bpf
@pytest.mark.parametrize("name", core_sources.AGAINST_KERNEL)
def test_the_same_against_types_of_odd_shapes(name, core, other_kernel, tmp_path):
    trimmed = tmp_path / "trimmed.btf"
    trimmed.write_bytes(pylbpf.trimmed_btf([core(name)], btf=other_kernel))
    whole, part = outcome(core(name), other_kernel), outcome(core(name), trimmed)
    if name == "typedef of what is hidden":  # here the number of a type is told: such a one is not shared
        number = re.compile(r"\[\d+\] typedef")
        whole, part = (tuple(number.sub("", str(each)) for each in result) for result in (whole, part))
    assert whole == part


@pytest.mark.bpf
def test_the_same_against_types_of_odd_shapes_trimmed_for_all(core, other_kernel, tmp_path):
    trimmed = tmp_path / "trimmed.btf"
    names = [*core_sources.AGAINST_KERNEL, *core_sources.AGAINST_RUNNING]
    trimmed.write_bytes(pylbpf.trimmed_btf(map(core, names), btf=other_kernel))
    for name in names:
        if name != "typedef of what is hidden":
            assert outcome(core(name), other_kernel) == outcome(core(name), trimmed), name


@pytest.mark.bpf
@pytest.mark.parametrize("size", [4, 8])
def test_the_same_against_another_size_of_pointers(size, core, other_kernel, tmp_path):
    """libbpf tells it by a type named long, which the object need not ask for."""
    elf = Elf(other_kernel.read_bytes())
    elf.put("<I", elf.type(INT, "long").at + 8, size)
    whole, trimmed = tmp_path / "whole.btf", tmp_path / "trimmed.btf"
    whole.write_bytes(section_of(elf, ".BTF"))
    source = objects.build(core_sources.program(
        "struct tagged { int *here; } CORE;", "ADD(SIZE(struct tagged, here)); ADD(OFFSET(struct tagged, here));"),
        "core_pointer")
    trimmed.write_bytes(pylbpf.trimmed_btf([source], btf=whole))
    result = outcome(source, whole)
    assert outcome(source, trimmed) == result
    code = result[0][1]
    assert size in [struct.unpack_from("=i", code, at + 4)[0] for at in range(0, len(code), 8)]


@pytest.mark.bpf
def test_the_sources_show_what_they_are_for(core, other_kernel):
    """Which ones fail against the odd types, and why: so that equal results are not equal for nothing."""
    wrong = {}
    for name in core_sources.AGAINST_KERNEL:
        result = outcome(core(name), other_kernel)
        if isinstance(result[0], type):
            wrong[name] = result[2]
    assert wrong.keys() == {
        "ambiguous field", "ambiguous size", "ambiguous type", "ambiguous and refined", "missing field", "missing type",
        "missing enum value", "typedef of what is hidden",
    }
    assert "field offset ambiguity" in wrong["ambiguous field"]
    assert "relocation decision ambiguity" in wrong["ambiguous type"]


def modules() -> list[str]:
    """What may have the types that the kernel proper has not: where there are any, these are not said to be missing."""
    return [name for name in os.listdir("/sys/kernel/btf") if name != "vmlinux"]


@pytest.mark.bpf
def test_the_same_against_this_kernel(core, requires_btf, tmp_path):
    names = [*core_sources.AGAINST_KERNEL, *core_sources.AGAINST_RUNNING]
    shared = corebtf.shared_btf([core(name).read_bytes() for name in names])
    file = tmp_path / "trimmed.btf"
    file.write_bytes(pylbpf.trimmed_btf([core(name) for name in names]))
    loaded = 0
    for name in names:
        assert shared.covers(core(name).read_bytes()) or modules()
        whole = outcome(core(name))
        assert outcome(core(name), shared.path) == outcome(core(name), file) == whole, name
        loaded += isinstance(whole[0], tuple)
    assert loaded > 10


@pytest.mark.bpf
def test_the_same_for_all_other_objects(bpf_objects, requires_btf):
    found = {name: path for name, path in bpf_objects.items() if corebtf.needs(path.read_bytes())["relocations"]}
    assert {"core", "iter"} <= found.keys()
    shared = corebtf.shared_btf([path.read_bytes() for path in found.values()])
    for name, path in found.items():
        assert shared.covers(path.read_bytes()) or modules()
        assert outcome(path) == outcome(path, shared.path), name


def test_the_same_with_a_newer_libbpf():
    """With the library that PYLBPF_NEWER_LIBBPF points to."""
    folder = os.environ.get("PYLBPF_NEWER_LIBBPF")
    if not folder:
        pytest.skip("newer libbpf: PYLBPF_NEWER_LIBBPF names none")
    found = os.pathsep.join(filter(None, [folder, os.environ.get("LD_LIBRARY_PATH")]))
    environment = {**os.environ, "LD_LIBRARY_PATH": found}
    version = subprocess.run([sys.executable, "-c", "import pylbpf; print(pylbpf.libbpf_version())"], env=environment,
                             stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    if version == str(pylbpf.libbpf_version()):
        pytest.skip(f"newer libbpf: that of {folder} is the same")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "the_same_ and not newer", __file__],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240,
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout or kernel.no_bpf()


# ---------------------------------------------------------------- what an object asks for


def test_names_and_kinds(core):
    found = corebtf.needs(core("flavors").read_bytes())
    assert found["names"] == {("plain", STRUCT), ("twice", STRUCT)}
    assert found["plain"] is None and found["kinds"] == {0, 1, 2, 3, 4, 5}
    found = corebtf.needs(core("missing and guarded").read_bytes())
    assert {("gone", STRUCT), ("plain", STRUCT), ("gone_e", ENUM), ("small", ENUM), ("gone_t", TYPEDEF)} <= found["names"]
    assert corebtf.needs(core("unions").read_bytes())["names"] == {("mixed", UNION)}
    assert corebtf.needs(core("enum of another width").read_bytes())["names"] == {("small", ENUM), ("large", ENUM)}
    found = corebtf.needs(core("own numbers").read_bytes())
    assert found["relocations"] == 1 and found["names"] == set() and found["plain"] is None


def test_flavors_are_what_libbpf_takes_for_them(core):
    assert corebtf.needs(core("odd name").read_bytes())["names"] == {
        ("odd", STRUCT), ("odd___name____x", STRUCT), ("___plain", STRUCT), ("plain___", STRUCT), ("plain____x", STRUCT),
    }


@pytest.mark.parametrize("name", core_sources.PLAIN)
def test_what_needs_the_whole(name, core):
    words = core_sources.PLAIN[name][1]
    data = core(name).read_bytes()
    assert words in corebtf.needs(data)["plain"]
    with pytest.raises(ValueError, match=f"{re.escape(str(core(name)))} needs the kernel's whole BTF: it .*{words}"):
        pylbpf.trimmed_btf([core(name)])
    with pytest.raises(ValueError, match="<memory> needs"):
        pylbpf.trimmed_btf([data])


def test_what_needs_the_whole_is_left_out(core, requires_btf):
    whole, part = core("matching type").read_bytes(), core("task").read_bytes()
    shared = corebtf.shared_btf([whole, part])
    assert shared.covers(part) and not shared.covers(whole)
    assert corebtf.shared_btf([whole]) is None


def test_a_type_without_size_is_not_shared(core, requires_btf, monkeypatch):
    """Asking for a field of it is an error that tells the number of the type."""
    data = objects.build(core_sources.program(
        "typedef struct { int x; } CORE pgtable_t; typedef struct { int x; } CORE dentry_t;",
        "ADD(EXISTS(dentry_t, x));"), "sizeless").read_bytes()
    assert corebtf.shared_btf([data]).covers(data) or modules()     # this kernel has no such type at all
    hidden = next(iter(sizeless_typedefs()), None)
    if hidden is None:
        pytest.skip("declared typedef: none in the BTF of vmlinux")
    data = objects.build(core_sources.program(
        f"typedef struct {{ int x; }} CORE {hidden};", f"ADD(EXISTS({hidden}, x));"), f"sizeless_{hidden}").read_bytes()
    assert not corebtf.shared_btf([data]).covers(data)


def sizeless_typedefs() -> Iterator[str]:
    """Names of this kernel's types that are typedefs of a struct without members."""
    types = list(raw_types(Path("/sys/kernel/btf/vmlinux").read_bytes()))
    for name, kind, refers in types:
        if kind == TYPEDEF and refers and types[refers - 1][1] == FWD:
            yield name


def raw_types(data: bytes) -> Iterator[tuple[str, int, int]]:
    header, type_at, type_size, string_at, _ = struct.unpack_from("=IIIII", data, 4)
    fixed, each = {1: 4, 3: 12, 14: 4, 17: 4}, {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
    at, strings = header + type_at, header + string_at
    while at < header + type_at + type_size:
        name, info, refers = struct.unpack_from("=III", data, at)
        kind = info >> 24 & 0x1F
        text = data[strings + name:data.index(0, strings + name)]
        yield text.decode(), kind, refers
        at += 12 + fixed.get(kind, 0) + each.get(kind, 0) * (info & 0xFFFF)


@pytest.mark.bpf
def test_counts(bpf_objects):
    for name, path in bpf_objects.items():
        found = corebtf.needs(path.read_bytes())
        with pylbpf.open(path) as obj:
            programs = [each for each in obj.programs.values() if each.autoload and not each.section.startswith("struct_ops")]
            assert found["programs"] == len(programs), name
            assert sum(program.insn_count for program in obj.programs.values()) <= found["insns"], name
            if name != "struct_ops" or pylbpf.libbpf_version() >= (1, 3):     # before it knows no links of struct_ops
                assert min(1, len(obj.maps)) <= found["maps"] <= len(obj.maps), name


def test_no_relocations(bpf_object):
    data = bpf_object("maps").read_bytes()
    found = corebtf.needs(data)
    assert found["relocations"] == 0 and found["names"] == set() and found["plain"] is None
    assert corebtf.shared_btf([data]) is None and corebtf.shared_btf([]) is None


def test_what_is_no_object():
    for data in (b"", b"\x7fELF", bytes(64), bytes(1000), Path(sys.executable).read_bytes()[:5000]):
        found = corebtf.needs(data)
        assert found["plain"] == "it is no BPF object for this machine" and found["names"] == set()
    with pytest.raises(TypeError):
        corebtf.needs("text")
    with pytest.raises(BufferError):
        corebtf.needs(memoryview(bytes(100))[::2])


# ---------------------------------------------------------------- the file


def test_file(core, requires_btf):
    shared = corebtf.shared_btf([core("task").read_bytes()])
    assert re.fullmatch(rb"/proc/self/fd/\d+", shared.path)
    fd = int(shared.path.rpartition(b"/")[2])
    assert fd >= 3 and not os.get_inheritable(fd)
    assert fcntl.fcntl(fd, F_GET_SEALS) & SEALED == SEALED
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    data = Path(os.fsdecode(shared.path)).read_bytes()
    assert ("task_struct", STRUCT) in [(name, kind) for name, kind, _ in raw_types(data)]
    del shared
    gc.collect()
    assert not os.path.exists(f"/proc/self/fd/{fd}")


def test_nobody_else_makes_one():
    with pytest.raises(TypeError, match="shared_btf"):
        corebtf.SharedBtf()
    assert corebtf.SharedBtf.__new__(corebtf.SharedBtf).path is None


def test_a_half_made_one_covers_nothing(core):
    with pytest.raises(ValueError, match="holds no types"):
        corebtf.SharedBtf.__new__(corebtf.SharedBtf).covers(core("task").read_bytes())


def test_somebody_closes_the_descriptor(core, requires_btf):
    """And opens a file of its own, as the number is free: that is not ours to close."""
    shared = corebtf.shared_btf([core("task").read_bytes()])
    fd = int(shared.path.rpartition(b"/")[2])
    os.close(fd)
    other = os.open("/dev/null", os.O_RDONLY)
    assert other == fd
    del shared
    gc.collect()
    os.close(other)  # it was still open


def test_closed_standard_files(core, requires_btf):
    """Whoever opens them anew must not find the types there."""
    code = (
        "import os, sys; data = open(sys.argv[1], 'rb').read(); from pylbpf import corebtf; out = os.dup(1);"
        "os.closerange(0, 3); shared = corebtf.shared_btf([data]); os.write(out, shared.path)"
    )
    result = subprocess.run([sys.executable, "-c", code, core("task")], stdout=subprocess.PIPE)
    assert int(result.stdout.rpartition(b"/")[2]) >= 3


def contents(shared: corebtf.SharedBtf) -> bytes:
    return Path(os.fsdecode(shared.path)).read_bytes()


def test_made_once_for_all_that_ask_for_no_more(core, requires_btf):
    few, more = core("task").read_bytes(), core("network").read_bytes()
    both = corebtf.shared_btf([few, more])
    again = corebtf.shared_btf([few])
    assert contents(both) == contents(again) and both.path != again.path
    assert again.covers(more)  # as it was there
    third = corebtf.shared_btf([core("typedefs").read_bytes()])
    assert third.covers(few) and third.covers(more)  # made anew for what is new, and what was asked for before
    assert both.covers(few) and contents(both) == contents(again)


def asking_for(count: int) -> bytes:
    """An object that asks for so many types."""
    types = "".join(f"struct kept_{i:04} {{ int x; }} CORE;" for i in range(count))
    asks = "".join(f"ADD(EXISTS(struct kept_{i:04}, x));" for i in range(count))
    return objects.build(core_sources.program(types, asks), f"core_many_{count}").read_bytes()


def test_what_is_kept_is_bounded(core, requires_btf, may_mount, tmp_path):
    """What asks for very many types does not make it long for all others."""
    many, few, more = asking_for(2047), core("task").read_bytes(), core("network").read_bytes()
    assert len(corebtf.needs(many)["names"]) == 2047

    def child() -> None:
        if modules():
            kernel.private_mounts()
            (tmp_path / "vmlinux").write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes())
            bind(tmp_path, Path("/sys/kernel/btf"))
        assert corebtf.shared_btf([few]).covers(few)
        assert corebtf.shared_btf([many]).covers(many)
        shared = corebtf.shared_btf([few])
        assert shared.covers(few) and not shared.covers(many)
        shared = corebtf.shared_btf([few, more, many])  # more than is kept
        assert shared.covers(few) and shared.covers(more) and shared.covers(many)
        shared = corebtf.shared_btf([few])
        assert shared.covers(few) and not shared.covers(many)

    in_child(child)


def test_too_many_names(core):
    found = corebtf.needs(asking_for(4097))
    assert found["plain"] == "it refers to too many types" and len(found["names"]) == 4096


@pytest.mark.bpf
def test_forked_child(core, requires_btf):
    path = core("task")
    shared = corebtf.shared_btf([path.read_bytes()])
    expected = outcome(path, shared.path)

    def child():
        assert outcome(path, shared.path) == expected
        own = corebtf.shared_btf([path.read_bytes(), core("network").read_bytes()])
        assert outcome(path, own.path) == expected

    in_child(child)
    assert outcome(path, shared.path) == expected


@pytest.mark.bpf
def test_threads(core, requires_btf):
    names = [*core_sources.AGAINST_RUNNING]
    expected = {name: outcome(core(name)) for name in names}
    wrong: list[object] = []

    def work(seed: int) -> None:
        order = random.Random(seed)
        try:
            for _ in range(10):
                some = order.sample(names, 3)
                shared = corebtf.shared_btf([core(name).read_bytes() for name in some])
                wrong.extend(name for name in some if outcome(core(name), shared.path) != expected[name])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---------------------------------------------------------------- other systems


def bind(what: Path, at: Path) -> None:
    if kernel.libc.mount(os.fsencode(what), os.fsencode(at), None, 0x1000, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(at))


def in_child_with_mounts(function: Callable[[], None]) -> None:
    def child() -> None:
        kernel.private_mounts()
        function()

    in_child(child)


@pytest.fixture
def may_mount(private_mounts: None) -> None:
    """Skips where mounts cannot be made."""


def test_modules(core, requires_btf, may_mount, tmp_path):
    """libbpf looks into them for types that the kernel proper does not have. So may they be there, the whole is needed."""
    there, missing = core("task").read_bytes(), core("missing and guarded").read_bytes()
    assert ("gone", STRUCT) in corebtf.needs(missing)["names"]

    def child() -> None:
        if not modules():
            shared = corebtf.shared_btf([there, missing])
            assert shared.covers(there) and shared.covers(missing)
        folder = tmp_path / "btf"
        folder.mkdir()
        (folder / "vmlinux").write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes())
        (folder / "some_module").touch()
        bind(folder, Path("/sys/kernel/btf"))
        shared = corebtf.shared_btf([there, missing])
        assert shared.covers(there) and not shared.covers(missing)
        (folder / "some_module").unlink()
        shared = corebtf.shared_btf([there, missing])  # the same one, and another answer
        assert shared.covers(there) and shared.covers(missing)

    in_child_with_mounts(child)


def test_another_kernel_under_the_same_name(core, requires_btf, may_mount, tmp_path):
    """What was kept is not used for it."""
    data = core("task").read_bytes()

    def child() -> None:
        first = contents(corebtf.shared_btf([data]))
        (tmp_path / "vmlinux").write_bytes(pylbpf.trimmed_btf([core("network")]))
        bind(tmp_path, Path("/sys/kernel/btf"))
        second = contents(corebtf.shared_btf([data]))
        assert "task_struct" in [name for name, _, _ in raw_types(first)]
        assert "task_struct" not in [name for name, _, _ in raw_types(second)]

    in_child_with_mounts(child)


@pytest.mark.parametrize("damage", ["nothing", "empty", "garbage", "cut", "folder"])
def test_no_btf_of_the_kernel(damage, core, requires_btf, may_mount, tmp_path):
    data = core("missing type").read_bytes()
    whole = Path("/sys/kernel/btf/vmlinux").read_bytes()

    def child() -> None:
        file = tmp_path / "vmlinux"
        if damage == "folder":
            file.mkdir()
        elif damage != "nothing":
            file.write_bytes({"empty": b"", "garbage": bytes(range(256)), "cut": whole[:1 << 20]}[damage])
        bind(tmp_path, Path("/sys/kernel/btf"))
        assert corebtf.shared_btf([data]) is None
        with pytest.raises((pylbpf.BpfError, ValueError), match="/sys/kernel/btf/vmlinux"):
            pylbpf.trimmed_btf([data])

    in_child_with_mounts(child)


def test_no_proc(core, requires_btf, may_mount):
    """No path leads to the file then."""
    data = core("task").read_bytes()

    def child() -> None:
        before = len(os.listdir("/proc/self/fd"))
        kernel.mount("tmpfs", Path("/proc"))
        assert corebtf.shared_btf([data]) is None
        kernel.unmount(Path("/proc"))
        assert len(os.listdir("/proc/self/fd")) == before
        assert corebtf.shared_btf([data]) is not None

    in_child_with_mounts(child)


def test_no_descriptors_left(core, requires_btf):
    data = core("task").read_bytes()

    def child() -> None:
        import resource

        corebtf.shared_btf([data])
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        assert corebtf.shared_btf([data]) is None

    in_child(child)


def test_no_room_for_the_file(core, requires_btf):
    data = core("task").read_bytes()

    def child() -> None:
        import resource

        corebtf.shared_btf([data])
        before = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        assert corebtf.shared_btf([data]) is None
        assert len(os.listdir("/proc/self/fd")) == before

    in_child(child)


# ---------------------------------------------------------------- trimmed_btf


@pytest.mark.bpf
def test_sources_may_be_paths_or_bytes(core, requires_btf, tmp_path):
    path = core("task")
    data = path.read_bytes()
    expected = pylbpf.trimmed_btf([path])
    for source in (str(path), data, bytearray(data), memoryview(data)):
        assert pylbpf.trimmed_btf([source]) == expected
    assert pylbpf.trimmed_btf(iter([path, data, path])) == expected
    assert len(expected) < 100_000


def test_the_order_of_candidates_is_the_kernels(core, other_kernel):
    found = list(raw_types(pylbpf.trimmed_btf([core("ambiguous size")], btf=other_kernel)))
    assert [name for name, kind, _ in found if kind == STRUCT] == ["thrice", "thrice___b", "thrice___c"]


def test_what_nobody_asks_for_is_left_out(core, other_kernel):
    found = list(raw_types(pylbpf.trimmed_btf([core("deep in ours")], btf=other_kernel)))
    names = {name for name, _, _ in found if name}
    assert "deep" in names and not names & {"plain", "lists", "small", "hidden_t"}
    for sources in ([core("own numbers")], []):
        assert {kind for _, kind, _ in raw_types(pylbpf.trimmed_btf(sources, btf=other_kernel))} == {INT}


def test_what_is_only_compared_has_no_name(core, other_kernel):
    """Else it would be found by this name, and be an empty struct."""
    found = list(raw_types(pylbpf.trimmed_btf([core("prototypes")], btf=other_kernel)))
    assert "callback_t" in [name for name, _, _ in found]
    assert {name for name, kind, _ in found if kind in (STRUCT, UNION, ENUM)} == {""}


def test_raw_types_do_as_well(core, other_kernel, tmp_path):
    raw = tmp_path / "kernel.btf"
    raw.write_bytes(section_of(Elf(other_kernel.read_bytes()), ".BTF"))
    expected = pylbpf.trimmed_btf([core("fields")], btf=other_kernel)
    assert pylbpf.trimmed_btf([core("fields")], btf=str(raw)) == expected
    assert pylbpf.trimmed_btf([core("fields")], btf=os.fsencode(raw)) == expected


def test_bad_sources(core, tmp_path):
    with pytest.raises(TypeError, match="not a single one"):
        pylbpf.trimmed_btf(core("task"))
    with pytest.raises(TypeError, match="not a single one"):
        pylbpf.trimmed_btf(core("task").read_bytes())
    with pytest.raises(TypeError, match="path or bytes-like, not int"):
        pylbpf.trimmed_btf([3])
    with pytest.raises(TypeError):
        pylbpf.trimmed_btf(None)
    with pytest.raises(FileNotFoundError):
        pylbpf.trimmed_btf([tmp_path / "none.bpf.o"])
    with pytest.raises(IsADirectoryError):
        pylbpf.trimmed_btf([tmp_path])
    with pytest.raises(pylbpf.LibbpfError, match="not a regular file"):
        pylbpf.trimmed_btf(["/dev/null"])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(pylbpf.LibbpfError, match="open .*pipe: not a regular file"):
        pylbpf.trimmed_btf([tmp_path / "pipe"])
    with pytest.raises(pylbpf.LibbpfError, match="<memory>: not an ELF file"):
        pylbpf.trimmed_btf([b"text"])
    with pytest.raises(pylbpf.LibbpfError, match="ends behind the file"):
        pylbpf.trimmed_btf([core("task").read_bytes()[:-200]])


def test_an_iterable_that_raises(core):
    def one_and_then() -> Iterator[Path]:
        yield core("task")
        raise KeyError("second")

    with pytest.raises(KeyError, match="second"):
        pylbpf.trimmed_btf(one_and_then())


def test_bad_types(core, other_kernel, tmp_path):
    with pytest.raises(FileNotFoundError, match="read types of .*none.btf"):
        pylbpf.trimmed_btf([core("task")], btf=tmp_path / "none.btf")
    with pytest.raises(ValueError, match="the path is empty"):
        pylbpf.trimmed_btf([core("task")], btf="")
    with pytest.raises(TypeError):
        pylbpf.trimmed_btf([core("task")], btf=3)
    garbage = tmp_path / "garbage.btf"
    garbage.write_bytes(bytes(100))
    with pytest.raises(pylbpf.BpfError, match="read types of .*garbage.btf"):
        pylbpf.trimmed_btf([core("task")], btf=garbage)
    with pytest.raises(pylbpf.BpfError, match="read types of"):
        pylbpf.trimmed_btf([core("task")], btf=sys.executable)
    # A type that refers to one that is not there.
    good = pylbpf.trimmed_btf([core("fields")], btf=other_kernel)
    for number in (0xFFFFFF, 1 << 31):
        bad = bytearray(good)
        at = next(at for at in range(24, len(good), 4) if bad[at + 7] == STRUCT and bad[at + 4] > 2)
        struct.pack_into("=I", bad, at + 12 + 4, number)
        garbage.write_bytes(bad)
        with pytest.raises((ValueError, pylbpf.BpfError), match="garbage.btf"):
            pylbpf.trimmed_btf([core("fields")], btf=garbage)


def test_a_bit_field_of_a_pointer_is_refused(core, other_kernel, tmp_path):
    """libbpf would divide by its size, which no pointer has."""
    raw = Elf(other_kernel.read_bytes())
    bits = raw.type(STRUCT, "bits")
    file = tmp_path / "bits.bpf.o"
    for other in (raw.type(STRUCT, "chained").at + 16, raw.type(STRUCT, "lists").at + 28):  # a pointer, an array
        raw.put("<I", bits.at + 16, raw.get("<I", other))
        file.write_bytes(raw.data)
        with pytest.raises(ValueError, match="bits.bpf.o is no BTF that can be read here"):
            pylbpf.trimmed_btf([core("bits")], btf=file)
    pylbpf.trimmed_btf([core("deep")], btf=file)


# ---------------------------------------------------------------- damaged ones


def damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(changed))
        what = rng.randrange(4)
        if what == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            struct.pack_into("=I", changed, min(at & ~3, len(changed) - 4), rng.choice([0, 1, 0xFFFF, 1 << 31, 0xFFFFFFFF]))
        elif what == 2:
            struct.pack_into("=I", changed, min(at & ~3, len(changed) - 4), rng.randrange(200))
        elif rng.random() < 0.1:
            del changed[at:]
            if len(changed) < 8:
                return bytes(changed)
    return bytes(changed)


@pytest.mark.parametrize("name", ["types", "prototypes", "lists", "task", "missing and guarded", "number of a type"])
def test_damaged_objects_are_read_without_harm(name, core):
    data = core(name).read_bytes()
    rng = random.Random(name)
    seen = set()
    for _ in range(3000):
        found = corebtf.needs(damaged(data, rng))
        seen.add(found["plain"])
        assert len(found["names"]) <= found["relocations"]
    assert len(seen) > 3


def test_damaged_types_are_read_without_harm(core, other_kernel, tmp_path):
    every = [core(name) for name in core_sources.AGAINST_KERNEL]
    data = pylbpf.trimmed_btf(every, btf=other_kernel)
    rng = random.Random(1)
    file = tmp_path / "damaged.btf"
    read = refused = 0
    for _ in range(rounds(1000)):
        file.write_bytes(damaged(data, rng))
        try:
            pylbpf.trimmed_btf(every[:5], btf=file)
            read += 1
        except (ValueError, pylbpf.BpfError):
            refused += 1
    assert min(read, refused) > rounds(1000) / 10
