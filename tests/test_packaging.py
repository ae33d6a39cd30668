"""What is shipped: the source distribution builds, the wheel has what other people's code needs, versions agree."""
from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import pylbpf

pytestmark = pytest.mark.no_c

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "pylbpf"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
NOT_SOURCES = shutil.ignore_patterns(".*", "build", "dist", "site", "__pycache__", "*.egg-info", "*.so")

if not (ROOT / "setup.py").exists():
    pytest.skip("checkout: these tests are about how it is packaged", allow_module_level=True)


def names(folder: Path, *patterns: str) -> set[str]:
    """Paths of the files of a folder, in the folder's own terms."""
    found = (path for pattern in patterns for path in folder.rglob(pattern) if path.is_file())
    hidden = re.compile(r"(^|/)(\.|__pycache__/)")
    return {path.as_posix() for path in (p.relative_to(folder) for p in found) if not hidden.search(path.as_posix())}


def python(*arguments: str | Path, cwd: Path) -> None:
    result = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280
    )
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made from a copy of the checkout and unpacked."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "checkout", ignore=NOT_SOURCES)
    python("setup.py", "-q", "sdist", "--dist-dir", folder, cwd=folder / "checkout")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / archive.name[: -len(".tar.gz")]


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> set[str]:
    """The files of the wheel that the source distribution makes, with the extension modules built here already."""
    built = sorted(PACKAGE.glob(f"*{SUFFIX}"))
    if not built:
        pytest.skip("built in place: nothing is, and building all modules anew takes minutes")
    lib = sdist / "build" / "lib" / "pylbpf"
    lib.mkdir(parents=True)
    shutil.copytree(ROOT / "build" / "cython", sdist / "build" / "cython")
    for module in built:
        shutil.copy(module, lib)
    # Newer than all sources, so that they are taken as they are.
    for path in (sdist / "build").rglob("*.c"):
        os.utime(path)
    for path in lib.iterdir():
        os.utime(path)
    python("setup.py", "-q", "build", "--build-lib", "build/lib", "bdist_wheel", "--dist-dir", sdist.parent, cwd=sdist)
    (archive,) = sdist.parent.glob("*.whl")
    with zipfile.ZipFile(archive) as file:
        return set(file.namelist())


def test_sdist_has_all_sources(sdist):
    for folder in ("src", "include", "tests", "benchmarks", "tools", "docs", "examples"):
        wanted = names(ROOT / folder, "*.py", "*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "*.md", "*.sh", "*.bpf.o", "py.typed")
        assert wanted <= names(sdist / folder, "*"), folder
    assert "pylbpf/demo/demo.bpf.o" in names(sdist / "src", "*.o")


def test_sdist_has_what_a_packager_needs(sdist):
    wanted = {
        "run", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "LICENSE.BSD-2-Clause", "LICENSE.LGPL-2.1",
        "pyproject.toml", "setup.py",
    }
    assert wanted <= {path.name for path in sdist.iterdir()}
    assert os.access(sdist / "run", os.X_OK)


def test_sdist_has_nothing_that_was_built(sdist):
    assert not names(sdist, "*.so", "*.pyc")
    examples = {f"examples/{path.name}" for path in ROOT.glob("examples/*.bpf.o")}
    assert examples and names(sdist, "*.o") == {"src/pylbpf/demo/demo.bpf.o", *examples}
    translated = {f"{name[:-len('.pyx')]}.c" for name in names(PACKAGE, "*.pyx")}
    assert not translated & {Path(name).name for name in names(sdist, "*.c")}


def test_wheel_has_every_module(wheel):
    for name in names(PACKAGE, "*.pyx"):
        assert f"pylbpf/{name[:-len('.pyx')]}{SUFFIX}" in wheel
    assert {f"pylbpf/{name}" for name in names(PACKAGE, "*.py")} <= wheel


def test_wheel_has_what_other_code_compiles_against(wheel):
    assert {f"pylbpf/{name}" for name in names(PACKAGE, "*.pxd")} <= wheel
    headers = names(ROOT / "include", "*.h")
    assert {"pylbpf/handler.h", "pylbpf/compat.h"} <= headers
    assert {f"pylbpf/include/{name}" for name in headers} <= wheel


def test_wheel_has_types(wheel):
    assert {f"pylbpf/{name}" for name in names(PACKAGE, "*.pyi")} | {"pylbpf/py.typed"} <= wheel


def test_wheel_has_the_demo_object_and_licences(wheel):
    assert "pylbpf/demo/demo.bpf.o" in wheel
    licences = {name.rpartition("/")[2] for name in wheel if "/licenses/" in name}
    assert licences == {"LICENSE", "LICENSE.BSD-2-Clause", "LICENSE.LGPL-2.1"}


def test_wheel_has_nothing_else(wheel):
    extra = {name for name in wheel if not name.startswith("pylbpf/") and ".dist-info/" not in name}
    assert not extra
    assert not {name for name in wheel if name.endswith((".pyx", ".pyc", ".c")) and "/demo/" not in name}


def test_versions_agree():
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert pylbpf.__version__ == stated
    assert importlib.metadata.version("pylbpf") == stated
    assert f"\n## [{stated}]" in (ROOT / "CHANGELOG.md").read_text()


def test_workflow_and_configuration_name_the_same_architectures():
    pytest.importorskip("tomllib")
    import tomllib
    workflow = ROOT / ".github" / "workflows" / "wheels.yml"
    if not workflow.exists():
        pytest.skip("checkout: there is no workflow here")
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert re.findall(r"{ arch: (\w+), runner", workflow.read_text()) == configuration["linux"]["archs"]


def test_headers_are_where_get_include_says():
    folder = Path(pylbpf.get_include(), "pylbpf")
    assert {path.name for path in folder.glob("*.h")} == {path.name for path in (ROOT / "include/pylbpf").glob("*.h")}


def test_licence_is_stated_as_in_the_files():
    expression = "LGPL-2.1-only OR BSD-2-Clause"
    assert f'license = "{expression}"' in (ROOT / "pyproject.toml").read_text()
    assert f"SPDX-License-Identifier: {expression}\n" in (ROOT / "LICENSE").read_text()
    assert importlib.metadata.metadata("pylbpf")["License-Expression"] == expression


def test_import_needs_neither_numpy_nor_rich():
    code = "import sys, json, pylbpf; print(json.dumps([name for name in ('numpy', 'rich') if name in sys.modules]))"
    assert json.loads(subprocess.check_output([sys.executable, "-c", code])) == []
