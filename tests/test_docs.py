"""The documentation is true: its examples run, its links lead somewhere, and every public name is in it.

The ```python blocks of a page run one after the other, in one namespace, beside compiled docs/examples. A comment
<!-- needs: bpf --> under the title is about the whole page; right above a block it is about that block, which then runs
by itself. What cannot run is ```text or ```console.
"""
from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

import kernel
import objects
import pylbpf
from handling import compiler_flags

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
if not DOCS.exists():
    pytest.skip("checkout: these tests read the documentation", allow_module_level=True)

PAGES = sorted(DOCS.glob("*.md"))
README = ROOT / "README.md"
NEEDS = re.compile(r"<!-- needs: ([\w. -]+?) -->")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


# ---------------------------------------------------------------- examples


class Block(NamedTuple):
    page: Path
    line: int
    code: str
    needs: str  # of this block alone


def needs_of_page(page: Path) -> str:
    if page == README:
        return "bpf"
    found = re.search(rf"^{NEEDS.pattern}\n\n", page.read_text().partition("## ")[0], re.MULTILINE)
    return found[1] if found else ""


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        if match[1] == "python":
            above = NEEDS.fullmatch(text[:match.start() - 1].rpartition("\n")[2])
            found.append(Block(page, text.count("\n", 0, match.start()) + 1, match[2], above[1] if above else ""))
    return found


def without() -> dict[str, object]:
    """need -> the reason why it is not met, "" if it is."""
    return {
        "": lambda: "",
        "bpf": kernel.no_bpf,
        "btf": lambda: kernel.no_bpf() or kernel.no_btf(),
        "perf_event": lambda: kernel.no_bpf() or kernel.no_perf_event(),
        "uprobe": lambda: kernel.no_uprobe(),
        "bpffs": kernel.no_bpf,
        "expedite": lambda: kernel.no_bpf() or (
            "" if os.access("/sys/kernel/rcu_expedited", os.W_OK) else "rcu_expedited: cannot be written"),
        "cffi": lambda: kernel.no_bpf() or no_module("cffi"),
        "numba": lambda: no_module("numba"),
        "setuptools": lambda: no_module("setuptools"),
        "cython": lambda: kernel.no_bpf() or no_module("Cython") or no_module("setuptools") or no_compiler(),
        "libbpf-1.6": lambda: kernel.no_bpf() or (
            "" if pylbpf.libbpf_version() >= (1, 6) else f"libbpf >= 1.6: this is {pylbpf.libbpf_version_string()}"),
    }


def no_module(name: str) -> str:
    return "" if importlib.util.find_spec(name) else f"{name}: not installed"


def no_compiler() -> str:
    return "" if shutil.which("cc") else "C compiler: not installed"


def skip_without(need: str) -> None:
    known = without()
    assert need in known, f"unknown need: {need}"
    if reason := known[need]():  # type: ignore[operator]
        pytest.skip(reason)


def cc(*arguments: str | Path) -> None:
    result = subprocess.run(
        ["cc", "-shared", "-fPIC", *map(str, arguments), *compiler_flags()],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
    )
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    """A folder with all that docs/examples has, compiled, under the names that the pages use."""
    folder = tmp_path_factory.mktemp("docs")
    try:
        for source in sorted(EXAMPLES.glob("*.bpf.c")):
            shutil.copy(objects.build(source), folder)
    except objects.bpfcc.CompilerMissing as error:
        pytest.skip(f"compiler: {error}")
    for source in EXAMPLES.glob("*.py"):
        shutil.copy(source, folder)
    return folder


@pytest.fixture(scope="session")
def with_library(compiled: Path) -> Path:
    """The same, with libquick.so."""
    if reason := no_compiler():
        pytest.skip(reason)
    cc("-O2", "-Wall", "-Werror", "-o", compiled / "libquick.so", EXAMPLES / "quick.c")
    return compiled


@pytest.fixture(scope="session")
def with_module(with_library: Path) -> Path:
    """The same, with the Cython module fast."""
    skip_without("cython")
    shutil.copy(EXAMPLES / "fast.pyx", with_library)
    import Cython.Compiler.Main as compiler

    options = compiler.CompilationOptions(include_path=[str(Path(pylbpf.__file__).parents[1])], language_level=3)
    result = compiler.compile([str(with_library / "fast.pyx")], options)
    assert not result.num_errors
    cc("-O1", "-w", f"-I{sysconfig.get_path('include')}", "-o",
       with_library / f"fast{sysconfig.get_config_var('EXT_SUFFIX')}", with_library / "fast.c")
    return with_library


@pytest.fixture
def usual_bpffs(private_mounts: None) -> Iterator[None]:
    """An empty BPF file system at its usual place, which nobody else sees."""
    place = Path("/sys/fs/bpf")
    try:
        kernel.mount("bpf", place)
    except OSError as error:
        pytest.skip(f"bpffs: cannot be mounted ({error.strerror})")
    yield
    kernel.unmount(place)


def marks(need: str) -> list[pytest.MarkDecorator]:
    return [] if need in ("", "numba") else [pytest.mark.bpf]


PLAIN = [
    pytest.param(page, id=page.name, marks=marks(needs_of_page(page)))
    for page in [README, *PAGES] if any(not block.needs for block in blocks(page))
]
SPECIAL = [
    pytest.param(block, id=f"{block.page.name}:{block.line}-{block.needs}", marks=marks(block.needs))
    for page in PAGES for block in blocks(page) if block.needs
]


@contextlib.contextmanager
def place(folder: Path) -> Iterator[types.ModuleType]:
    """As if one had started Python there: the folder is current, and modules are found in it."""
    module = types.ModuleType("example")
    before = os.getcwd()
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    try:
        yield module
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))
        pylbpf.set_print(None)
        leave_nothing(module)


def leave_nothing(module: types.ModuleType) -> None:
    """What the end of a script would do."""
    for thing in list(vars(module).values()):
        if isinstance(thing, (pylbpf.Object, pylbpf.Registration)):
            (thing.close if isinstance(thing, pylbpf.Object) else thing.unregister)()
    vars(module).clear()


def run_blocks(wanted: list[Block], folder: Path) -> str:
    with place(folder) as module, contextlib.redirect_stdout(io.StringIO()) as output:
        for block in wanted:
            # Line numbers are those of the page.
            code = compile("\n" * block.line + block.code, str(block.page), "exec", dont_inherit=True)
            exec(code, vars(module))
    return output.getvalue()


@pytest.mark.parametrize("page", PLAIN)
def test_examples_of_page(page, compiled, request):
    folder = request.getfixturevalue("with_library") if page.name == "native.md" else compiled
    run_blocks([block for block in blocks(page) if not block.needs], folder)


@pytest.mark.parametrize("block", SPECIAL)
def test_example_with_a_need(block, compiled, request):
    skip_without(block.needs)
    if block.needs == "bpffs":
        request.getfixturevalue("usual_bpffs")
    fixture = {"cython": "with_module", "cffi": "with_library"}.get(block.needs, "compiled")
    run_blocks([block], request.getfixturevalue(fixture))


def test_outputs_shown_are_those_given(compiled):
    """A ```text block right after a ```python block shows what that prints; checked where no number can differ."""
    text = (DOCS / "instructions.md").read_text()
    pattern = r"^```python\n(from pylbpf import disasm.*?)^```\n\n```text\n(.*?)^```"
    shown = re.search(pattern, text, re.MULTILINE | re.DOTALL)
    assert shown
    first = shown[1].partition("for ")[0]
    assert run_blocks([Block(DOCS / "instructions.md", 1, first, "")], compiled) == shown[2]


@pytest.mark.no_c
def test_every_page_says_which_language_its_blocks_are():
    for page in [README, *PAGES]:
        for match in FENCE.finditer(page.read_text()):
            assert match[1] in ("python", "c", "cython", "text", "console"), f"{page.name}: {match[0][:60]!r}"


@pytest.mark.no_c
def test_sources_shown_are_those_compiled():
    """A C or Cython block that looks like a file is that file, but for its comments."""

    def plain(text: str) -> list[str]:
        return re.sub(r"/\*.*?\*/|^//.*?$", " ", text, flags=re.DOTALL | re.MULTILINE).split()

    shown = next(m[2] for m in FENCE.finditer((DOCS / "first-steps.md").read_text()) if m[1] == "c")
    assert plain(shown) == plain((EXAMPLES / "hello.bpf.c").read_text())
    source = (EXAMPLES / "quick.c").read_text()
    native = [(m[1], m[2]) for m in FENCE.finditer((DOCS / "native.md").read_text())]
    shown = next(code for language, code in native if language == "c" and "quick_attach" in code)
    for part in shown.strip().split("\n\n"):
        assert part in source
    source = (EXAMPLES / "fast.pyx").read_text()
    shown = next(code for language, code in native if language == "cython")
    assert shown.partition("\n\n\n")[2] in source


# ---------------------------------------------------------------- links


@pytest.fixture(scope="session")
def checkout() -> None:
    """For what looks into the sources."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("checkout: the documentation is here without the sources")


def anchors(page: Path) -> set[str]:
    """As mkdocs, with the extension toc, makes them of headings."""
    text = re.sub(r"^```.*?^```$", "", expanded(page), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for title in HEADING.findall(text):
        slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())
        number, unique = 0, slug
        while unique in found:
            number += 1
            unique = f"{slug}_{number}"
        found.add(unique)
    return found


def expanded(page: Path) -> str:
    return reference().on_page_markdown(page.read_text()) if page.parent == DOCS else page.read_text()


def reference() -> types.ModuleType:
    """docs/reference.py, which makes the reference."""
    spec = importlib.util.spec_from_file_location("docs_reference", DOCS / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


@pytest.mark.no_c
@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if page == README and name == "benchmarks/":
            continue
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target} is none of {sorted(anchors(path))}"


@pytest.mark.no_c
def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert sorted(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == [page.name for page in PAGES]


@pytest.mark.no_c
def test_site_builds(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs: not installed")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stdout


# ---------------------------------------------------------------- rooms


@pytest.mark.no_c
@pytest.mark.usefixtures("checkout")
def test_rooms_follow_the_arrow():
    """Each room of the architecture page imports only from those above it, and none is left out."""
    text = (DOCS / "architecture.md").read_text()
    rooms = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    package = ROOT / "src" / "pylbpf"
    assert set(rooms) == {path.stem for path in package.glob("*.pyx")} - {"_version"}
    plain = {path.stem for path in package.glob("*.py")}     # of no room: they import nothing that is compiled but errors
    for number, room in enumerate(rooms):
        source = "".join(path.read_text() for path in package.glob(f"{room}.p[xy][dx]"))
        used = set(re.findall(r"^from \.(\w+) c?import", source, re.MULTILINE))
        assert used <= {*rooms[:number], room, "c", *plain}, f"{room} imports {used - set(rooms[:number])}"


# ---------------------------------------------------------------- completeness


def test_reference_has_every_public_name():
    text = (DOCS / "reference.md").read_text()
    named = set(reference().MARK.findall(text)) | {"__version__"}
    assert named == set(pylbpf.__all__)


@pytest.mark.usefixtures("checkout")
def test_reference_has_every_member():
    text = expanded(DOCS / "reference.md")
    for name in pylbpf.__all__:
        thing = getattr(pylbpf, name)
        if not isinstance(thing, type) or issubclass(thing, (BaseException, int)):
            continue
        for base in thing.__mro__[:-1]:
            if base.__module__.startswith("pylbpf"):
                for member in vars(base):
                    if not member.startswith("_") and base is thing:
                        assert re.search(rf"^#### {name}\.{member}(\(\))?$", text, re.MULTILINE), f"{name}.{member}"


def documented() -> Iterator[tuple[str, object]]:
    """Everything public that people call or read, by its name."""
    for name in pylbpf.__all__:
        thing = getattr(pylbpf, name)
        if name.startswith("__"):
            continue
        yield name, thing
        if isinstance(thing, type) and not issubclass(thing, (BaseException, int)):
            for base in thing.__mro__:
                if base.__module__.startswith("pylbpf"):
                    for member, value in vars(base).items():
                        described = inspect.isdatadescriptor(value) or isinstance(value, staticmethod)
                        if (described or callable(value)) and not member.startswith("_"):
                            yield f"{name}.{member}", getattr(base, member)


def told(name: str, thing: object) -> bool:
    """Whether there is a docstring, at the attribute or, for plain fields, at its class."""
    owner, _, member = name.partition(".")
    return bool((thing.__doc__ or "").strip()) or bool(
        type(thing).__name__ in ("getset_descriptor", "member_descriptor")
        and re.search(rf"``{member}``", getattr(pylbpf, owner).__doc__ or ""))


def test_everything_public_has_a_docstring():
    assert not [name for name, thing in documented() if not told(name, thing)]


# What no single C function stands behind: ours, or said at the class.
OURS = re.compile(
    r"(?x) Globals(\..*)? | Descriptors(\..*)?"
    r"| Object\.(state|closed|links|programs|maps|reopen|(user_)?ring_buffer|perf_buffer|detach_fds)"
    r"| Program\.(object|handler|log|fileno|insn_count|insns|view_insns|disassemble) | Insns?(\..*)?"
    r"| (Func|Line)Info(\..*)?"
    r"| Map | Map\.(fileno|close|closed|keys|items|popitem|sweep|to_\w+)"
    r"| MapView(\..*)? | Queue(\.(?!push|peek|pop$).*)? | BloomFilter(\.(?!add).*)?"
    r"| Btf | BtfKind | Member(\..*)?"
    r"| Link\.(closed|close|fileno|name|program) | LinkSet(\..*)?"
    r"| KernelProgram\.(close|closed|fd|fileno|pin_path) | Token\.(close|closed|fd|fileno) | Loader\.(insns|data|maps|programs)"
    r"| RingBuffer\.(closed|close|records|read_batch_async|start|stats) | Record(\..*)? | RecordBatch(\..*)? | Lease(\..*)?"
    r"| Consumer(\..*)? | Ring(Stats|State)(\..*)? | NativeCallback(\..*)?"
    r"| UserRingBuffer\.(closed|capacity|sent) | UserSample(\..*)?"
    r"| PerfEvent\.(closed|close|targets|name) | PerfBuffer\.(closed|close|records|read_batch_async|stats) | Perf(Record|Stats|Cpu)(\..*)?"
    r"| ProgramHandler\..* | NativeHandler(\..*)? | LoadOpts\..* | Registration(\..*)? | handlers | SectionInfo"
    r"| Load(Report|Result)(\..*)? | Verify(Report|Result|Comparison|Change)(\..*)?"
    r"| TestRun(\..*)? | (Program|Map|Btf)Info\..* | LinkInfo(\..*)? | AttachFlags | XdpFlags | query | features | symbols | xdp"
    r"| TcFilter(\..*)? | TcHook\.(interface|attach_point) | Linker\.path | link_files"
    r"| handler_stats | HandlerStats | \w+Error | NotSupported | State | get_(include|libraries|library_dirs) | Program"
)


def test_docstrings_name_what_they_wrap():
    source = re.compile(r"[a-z]\w*_\w+\(\)|(struct|enum) \w+|BPF_\w|linux/bpf\.h")
    wrapping = [(name, thing.__doc__ or "") for name, thing in documented() if not OURS.fullmatch(name)]
    assert not [name for name, text in wrapping if not source.search(text)]


@pytest.mark.no_c
def test_examples_run_on_the_oldest_python():
    """What is newer than 3.9 would be a syntax error there."""
    import ast

    for page in [README, *PAGES]:
        for block in blocks(page):
            ast.parse(block.code, feature_version=(3, 9))
