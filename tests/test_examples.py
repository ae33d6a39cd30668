"""The tools of examples/: they show what really happened, say what is missing, and their objects fit their sources."""
from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree

import pytest

import kernel
import objects
from objects import bpfcc
from test_demo import sections, without_rights

pytest.importorskip("rich")
numpy = pytest.importorskip("numpy")

FOLDER = objects.ROOT / "examples"
if not FOLDER.exists():
    pytest.skip("checkout: these tests run the examples", allow_module_level=True)

TOOLS = ["biolatency", "execsnoop", "opensnoop", "profile", "runqlat", "tcplife", "xdpcount"]
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}


def run(tool: str, *arguments: str, before: tuple[str, ...] = (), status: int = 0) -> str:
    """What a tool prints, on stderr too if it fails."""
    result = subprocess.run(
        [*before, sys.executable, str(FOLDER / f"{tool}.py"), *arguments], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=240, env=ENVIRONMENT)
    assert result.returncode == status, result.stderr
    assert status or result.stderr == ""
    return result.stdout + result.stderr


@contextlib.contextmanager
def running(tool: str, *arguments: str, ready: str, last: str = ""):
    """A tool that has begun: it has printed `ready`. Ctrl-C ends it, after the block and a line with `last`; what it printed
    then is in the list."""
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / f"{tool}.py"), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
    printed: list[str] = []
    try:
        for line in process.stdout:
            printed.append(line)
            if ready in line:
                break
        else:
            raise AssertionError("".join(printed))
        yield printed
        while last and last not in printed[-1]:
            printed.append(process.stdout.readline() or pytest.fail("".join(printed)))
        time.sleep(0.2)         # for what is on its way
        process.send_signal(signal.SIGINT)
        printed.append(process.communicate(timeout=120)[0])
        assert process.returncode == 0, printed
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# ---------------------------------------------------------------- each tool at work


@pytest.fixture
def btf(requires_bpf):
    if reason := kernel.no_btf():
        pytest.skip(reason)


@pytest.fixture
def tracing(requires_bpf):
    if kernel.tracefs() is None:
        pytest.skip("tracefs: not mounted")
    if reason := kernel.no_perf_event():
        pytest.skip(reason)


def test_execsnoop(btf):
    with running("execsnoop", "-T", ready="ARGUMENTS", last="x ...") as printed:
        subprocess.run(["/bin/sh", "-c", "/bin/true 'two words' three; :"], check=True)
        subprocess.run(["/bin/true", "x" * 300], check=True)
    lines = "".join(printed).splitlines()
    shell = next(line for line in lines if "/bin/sh -c" in line)
    child = next(line for line in lines if "/bin/true 'two words' three" in line and "/bin/sh" not in line)
    assert re.match(rf"\d\d:\d\d:\d\d sh +(\d+) +{os.getpid()} +{os.getuid()} ", shell)
    assert re.match(rf"\d\d:\d\d:\d\d true +\d+ +{shell.split()[2]} ", child)
    assert any(line.endswith("x ...") for line in lines)


def test_execsnoop_filters(btf):
    with running("execsnoop", "-n", "tru", "-u", str(os.getuid()), ready="ARGUMENTS", last="/bin/true") as printed:
        subprocess.run(["/bin/sh", "-c", "/bin/true; :"], check=True)
    lines = "".join(printed).splitlines()
    assert any("/bin/true" in line for line in lines[1:]) and not any(line.startswith("sh ") for line in lines)
    assert "there is no user" in run("execsnoop", "-u", "no such user", status=1)


def test_opensnoop(tracing, tmp_path):
    there, missing = tmp_path / "there", tmp_path / "missing"
    with running("opensnoop", "-p", str(os.getpid()), ready="PATH", last=str(missing)) as printed:
        there.write_text("x")
        with contextlib.suppress(FileNotFoundError):
            missing.read_text()
    text = "".join(printed)
    assert re.search(rf" {os.getpid()} +{os.getuid()} +\d+ w    {there}$", text, re.MULTILINE)
    assert re.search(rf" {os.getpid()} +{os.getuid()} +ENOENT r    {missing}$", text, re.MULTILINE)


def test_opensnoop_shows_failures_only(tracing, tmp_path):
    with running("opensnoop", "-x", "-p", str(os.getpid()), ready="PATH", last=str(tmp_path / "missing")) as printed:
        (tmp_path / "there").write_text("x")
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "missing").read_text()
    text = "".join(printed)
    assert str(tmp_path / "missing") in text and str(tmp_path / "there") not in text


def test_runqlat(btf):
    printed = run("runqlat", "0.2", "2")
    assert printed.count("distribution") == 2 and printed.count("count") == 2
    counted = [int(count) for count in re.findall(r"^ *\d+ → \d+ +(\d+)", printed, re.MULTILINE)]
    assert sum(counted) > 5
    with running("runqlat", "-p", str(os.getpid()), ready="Measuring") as lines:
        for _ in range(20):
            time.sleep(0.001)
    assert "distribution" in "".join(lines) or "nothing was counted" in "".join(lines)


def test_tcplife(btf):
    with running("tcplife", ready="COMMAND", last="127.0.0.1") as printed:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as accepted:
                client.sendall(bytes(10240))
                received = 0
                while received < 10240:
                    received += len(accepted.recv(65536))
                own = client.getsockname()[1]
                client.shutdown(socket.SHUT_RDWR)
    text = "".join(printed)
    match = re.search(rf"^ *{os.getpid()} \S+ .*127\.0\.0\.1 +{own} +127\.0\.0\.1 +{port} +(\S+) +(\S+) +(\S+)$", text,
                      re.MULTILINE)
    assert match, text
    assert float(match[1]) == pytest.approx(10, abs=0.2) and float(match[2]) == 0 and 0 < float(match[3]) < 60000


def test_biolatency(btf, tmp_path):
    """On a machine whose files are not on a block device there is nothing to see, but for what others write."""
    for options in ((), ("-Q",)):
        with running("biolatency", *options, ready="Measuring") as printed:
            for number in range(5):
                with open(tmp_path / str(number), "wb") as file:
                    file.write(bytes(65536))
                    os.fsync(file.fileno())
        on_device = os.path.exists(f"/sys/dev/block/{os.major(tmp_path.stat().st_dev)}:{os.minor(tmp_path.stat().st_dev)}")
        text = "".join(printed)
        assert "distribution" in text or not on_device and "nothing was counted" in text


def test_profile(requires_bpf, requires_perf_event, tmp_path):
    folded, picture = tmp_path / "folded", tmp_path / "flame.svg"
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        run("profile", "-F", "199", "-p", str(busy.pid), "--folded", str(folded), "--svg", str(picture), "0.5")
        table = run("profile", "-F", "199", "0.3")
    finally:
        busy.kill()
        busy.wait()
    lines = folded.read_text().splitlines()
    assert lines and sum(int(line.rpartition(" ")[2]) for line in lines) > 10
    assert all(line.startswith("python") for line in lines) and any("PyEval" in line for line in lines)
    root = xml.etree.ElementTree.parse(picture).getroot()
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert root.tag.endswith("svg") and any("100.0 %" in title for title in titles) and any("PyEval" in t for t in titles)
    assert "samples" in table and "%" in table
    assert "no perf event has the name" in run("profile", "-e", "nonsense", "0.1", status=2)


def test_xdpcount(requires_bpf):
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / "xdpcount.py"), "-i", "0.3", "-c", "4", "lo"], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        while process.poll() is None:
            sender.sendto(b"x" * 100, ("127.0.0.1", 9))
            time.sleep(0.01)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    match = re.search(r"UDP +│ +([\d,]+) +│ +([\d,]+) ", printed)
    assert match, printed
    packets, bytes_ = (int(number.replace(",", "")) for number in match.groups())
    assert packets > 5 and bytes_ >= 142 * packets - 10000


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize("tool", TOOLS)
def test_help(tool):
    printed = run(tool, "--help")
    assert "Usage:" in printed and "Linux" in " ".join(printed.split())
    source = (FOLDER / f"{tool}.py").read_text()
    assert source.count("\n") <= 150 and '"""' in source


@pytest.mark.parametrize("tool, arguments", [(tool, ["lo"] if tool == "xdpcount" else []) for tool in TOOLS])
def test_without_rights_says_so(tool, arguments):
    printed = run(tool, *arguments, before=without_rights(), status=1)
    assert "not allowed" in printed and "CAP_BPF" in printed and "Traceback" not in printed


def test_user_that_is_almost_a_number(btf):
    assert "there is no user" in run("execsnoop", "-u", "²", status=1)


# ---------------------------------------------------------------- their parts


@pytest.fixture
def parts(monkeypatch):
    """Import what lies beside the tools."""
    import importlib

    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return module

    return load


@pytest.mark.parametrize("tool, arguments, words", [
    *((tool, ("-p", pid), "--pid") for tool in ("opensnoop", "runqlat", "profile", "tcplife")
      for pid in ("0", "-1", "99999999999", "x")),
    *((tool, ("-d", seconds), "--duration") for tool in ("execsnoop", "opensnoop", "tcplife") for seconds in ("nan", "-1", "1e300")),
    *((tool, ("nan",), "INTERVAL") for tool in ("runqlat", "biolatency")), ("profile", ("nan",), "DURATION"),
    ("runqlat", ("1", "0"), "COUNT"), ("tcplife", ("-L", "65536"), "--local-port"), ("xdpcount", ("-i", "nan", "lo"), "--interval"),
    ("profile", ("--svg", "/no/such/folder/x.svg"), "No such file"), ("profile", ("--folded", "/"), "--folded"),
    ("profile", ("-F", "0"), "--frequency"),
])
def test_wrong_values_are_told_and_nothing_else(parts, tool, arguments, words):
    from click.testing import CliRunner

    result = CliRunner().invoke(parts(tool).main, arguments)
    assert result.exit_code == 2 and words in result.output and "Usage:" in result.output


def test_flame_graph_is_as_wide_as_the_counts(parts):
    flamegraph = parts("flamegraph")
    picture = flamegraph.svg({("a", "b"): 3, ("a", "<c>"): 1, ("d",): 4}, "1 & 2")
    root = xml.etree.ElementTree.fromstring(picture)
    ns = "{http://www.w3.org/2000/svg}"
    widths = {group.find(f"{ns}title").text: float(group.find(f"{ns}rect").get("width")) for group in root.iter(f"{ns}g")}
    assert widths == {"a: 4 samples, 50.0 %": 600, "b: 3 samples, 37.5 %": 450, "<c>: 1 samples, 12.5 %": 150,
                      "d: 4 samples, 50.0 %": 600}
    assert xml.etree.ElementTree.fromstring(flamegraph.svg({}, "empty")).tag == f"{ns}svg"


def test_histogram_is_drawn_up_to_its_last_slot(parts):
    from rich.console import Console

    histogram = parts("histogram")
    console = Console(file=io.StringIO(), width=80)
    histogram.draw(numpy.array([1, 0, 4, 0]), "µs", console)
    lines = console.file.getvalue().splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["0", "→", "1", "1"], ["2", "→", "3", "0"], ["4", "→", "7", "4"]]
    assert lines[3].count("█") == 40 and lines[1].count("█") == 10
    histogram.draw(numpy.zeros(4, "u8"), "µs", console)
    assert "nothing was counted" in console.file.getvalue()


# ---------------------------------------------------------------- their objects


@pytest.mark.parametrize("tool", TOOLS)
def test_object_is_small_and_says_nothing_of_where_it_was_made(tool):
    elf = (FOLDER / f"{tool}.bpf.o").read_bytes()
    assert len(elf) < 20 * 1024
    assert {".BTF", ".BTF.ext", ".maps"} <= sections(elf).keys()
    assert not [name for name in sections(elf) if ".debug" in name]
    assert str(objects.ROOT).encode() not in elf


@pytest.mark.parametrize("tool", TOOLS)
def test_object_is_what_its_compiler_makes_of_its_source(tool, tmp_path):
    try:
        rebuilt = bpfcc.compile(FOLDER / f"{tool}.bpf.c", tmp_path / f"{tool}.bpf.o", ident=True).read_bytes()
    except bpfcc.CompilerMissing as error:
        pytest.skip(f"compiler: {error}")
    shipped = (FOLDER / f"{tool}.bpf.o").read_bytes()
    assert sections(shipped).keys() == sections(rebuilt).keys()
    made_by, here = (sections(elf)[".comment"].rstrip(b"\0").decode() for elf in (shipped, rebuilt))
    if made_by != here:
        pytest.skip(f"same compiler: {tool}.bpf.o was made by {made_by}, here is {here}")
    assert shipped == rebuilt


def test_every_source_has_its_object_and_its_tool():
    assert {path.name[:-len(".bpf.c")] for path in FOLDER.glob("*.bpf.c")} == set(TOOLS)
    assert {path.name[:-len(".bpf.o")] for path in FOLDER.glob("*.bpf.o")} == set(TOOLS)
    readme = (FOLDER / "README.md").read_text()
    assert all(f"## {tool}" in readme for tool in TOOLS)
