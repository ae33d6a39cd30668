"""What importing costs and gives: nothing that is not needed, and every public name documented."""
from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import pylbpf

HEAVY = {"numpy", "ctypes", "_ctypes", "rich", "socket", "_socket", "asyncio", "multiprocessing", "subprocess",
         "inspect", "logging", "typing", "dataclasses", "difflib", "pathlib", "threading", "tempfile", "cffi", "json"}
PUBLIC = [name for name in pylbpf.__all__ if name != "__version__"]
CLASSES = [getattr(pylbpf, name) for name in PUBLIC if isinstance(getattr(pylbpf, name), type)]


def imported(code: str) -> set[str]:
    """Modules that are there after the code and not before it, in an interpreter that has no site packages' hooks."""
    code = (f"import sys; before = set(sys.modules)\n{code}\n"
            "import json; print(json.dumps(sorted(set(sys.modules) - before)))")
    result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_import_brings_in_no_heavy_module():
    found = imported("import pylbpf")
    assert "pylbpf.object" in found
    assert not found & (HEAVY - {"json"})
    assert "pylbpf.enums" not in found and "pylbpf.disasm" not in found
    # What json, which tells the above, brings with it.
    code = "import sys; before = 're' in sys.modules; import pylbpf; sys.exit(before < ('re' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_work_brings_in_no_heavy_module_either(bpf_object):
    found = imported(f"import pylbpf\nwith pylbpf.open({str(bpf_object('subprogs'))!r}) as obj:\n"
                     "    memoryview(obj.programs['first'].insns).tobytes(); obj.programs['first'].type")
    assert not found & {"numpy", "ctypes", "rich", "socket", "asyncio", "inspect"}
    assert "pylbpf.enums" in found


def test_import_prints_nothing_and_warns_of_nothing():
    result = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", "import pylbpf"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_a_python_without_gil_goes_on_with_it():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("free-threaded: this Python has a GIL")
    code = "import sys, warnings; warnings.simplefilter('ignore'); import pylbpf; print(sys._is_gil_enabled())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout == "True\n"


def test_import_opens_and_starts_nothing():
    code = ("import os\ncount = lambda: [len(os.listdir(f'/proc/self/{name}')) for name in ('fd', 'task')]\n"
            "before = count()\nimport pylbpf\nprint(count() == before)")
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize("name", pylbpf.__all__)
def test_every_public_name_exists(name):
    assert getattr(pylbpf, name) is not None and name in dir(pylbpf)


def test_all_has_no_name_twice_and_no_public_thing_is_missing_from_it():
    assert len(set(pylbpf.__all__)) == len(pylbpf.__all__)
    for name, thing in vars(pylbpf).items():
        if not name.startswith("_") and (inspect.isclass(thing) or inspect.isroutine(thing)):
            assert name in pylbpf.__all__


def test_a_reload_forgets_no_module():
    code = "import importlib, pylbpf; importlib.reload(pylbpf); import pylbpf.capi, pylbpf.verifying; pylbpf.features"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_archive_is_refused(tmp_path):
    package = Path(pylbpf.__file__).parent
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in package.glob("*.py"):
            archive.write(path, f"pylbpf/{path.name}")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'all.zip')!r}); import pylbpf"
    result = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1 and "cannot be imported from an archive" in result.stderr


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="there_is_no_such"):
        pylbpf.there_is_no_such


def test_star_import_gives_the_same_objects():
    names: dict = {}
    exec("from pylbpf import *", names)
    assert set(pylbpf.__all__) <= set(names) and names["Object"] is pylbpf.Object


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name):
    doc = inspect.getdoc(getattr(pylbpf, name))
    assert doc and doc != inspect.getdoc(type(getattr(pylbpf, name)))
    assert doc.splitlines()[0].strip()


def members(cls):
    for name, member in vars(cls).items():
        if not name.startswith("_") and (inspect.isroutine(member) or inspect.isdatadescriptor(member)
                                         or isinstance(member, (staticmethod, classmethod, property))):
            yield name, member


def is_plain_field(member) -> bool:
    """A C field that the class's docstring tells of."""
    return type(member).__name__ == "member_descriptor"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_public_method_has_a_docstring(cls):
    import enum
    if issubclass(cls, enum.Enum):
        assert cls.__doc__
        return
    for base in cls.__mro__:
        if not base.__module__.startswith("pylbpf"):
            continue
        for name, member in members(base):
            doc = getattr(member, "__doc__", None) or getattr(getattr(member, "__func__", None), "__doc__", None)
            if is_plain_field(member) or type(member).__name__ == "getset_descriptor" and not doc:
                assert re.search(rf"\b{name}\b", cls.__doc__ or ""), f"{cls.__name__} tells nothing of {name}"
            else:
                assert doc, f"{base.__name__}.{name} has no docstring"


def test_functions_and_methods_have_signatures():
    things = {f"{cls.__name__}.{name}": getattr(cls, name) for cls in CLASSES for name, member in members(cls) if inspect.isroutine(member)}
    things.update({name: getattr(pylbpf, name) for name in PUBLIC if inspect.isroutine(getattr(pylbpf, name))})
    assert len(things) > 150
    for name, thing in things.items():
        assert inspect.signature(thing) is not None, name
    assert "handlers" in inspect.signature(pylbpf.open).parameters
    assert list(inspect.signature(pylbpf.Map.update_many).parameters) == ["self", "keys", "values", "flags"]


# What pylbpf does by itself, or what other methods do; everything else names what it wraps.
OWN = {
    "Object": {"state", "closed", "programs", "maps", "links", "reopen", "ring_buffer", "user_ring_buffer", "perf_buffer"},
    "Program": {"object", "log", "fileno", "handler", "insn_count", "insns", "view_insns", "disassemble", "attach"},
    "Map": {"fileno", "close", "closed", "popitem"},
    "Link": {"close", "closed", "fileno", "name", "program"},
    "RingBuffer": {"closed", "close", "records", "stats", "start", "read_batch_async"},
    "UserRingBuffer": {"closed"},
    "Btf": set(),
}
C_NAME = re.compile(r"\b(bpf_\w+|btf_\w+|\w*ring_buffer_\w+|libbpf_\w+)\(\)")


@pytest.mark.parametrize("name", OWN)
def test_what_wraps_c_names_its_source(name):
    cls = getattr(pylbpf, name)
    for base in cls.__mro__:
        if base.__module__.startswith("pylbpf"):
            for member_name, member in members(base):
                # Of a static method the function has the words, not the wrapper.
                words = getattr(getattr(cls, member_name), "__doc__", None)
                if member_name not in OWN[name] and not is_plain_field(member) and words:
                    assert C_NAME.search(words), f"{name}.{member_name} names no C function"


@pytest.mark.parametrize("function", ["open", "set_print", "libbpf_version", "libbpf_version_string", "possible_cpus"])
def test_functions_that_wrap_c_name_their_source(function):
    assert C_NAME.search(getattr(pylbpf, function).__doc__)


def test_versions():
    major, minor = pylbpf.libbpf_version()
    assert (major, minor) >= (1, 1)
    assert pylbpf.libbpf_version_string().lstrip("v").startswith(f"{major}.{minor}")
    assert re.match(r"\d+\.\d+\.\d+", pylbpf.__version__)


def test_get_include_is_where_the_header_is():
    assert os.path.exists(os.path.join(pylbpf.get_include(), "pylbpf", "handler.h"))
