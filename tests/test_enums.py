"""Constants are those of linux/bpf.h, as the C compiler and the header of each place that has one see them."""
from __future__ import annotations

import enum
import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import objects
import pylbpf
from pylbpf import enums

ENUMS = {
    "bpf_prog_type": ("ProgramType", "BPF_PROG_TYPE_"),
    "bpf_attach_type": ("AttachType", "BPF_"),
    "bpf_map_type": ("MapType", "BPF_MAP_TYPE_"),
    "bpf_link_type": ("LinkType", "BPF_LINK_TYPE_"),
}
# Other names of the same numbers, or what marks the end.
ALIAS_OF = {"CGROUP_STORAGE_DEPRECATED": "CGROUP_STORAGE",
            "PERCPU_CGROUP_STORAGE_DEPRECATED": "PERCPU_CGROUP_STORAGE"}
FLAGS = {
    "ProgramFlags": {
        name: f"BPF_F_{name}" for name in (
            "STRICT_ALIGNMENT", "ANY_ALIGNMENT", "TEST_RND_HI32", "TEST_STATE_FREQ", "SLEEPABLE", "XDP_HAS_FRAGS",
            "XDP_DEV_BOUND_ONLY", "TEST_REG_INVARIANTS", "TOKEN_FD")
    },
    "MapFlags": {
        name: f"BPF_F_{name}" for name in (
            "NO_PREALLOC", "NO_COMMON_LRU", "NUMA_NODE", "RDONLY", "WRONLY", "STACK_BUILD_ID", "ZERO_SEED",
            "RDONLY_PROG", "WRONLY_PROG", "CLONE", "MMAPABLE", "PRESERVE_ELEMS", "INNER_MAP", "LINK", "PATH_FD",
            "VTYPE_BTF_OBJ_FD", "TOKEN_FD", "SEGV_ON_FAULT", "NO_USER_CONV", "RB_OVERWRITE")
    },
    "AttachFlags": {
        name: f"BPF_F_{name}" for name in (
            "ALLOW_OVERRIDE", "ALLOW_MULTI", "REPLACE", "BEFORE", "AFTER", "ID", "PREORDER", "LINK")
    },
    "UpdateFlags": {"ANY": "BPF_ANY", "NOEXIST": "BPF_NOEXIST", "EXIST": "BPF_EXIST", "LOCK": "BPF_F_LOCK"},
}


def header_folders() -> list[Path]:
    """Of the system, of a libbpf release, and of the compiler that comes from PyPI: different kernels' headers."""
    found = [Path("/usr/include")]
    if source := os.environ.get("PYLBPF_LIBBPF_SOURCE"):
        found.append(Path(source, "include", "uapi"))
    try:
        import ziglang
        found.append(Path(ziglang.__file__).parent / "lib" / "libc" / "include" / "any-linux-any")
    except ImportError:
        pass
    return [folder for folder in found if (folder / "linux" / "bpf.h").exists()]


@pytest.fixture(params=header_folders(), ids=lambda folder: folder.parent.name + "-" + folder.name)
def header(request, tmp_path):
    """constants(names) -> {name: number} of the names that the header knows."""
    compiler = os.environ.get("CC", "cc").split()
    if not shutil.which(compiler[0]):
        pytest.skip("C compiler: not installed")
    text = (request.param / "linux" / "bpf.h").read_text()

    def constants(names):
        known = [name for name in names if re.search(rf"\b{name}\b", text)]
        source, program = tmp_path / "constants.c", tmp_path / "constants"
        lines = "".join(f'\tprintf("{name} %lld\\n", (long long)({name}));\n' for name in known)
        source.write_text(f"#include <linux/bpf.h>\n#include <stdio.h>\nint main(void)\n{{\n{lines}\treturn 0;\n}}\n")
        environment = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD",)}
        subprocess.run([*compiler, "-I", str(request.param), "-o", str(program), str(source)], check=True,
                       env=environment)
        printed = subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
        return {name: int(number) for name, number in (line.split() for line in printed.splitlines())}

    constants.text = text
    return constants


def members_in(text: str, name: str) -> list[str]:
    body = re.search(rf"^enum {name} \{{(.*?)^\}};", text, re.MULTILINE | re.DOTALL).group(1)
    return re.findall(r"^\s*(\w+)\s*(?:=[^,]*)?,", re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL), re.MULTILINE)


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_the_headers_members_and_numbers(header, name):
    ours = getattr(pylbpf, ENUMS[name][0])
    prefix = ENUMS[name][1]
    members = [member for member in members_in(header.text, name) if not member.startswith(("__MAX", "MAX_"))]
    assert len(members) > 5
    numbers = header(members)
    assert set(numbers) == set(members)
    for member, number in numbers.items():
        short = member[len(prefix):]
        short = ALIAS_OF.get(short, short)
        assert member.startswith(prefix)
        if number <= max(ours):  # a header may be newer than we are
            assert short in ours.__members__, f"{ours.__name__} lacks {short} of {name}"
            assert ours[short] == number, member
    # What is newer than this header comes after all that is in it.
    newest = max(numbers.values())
    theirs = {ALIAS_OF.get(member[len(prefix):], member[len(prefix):]) for member in numbers}
    assert all(member > newest for member in ours if member.name not in theirs)


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_the_headers(header, name):
    ours = getattr(pylbpf, name)
    assert set(FLAGS[name]) == set(ours.__members__)
    numbers = header(FLAGS[name].values())
    assert len(numbers) >= 3
    for short, theirs in FLAGS[name].items():
        if theirs in numbers:
            assert ours[short] == numbers[theirs], theirs


def test_log_levels_are_libbpfs():
    assert [(level.name, int(level)) for level in pylbpf.LogLevel] == [("WARN", 0), ("INFO", 1), ("DEBUG", 2)]


def test_states_are_in_the_order_of_life():
    assert [state.name for state in pylbpf.State] == ["OPENING", "OPEN", "PREPARED", "LOADED", "FAILED", "CLOSED"]


def test_numbers_are_contiguous_and_without_gaps():
    for name in ("ProgramType", "AttachType", "MapType", "LinkType"):
        ours = getattr(pylbpf, name)
        assert sorted(map(int, ours)) == list(range(len(ours)))


def test_numbers_that_nobody_knows_yet_have_a_name():
    for name in ("ProgramType", "AttachType", "MapType", "LinkType"):
        unknown = getattr(pylbpf, name)(1000)
        assert unknown == 1000 and unknown.name == "UNKNOWN_1000" and isinstance(unknown, getattr(pylbpf, name))
        assert getattr(pylbpf, name)(1000) == unknown and "1000" in repr(unknown)
        for wrong in (-1, "HASH", None, 1.5):
            with pytest.raises(ValueError):
                getattr(pylbpf, name)(wrong)


def test_enums_are_documented_and_their_own():
    for name in [name for name, room in pylbpf._LATER.items() if room == "enums"]:
        ours = getattr(pylbpf, name)
        assert issubclass(ours, enum.Enum) and ours.__doc__ and ours.__module__ == "pylbpf.enums"
        assert ours is getattr(enums, name)
        assert len({int(member) for member in ours}) == len(list(ours))


def test_only_what_is_asked_for_is_made():
    code = "from pylbpf import enums; enums.State; print({'State', 'MapType'} & vars(enums).keys(), 'MapType' in dir(enums))"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout == "{'State'} True\n"
    with pytest.raises(AttributeError, match="Nothing"):
        enums.Nothing


def test_threads_that_ask_at_once_get_the_same_enumeration(monkeypatch):
    for _ in range(20):
        monkeypatch.delitem(vars(enums), "IterOrder", raising=False)
        together = threading.Barrier(4)

        def ask():
            together.wait()
            return enums.IterOrder

        with ThreadPoolExecutor(4) as threads:
            assert len({future.result() for future in [threads.submit(ask) for _ in range(4)]}) == 1


def test_sources_of_the_test_objects_use_the_same_numbers(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        types = re.findall(r"MAP\((\w+), (\w+),", (objects.SOURCES / "maps.bpf.c").read_text())
        assert len(types) >= 6
        for name, type in types:
            if name in obj.maps:
                assert obj.maps[name].type.name == type
