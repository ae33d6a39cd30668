"""The stubs: they pass mypy --strict, agree with the modules, and accept and refuse what people write."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "tests" / "typing"
ERROR = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: (?P<message>.*)")
EXPECTED = re.compile(r"  # error: (?P<message>.*)")

pytestmark = pytest.mark.no_c

pytest.importorskip("mypy", reason="mypy: not installed")
if not (ROOT / "src").exists():
    pytest.skip("checkout: these tests read its stubs", allow_module_level=True)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={**environment, "MYPYPATH": str(ROOT / "src")}, timeout=280,
    )


def errors(output: str) -> dict[tuple[str, int], list[str]]:
    """(file, line) -> messages."""
    found: dict[tuple[str, int], list[str]] = {}
    for match in filter(None, map(ERROR.match, output.splitlines())):
        found.setdefault((match["file"], int(match["line"])), []).append(match["message"])
    return found


@pytest.fixture(scope="module")
def checked(tmp_path_factory) -> str:
    """What mypy says of the package and of all programs, in one run."""
    result = run("mypy", "--strict", "--show-error-codes", "--cache-dir", tmp_path_factory.mktemp("mypy"),
                 "src/pylbpf", *sorted(PROGRAMS.glob("*.py")))
    assert result.returncode in (0, 1), result.stdout
    return result.stdout


def test_package_and_stubs_pass_strict(checked):
    wrong = [line for line in checked.splitlines() if line.startswith("src/") and ": error:" in line]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", sorted(path.name for path in PROGRAMS.glob("*.py")))
def test_program_gives_the_errors_it_names(checked, name):
    path = PROGRAMS / name
    expected = {
        number: match["message"]
        for number, line in enumerate(path.read_text().splitlines(), 1) if (match := EXPECTED.search(line))
    }
    given = {line: messages for (file, line), messages in errors(checked).items() if file == f"tests/typing/{name}"}
    for line, words in expected.items():
        said = given.get(line, [])
        assert any(words in message for message in said), f"line {line}: {words!r}, not {said}"
    assert set(given) == set(expected), {line: given[line] for line in set(given) - set(expected)}


def test_every_module_has_a_stub():
    """So that a type checker never has to guess what a compiled module holds."""
    package = ROOT / "src" / "pylbpf"
    assert {path.stem for path in package.glob("*.pyx")} <= {path.stem for path in package.glob("*.pyi")}


def test_stubs_carry_types_only():
    """Documentation is written once, in the modules."""
    for stub in (ROOT / "src" / "pylbpf").glob("*.pyi"):
        assert '"""' not in stub.read_text(), stub.name


def test_stubs_agree_with_the_modules():
    result = run("mypy.stubtest", "pylbpf", "--concise", "--ignore-unused-allowlist",
                 "--allowlist", PROGRAMS / "stubtest.txt")
    assert result.returncode == 0, result.stdout
