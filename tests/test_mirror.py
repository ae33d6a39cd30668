"""The mirror of libbpf's headers is complete, true to them, and says rightly which version has what.

PYLBPF_LIBBPF_SOURCE=<libbpf tree> compares with that tree's headers and symbol map as well.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_c

HERE = Path(__file__).resolve().parent.parent
COMPAT = HERE / "include/pylbpf/compat.h"
MIRROR = HERE / "src/pylbpf/c"
HEADERS = ("libbpf.h", "bpf.h", "btf.h")
SOURCE = os.environ.get("PYLBPF_LIBBPF_SOURCE")

if shutil.which("pkg-config") is None or shutil.which("cc") is None:
    pytest.skip("C compiler: none, or no pkg-config", allow_module_level=True)

# Declared by the headers, absent from the mirror on purpose.
ABSENT = {
    "bpf_prog_test_run_attr": "struct of a function that 1.0 removed",
}

# Exported since 1.4 only, though 1.1's header has them.
DECLARED_EARLY = {"btf__new_split", "btf_ext__raw_data"}

# 1.8 is not released: without its header and map these are taken on trust.
UNRELEASED = {"bpf_program__attach_tracing_multi", "bpf_program__clone", "btf__new_empty_opts"}
UNRELEASED_STRUCTS = {"bpf_tracing_multi_opts", "bpf_log_opts", "btf_new_opts"}
UNRELEASED_FIELDS = {("bpf_map_create_opts", "log_opts")}


def pkg_config(*arguments):
    return subprocess.check_output(["pkg-config", *arguments, "libbpf"], text=True).strip()


def installed_version():
    return tuple(int(part) for part in pkg_config("--modversion").split(".")[:2])


def installed_headers():
    return Path(pkg_config("--variable=includedir"), "bpf")


needs_source = pytest.mark.skipif(not SOURCE, reason="libbpf source: PYLBPF_LIBBPF_SOURCE names none")
each_header_set = pytest.mark.parametrize(
    "headers",
    [
        pytest.param(installed_headers(), id="installed"),
        pytest.param(Path(SOURCE or ".", "src"), id="source", marks=needs_source),
    ],
)


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def declared_functions(headers):
    text = "".join(without_comments((headers / name).read_text()) for name in HEADERS)
    exported = re.findall(r"^(?:LIBBPF_API|int(?= libbpf_set_memlock))\b[^;(]*?(\w+)\(", text, re.M)
    inline = re.findall(r"^static inline\b[^;(]*?(\w+)\(", text, re.M)
    return {*exported, *inline}


def declared_structs(headers):
    text = "".join(without_comments((headers / name).read_text()) for name in HEADERS)
    return set(re.findall(r"^struct (\w+) \{", text, re.M))


def mirror_text():
    return "".join((MIRROR / name).with_suffix(".pxd").read_text() for name in HEADERS)


def mirrored_functions():
    """C name that Cython sees -> C name that is called."""
    functions = re.findall(r'^ {4}(?!ctypedef)[\w ]+[ *](\w+)(?: "(\w+)")?\((?!\*)', mirror_text(), re.M)
    return {name: called or name for name, called in functions}


def mirrored_structs():
    """libbpf's struct name -> (C name, fields); opaque ones have no fields."""
    found = re.findall(r'^ {4}struct (\w+)(?: "(\w+)")?:\n((?: {8}.+\n)+)', mirror_text(), re.M)
    return {
        name.removeprefix("struct_"): (
            cname or name,
            [re.search(r"(\w+)(?:\[\w+\])?$", line).group(1) for line in body.splitlines() if line.strip() != "pass"],
        )
        for name, cname, body in found
    }


def weak_functions():
    """Weak name -> version that its stub reports."""
    text = COMPAT.read_text()
    weak = re.findall(r"^PYLBPF_WEAK [^;]*?(\w+)\(", text, re.M)
    versions = dict(re.findall(r'PYLBPF_HAS\((\w+), "([\d.]+)"\)', text))
    assert len(weak) == len(set(weak))
    assert set(weak) == set(versions)
    return versions


def symbol_versions():
    """The table of libbpf.map: exported name -> "major.minor"."""
    versions, current = {}, None
    for line in Path(SOURCE, "src/libbpf.map").read_text().splitlines():
        if opened := re.match(r"LIBBPF_(\d+\.\d+)\.\d+ \{", line):
            current = opened.group(1)
        elif name := re.match(r"\s+(\w+);", line):
            versions[name.group(1)] = current
    return versions


def newer(version, than=(1, 1)):
    return tuple(int(part) for part in version.split(".")) > than


def compile_c(tmp_path, text, *flags, compiler="cc", suffix=".c", include=()):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler}: not installed")
    source = tmp_path / f"check{suffix}"
    source.write_text(text)
    paths = [f"-I{path}" for path in (*include, COMPAT.parent.parent)]
    command = [compiler, *flags, *paths, "-c", str(source), "-o", str(tmp_path / "check.o")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def source_include(tmp_path):
    """The headers of PYLBPF_LIBBPF_SOURCE, reachable as <bpf/...>."""
    include = tmp_path / "include"
    include.mkdir()
    (include / "bpf").symlink_to(Path(SOURCE, "src").resolve())
    return [include, Path(SOURCE, "include/uapi").resolve()]


@each_header_set
def test_every_function_is_mirrored(headers):
    missing = declared_functions(headers) - mirrored_functions().keys() - ABSENT.keys()
    assert not missing


@each_header_set
def test_every_struct_is_mirrored(headers):
    missing = declared_structs(headers) - mirrored_structs().keys() - ABSENT.keys()
    assert not missing


@needs_source
def test_nothing_is_invented():
    headers = Path(SOURCE, "src")
    functions = {name for name in mirrored_functions() if not name.startswith("pylbpf_")}
    assert functions - {"BPF_TC_PARENT"} - declared_functions(headers) <= UNRELEASED
    full = {name for name, (_, fields) in mirrored_structs().items() if fields and not name.startswith("link_create_")}
    assert full - {"perf_event_header"} - declared_structs(headers) <= UNRELEASED_STRUCTS


def test_absences_are_real():
    assert not ABSENT.keys() & mirrored_functions().keys()
    assert not ABSENT.keys() & mirrored_structs().keys()


def test_every_mirrored_function_compiles(tmp_path):
    names = sorted(set(mirrored_functions().values()) - {"BPF_TC_PARENT"})
    lines = [f"\t(void (*)(void)){name}," for name in names]
    lines = ['#include "pylbpf/compat.h"', "void (*const functions[])(void) = {", *lines, "};"]
    result = compile_c(tmp_path, "\n".join(lines) + "\n", "-Werror")
    assert result.returncode == 0, result.stderr


def members(types, name, path):
    """The C expressions of all fields of a mirrored struct, nameless ones of the kernel's included."""
    for kind, field in types[name][2]:
        if kind in types and types[kind][1] == "__pylbpf_nameless":
            yield from members(types, kind, f"{path}{field}.")
        else:
            yield path + field


def test_every_mirrored_field_compiles(tmp_path):
    text = mirror_text() + (MIRROR / "uapi.pxd").read_text()
    blocks = re.findall(r'^ {4}(struct|union) (\w+)(?: "(\w+)")?:\n((?: {8}.+\n)+)', text, re.M)
    types = {
        name: (kind, cname or name, re.findall(r"^ +(?:const )?(\w+)\b.*?(\w+)(?:\[\w+\])?$", body, re.M))
        for kind, name, cname, body in blocks
    }
    lines = ['#include "pylbpf/compat.h"', "#include <linux/perf_event.h>", "void use(void);", "void use(void)", "{"]
    for name, (kind, cname, _) in types.items():
        if cname != "__pylbpf_nameless":
            lines += [f"\t(void)(({kind} {cname} *)0)->{member};" for member in members(types, name, "")]
    result = compile_c(tmp_path, "\n".join(lines) + "\n}\n", "-Werror")
    assert result.returncode == 0, result.stderr
    assert len(lines) > 400


def test_every_stub_is_mirrored():
    stubs = set(re.findall(r"^static inline [^;]*?(pylbpf_compat_\w+)\(", COMPAT.read_text(), re.M))
    assert stubs == {name for name in mirrored_functions().values() if name.startswith("pylbpf_")}
    for name, called in mirrored_functions().items():
        assert called in (name, f"pylbpf_compat_{name}")


def test_every_newer_struct_is_mirrored():
    own = set(re.findall(r"^struct (pylbpf_\w+) \{", COMPAT.read_text(), re.M)) - {"pylbpf_missing"}
    assert own == {cname for cname, _ in mirrored_structs().values() if cname.startswith("pylbpf_")}


def test_weak_are_exactly_those_that_1_1_lacks():
    if installed_version() != (1, 1):
        pytest.skip(f"libbpf < 1.2: {'.'.join(map(str, installed_version()))} is installed")
    headers = installed_headers()
    absent = {name for name in mirrored_functions() if not name.startswith("pylbpf_")}
    absent -= declared_functions(headers) | {"BPF_TC_PARENT"}
    assert weak_functions().keys() == absent | DECLARED_EARLY


@needs_source
def test_weak_functions_name_the_version_that_has_them():
    table = symbol_versions()
    known = {name: version for name, version in table.items() if newer(version)}
    weak = weak_functions()
    assert weak.keys() - known.keys() <= UNRELEASED
    assert {name: version for name, version in weak.items() if name in known} == known
    assert all(weak[name] == "1.8" for name in UNRELEASED)


@needs_source
def test_layouts_are_those_of_the_header(tmp_path, source_include):
    known = declared_structs(Path(SOURCE, "src"))
    lines = ['#include "pylbpf/compat.h"']
    for name, (own, fields) in mirrored_structs().items():
        if name not in known or not own.startswith("pylbpf_"):
            continue
        unreleased = [field for field in fields if (name, field) in UNRELEASED_FIELDS]
        if not unreleased:
            lines.append(f'_Static_assert(sizeof(struct {own}) == sizeof(struct {name}), "{name}");')
        for field in fields:
            if field in unreleased:
                continue
            lines.append(
                f"_Static_assert(offsetof(struct {own}, {field}) == offsetof(struct {name}, {field})"
                f" && sizeof(((struct {own} *)0)->{field}) == sizeof(((struct {name} *)0)->{field}),"
                f' "{name}.{field}");'
            )
    for kind in sorted(re.findall(r"struct pylbpf_link_create_(\w+) \{", COMPAT.read_text())):
        body = re.search(rf"struct pylbpf_link_create_{kind} \{{(.*?)\}}", COMPAT.read_text(), re.S).group(1)
        for field in re.findall(r"(\w+);", body):
            theirs, ours = "struct bpf_link_create_opts", "struct pylbpf_bpf_link_create_opts"
            lines.append(
                f"_Static_assert(offsetof({ours}, {kind}.{field}) == offsetof({theirs}, {kind}.{field})"
                f" && sizeof((({ours} *)0)->{kind}.{field}) == sizeof((({theirs} *)0)->{kind}.{field}),"
                f' "{kind}.{field}");'
            )
    result = compile_c(tmp_path, "\n".join(lines) + "\n", "-std=gnu11", include=source_include)
    assert result.returncode == 0, result.stderr
    assert len(lines) > 150


def test_layouts_agree_with_the_installed_header(tmp_path):
    """An older header has fewer fields; those it has must sit at the same place."""
    text = "".join(without_comments((installed_headers() / name).read_text()) for name in HEADERS)
    lines = ['#include "pylbpf/compat.h"']
    for name, (own, fields) in mirrored_structs().items():
        body = re.search(rf"^struct {name} \{{(.*?)^\}};", text, re.M | re.S)
        if not body or not own.startswith("pylbpf_"):
            continue
        for field in fields:
            if re.search(rf"\b{field}\s*;", body.group(1)):
                lines.append(
                    f'_Static_assert(offsetof(struct {own}, {field}) == offsetof(struct {name}, {field}), "{field}");'
                )
    result = compile_c(tmp_path, "\n".join(lines) + "\n", "-std=gnu11")
    assert result.returncode == 0, result.stderr
    assert len(lines) > 50


@pytest.mark.parametrize(
    "compiler, suffix, standard", [("cc", ".c", "c11"), ("cc", ".c", "gnu11"), ("c++", ".cpp", "c++17")]
)
@pytest.mark.parametrize("newest", [False, pytest.param(True, marks=needs_source)], ids=["installed", "source"])
def test_compat_compiles_without_warnings(tmp_path, request, compiler, suffix, standard, newest):
    include = request.getfixturevalue("source_include") if newest else ()
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror"]
    result = compile_c(
        tmp_path, '#include "pylbpf/compat.h"\n', *flags, compiler=compiler, suffix=suffix, include=include
    )
    assert result.returncode == 0, result.stderr
