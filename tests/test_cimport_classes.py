"""Other people's Cython code can have the classes of every room, with nothing but what is installed."""
from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pylbpf
from handling import compiler_flags, environment

pytest.importorskip("Cython", reason="Cython: not installed")

PACKAGE = Path(pylbpf.__file__).parent
SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup
import pylbpf

setup(name="{name}", ext_modules=cythonize([Extension(
    "{name}", ["{name}.pyx"],
    include_dirs=["headers", pylbpf.get_include()],
    library_dirs=pylbpf.get_library_dirs(),
    libraries=pylbpf.get_libraries(),
    extra_compile_args=["-Wno-cpp", "-O0", "-fms-extensions"],
)]))
"""
# As kernels to come may have it: their structures grow.
NEWER = "".join([
    *(f"#define bpf_{kind}_info pylbpf_shorter_{kind}_info\n" for kind in ("prog", "map", "btf", "link")),
    "#include_next <linux/bpf.h>\n#ifndef PYLBPF_LONGER\n#define PYLBPF_LONGER\n",
    *(f"#undef bpf_{kind}_info\nstruct bpf_{kind}_info {{ struct pylbpf_shorter_{kind}_info; __u64 more[4]; }};\n"
      for kind in ("prog", "map", "btf", "link")),
    "#endif\n"])


def declared() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.glob("*.pxd")):
        for name in re.findall(r"^cdef class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield path.stem, name


@pytest.mark.parametrize("headers", ["same", "newer"])
def test_every_class_can_be_cimported(tmp_path, monkeypatch, headers):
    pairs = list(declared())
    assert {("handlers", "ProgramHandler"), ("kernelmap", "KernelMap"), ("ring", "Ring"), ("info", "MapInfo")} <= set(pairs)
    name = f"cimports_{headers}"
    (tmp_path / f"{name}.pyx").write_text("".join([
        "# cython: language_level=3\n",
        *(f"from pylbpf.{room} cimport {cls} as {room}_{cls}\n" for room, cls in pairs),
        *(f"cimport pylbpf.{path.stem}\n" for path in sorted(PACKAGE.glob("*.pxd")) if path.stem != "__init__"),
        "\n\ndef classes():\n    return [\n", *(f"        {room}_{cls},\n" for room, cls in pairs), "    ]\n"]))
    (tmp_path / "setup.py").write_text(SETUP.format(name=name))
    if headers == "newer":
        (tmp_path / "headers/linux").mkdir(parents=True)
        (tmp_path / "headers/linux/bpf.h").write_text(NEWER)
    flags = {"CFLAGS": " ".join(compiler_flags(libs=False)), "LDFLAGS": " ".join(compiler_flags(cflags=False))}
    build = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=tmp_path, env={**environment(), **flags},
                           capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    found = importlib.import_module(name).classes()
    assert [cls.__name__ for cls in found] == [cls for _, cls in pairs]
