"""A libbpf that pylbpf has brought along: nothing else in the process is taken for it, nor it for anything else."""
from __future__ import annotations

import ctypes.util
import re
import subprocess
from pathlib import Path

import pytest

import pylbpf
from handling import compiler_flags, run_python

if pylbpf.get_libraries() == ["bpf"]:
    pytest.skip("bundled libbpf: pylbpf uses the system's libbpf here", allow_module_level=True)

PACKAGE = Path(pylbpf.__file__).parent
LIBRARY = PACKAGE / "lib" / "libbpf-pylbpf.so"
ROOMS = PACKAGE / "pylbpf-rooms.so"
NAMES = re.findall(r"#define (\w+) pylbpf__\1\n", (PACKAGE / "include/bpf/pylbpf_names.h").read_text())


@pytest.fixture(scope="module")
def impostor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that has all functions of libbpf and libelf under their plain names; each ends the process."""
    inside = ["elf_version", "elf_memory", "elf_begin", "elf_getscn", "elf_nextscn", "gelf_getehdr", "elf_end", "elf_rawdata"]
    lines = ["void abort(void);", *(f"void {name}(void) {{ abort(); }}" for name in [*NAMES, *inside])]
    library = tmp_path_factory.mktemp("impostor") / "libbpf.so.1"
    compiler_flags()
    made = subprocess.run(
        ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", "-Wl,-soname,libbpf.so.1", "-x", "c", "-", "-o", library],
        input="\n".join(lines), capture_output=True, text=True, check=False,
    )
    assert made.returncode == 0, made.stderr
    return library


def real() -> str:
    return ctypes.util.find_library("bpf") or pytest.skip("shared libbpf: none is installed beside pylbpf's own")


def use(demo: Path, *, before: str = "", after: str = "", **variables: str) -> None:
    """Open an object with handlers in a fresh interpreter, and load it where that is allowed."""
    said = run_python(f"""
import ctypes
{before}
import pylbpf
{after}
class Handler(pylbpf.ProgramHandler):
    program_type = pylbpf.ProgramType.RAW_TRACEPOINT
    def setup(self, program):
        program.autoload = False
with pylbpf.open({str(demo)!r}, handlers=[Handler()]) as obj:
    names = list(obj.programs), list(obj.maps), obj.btf is not None
    try:
        obj.prepare()
        next(iter(obj.programs.values())).clone()   # what this libbpf may lack, whatever others have
    except pylbpf.NotSupported:
        assert pylbpf.libbpf_version() < (1, 8)
        obj.load()
    except PermissionError:
        pass
    print(pylbpf.libbpf_version(), pylbpf.libbpf_path(), all(names))
""", **variables)
    assert said.split("\n")[0] == f"{pylbpf.libbpf_version()} {LIBRARY.resolve()} True"


@pytest.fixture
def demo(bpf_object) -> Path:
    return bpf_object("handlers")


@pytest.mark.parametrize("mode", ["RTLD_LOCAL", "RTLD_GLOBAL"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_another_libbpf_in_the_process(demo, impostor, when, mode):
    load = "ctypes.CDLL({!r}, ctypes.{})"
    use(demo, **{when: load.format(str(impostor), mode)})
    use(demo, **{when: load.format(real(), mode)})


def test_another_libbpf_preloaded(demo, impostor):
    use(demo, LD_PRELOAD=str(impostor))
    use(demo, LD_PRELOAD=real())


def test_another_libbpf_that_keeps_working(demo):
    """The other way round: somebody else's libbpf is not answered by pylbpf's."""
    code = f"""
import ctypes
other = ctypes.CDLL({real()!r})
alone = other.libbpf_major_version(), other.libbpf_minor_version()
import pylbpf
pylbpf.open({str(demo)!r}, handlers=[pylbpf.ProgramHandler()]).close()
print(alone == (other.libbpf_major_version(), other.libbpf_minor_version()))
"""
    assert run_python(code) == "True\n"


def symbols(library: Path, *options: str) -> list[str]:
    said = subprocess.run(["nm", "-D", *options, library], capture_output=True, text=True, check=True).stdout
    return [line.split()[-1].partition("@")[0] for line in said.splitlines()]


@pytest.fixture
def nm() -> None:
    import shutil
    if shutil.which("nm") is None:
        pytest.skip("nm: not installed")


def test_only_renamed_functions_are_exported(nm):
    assert set(symbols(LIBRARY, "--defined-only")) <= {f"pylbpf__{name}" for name in NAMES}
    modules = list(PACKAGE.glob("*.so"))
    assert modules
    for module in modules:
        names = (PACKAGE / "pylbpf-rooms.txt").read_text().split() if module == ROOMS else [module.name.partition(".")[0]]
        assert sorted(symbols(module, "--defined-only")) == sorted(f"PyInit_{name}" for name in names), module.name


def test_no_function_goes_by_its_plain_name(nm):
    for module in PACKAGE.glob("*.so"):
        assert not set(symbols(module, "--undefined-only")) & set(NAMES), module.name


def test_header_renames_all_that_it_declares():
    declared = set()
    for header in ("libbpf.h", "bpf.h", "btf.h"):
        text = re.sub(r"/\*.*?\*/", "", (PACKAGE / "include/bpf" / header).read_text(), flags=re.S)
        declared |= set(re.findall(r"^LIBBPF_API\b[^;(]*?(\w+)\(", text, re.M))
    assert len(declared) > 300
    assert declared <= {*NAMES, "bpf_prog_test_run_attr"}


@pytest.fixture
def together() -> Path:
    return ROOMS if ROOMS.exists() else pytest.skip("one file: each module has one of its own here")


def test_rooms_in_one_file_are_modules_as_others(together):
    code = f"""
import importlib, pkgutil, sys
import pylbpf
names = {(PACKAGE / "pylbpf-rooms.txt").read_text().split()!r}
for name in names:
    room = importlib.import_module("pylbpf." + name)
    assert room.__name__ == room.__spec__.name == "pylbpf." + name and room.__file__ == {str(together)!r}, name
assert set(names) <= {{each.name for each in pkgutil.iter_modules(pylbpf.__path__)}}
try:
    import pylbpf.nothing
except ModuleNotFoundError as error:
    assert error.name == "pylbpf.nothing"
sys.path_importer_cache.clear()
importlib.invalidate_caches()
del sys.modules["pylbpf.xdp"]
from pylbpf import xdp
print("all")
"""
    assert run_python(code) == "all\n"
