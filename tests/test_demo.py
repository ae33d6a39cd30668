"""`python -m pylbpf demo`, with and without the right to use bpf(2), and the object it brings along."""
from __future__ import annotations

import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kernel
import objects
import pylbpf
from objects import bpfcc

pytest.importorskip("rich")

FOLDER = Path(pylbpf.__file__).parent / "demo"
PROGRAMS = {
    "on_cpu": "sample/99", "on_exit": "watch", "every_call": "call", "execve": "call/execve", "openat": "call/openat",
    "unlinkat": "call/unlinkat", "connect": "call/connect", "on_switch": "raw_tp/sched_switch",
}
DEMO = [sys.executable, "-m", "pylbpf", "demo"]


def run(*arguments: str, before: tuple[str, ...] = ()) -> str:
    """What the demo prints; nothing on stderr, and exit status 0."""
    result = subprocess.run(
        [*before, *DEMO, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, timeout=150, env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout


def without_rights(*kept: str) -> tuple[str, ...]:
    """A prefix that takes all capabilities from a command but those named; files it may read as before."""
    dropped = ("setpriv", "--inh-caps", "-all", "--bounding-set", ",".join(("-all", *(f"+{name}" for name in kept))))
    if not kernel.has_capability("CAP_SYS_ADMIN"):
        if kept:
            pytest.skip("setpriv: CAP_SETPCAP missing")
        return ()
    try:
        works = subprocess.run([*dropped, "true"], stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        pytest.skip("setpriv: not installed (util-linux)")
    if not works:
        pytest.skip("setpriv: cannot drop capabilities here")
    return dropped


def callbacks(output: str, phase: str) -> dict[str, str]:
    """program -> section, of every line that tells of this callback."""
    return dict(re.findall(rf"^  {phase} +(\w+) +(\S+) ", output, re.MULTILINE))


def instructions(output: str) -> list[int]:
    return [int(index) for index in re.findall(r"^  (\d+): \([0-9a-f]{2}\) ", output, re.MULTILINE)]


# ---------------------------------------------------------------- with the right


@pytest.mark.bpf
def test_shows_every_callback_the_code_and_live_records():
    # An emulated processor takes seconds to start what is to be seen.
    output = run("--seconds", "15" if os.environ.get("PYLBPF_MACHINE") else "3")
    assert callbacks(output, "setup").items() >= PROGRAMS.items()
    assert callbacks(output, "prepare_load") == PROGRAMS
    assert callbacks(output, "attach") == PROGRAMS
    assert re.search(r"setup +ptrace +call/ptrace +left out: optional", output)
    assert re.search(r"setup +on_switch .* overridden: raw_tracepoint", output)

    from pylbpf.demo import machine

    number = machine.syscall_number("openat")
    assert re.search(rf"^  \d+: \(b4\) w\d = {number} +← SYSCALL = {number}$", output, re.MULTILINE)
    assert "0x5107" not in output and str(0x51070003) not in output  # no placeholder is left
    assert re.search(r"^opened in [\d.]+ ms, loaded in [\d.]+ ms, attached in [\d.]+ ms", output, re.MULTILINE)

    assert "everything is detached again" in output

    hits = {name: int(count) for name, count in re.findall(r"^  (\w+) +(\d+) hits", output, re.MULTILINE)}
    assert hits.keys() == PROGRAMS.keys()
    assert all(hits[name] > 0 for name in PROGRAMS), hits
    assert hits["every_call"] > hits["openat"] + hits["connect"]

    # A choice is shown: where much happens it takes longer until everything has had its turn.
    awaited = {r"pylbpf-guest +opens +/etc/hostname", r"pylbpf-guest +connects to +127\.0\.0\.1:53",
               r"pylbpf-guest +runs +/bin/true", r"pylbpf-guest +removes +\S*pylbpf-demo-", r"true +ends"}
    for seconds in (5, 10, 20, 0):
        seen = "\n".join(re.findall(r"^ +[\d.]+ s  cpu \d+ +\d+ (\S.*)$", output, re.MULTILINE))
        awaited = {words for words in awaited if not re.search(words, seen)}
        if not awaited or not seconds:
            break
        output = run("--seconds", str(seconds))
    assert not awaited


@pytest.mark.bpf
def test_without_activity_there_is_no_guest():
    """Those of others, as of a test beside this one, may be seen."""
    with subprocess.Popen([*DEMO, "--seconds", "60", "--no-activity"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as demo:
        try:
            seen = [next(line for line in demo.stdout if " links; " in line)]      # the last before it listens
            children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children")
            for _ in range(10):
                assert not children.exists() or children.read_text() == ""
                time.sleep(0.1)
        finally:
            demo.send_signal(signal.SIGINT)
            seen += demo.communicate(timeout=60)[0].splitlines()
    assert demo.returncode == 0 and not [line for line in seen if "of the demo's own" in line]


@pytest.mark.bpf
def test_on_a_terminal_it_draws_tables_and_ctrl_c_ends_it_cleanly():
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "50"}
    process = subprocess.Popen([*DEMO, "--seconds", "60"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    output, interrupted = b"", False
    try:
        while True:
            try:
                output += os.read(ours, 65536)
            except OSError:  # EIO: it has exited
                break
            if not interrupted and b"Ctrl-C ends" in output:
                process.send_signal(signal.SIGINT)
                interrupted = True
    finally:
        os.close(ours)
        if not interrupted:
            process.kill()
        status = process.wait(30)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    assert interrupted
    assert status == 0
    assert "Traceback" not in text
    assert re.search(r"program +SEC\(\) +handler +load ms +attach ms +hits", text)
    assert re.search(r"records through one ring buffer in", text)
    assert "everything is detached again" in text


@pytest.mark.bpf
def test_in_process_it_leaks_nothing_and_leaves_out_what_the_machine_lacks(monkeypatch):
    from rich.console import Console

    from pylbpf import demo

    numbers = demo.machine.syscall_number
    monkeypatch.setattr(demo.machine, "syscall_number", lambda name: None if name == "connect" else numbers(name))
    written = io.StringIO()
    assert demo.run(0.3, activity=False, console=Console(file=written, highlight=False)) == 0
    output = written.getvalue()
    assert re.search(r"setup +connect +call/connect +left out: its number on this machine is not known", output)
    assert "connect" not in callbacks(output, "prepare_load")
    assert "openat" in callbacks(output, "attach")


# ---------------------------------------------------------------- without it


def check_refused(output: str, *missing: str) -> None:
    assert "the kernel refuses: " in output
    assert f"missing: {' and '.join(missing)} (CAP_SYS_ADMIN would do" in output
    assert callbacks(output, "setup").items() >= PROGRAMS.items()
    assert "attach" not in [line.split()[0] for line in output.splitlines() if line.strip()]
    found = instructions(output)
    assert found[0] == 0 and len(found) > 15
    assert "nothing was loaded" in output


def test_without_capabilities_it_names_them_and_shows_what_it_can():
    check_refused(run("--seconds", "1", before=without_rights()), "CAP_BPF", "CAP_PERFMON")


def test_with_one_of_two_capabilities_it_names_the_other():
    before = without_rights("bpf")
    check_refused(run("--seconds", "1", before=before), "CAP_PERFMON")


def test_as_an_ordinary_user():
    if not kernel.has_capability("CAP_SYS_ADMIN"):
        pytest.skip("setpriv: CAP_SETUID missing (this run is an ordinary user's already)")
    before = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *without_rights()[1:])
    # Not every interpreter, nor every working copy, may be read by everybody.
    if subprocess.run([*before, sys.executable, "-c", "import pylbpf, rich, numpy"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("readable package: pylbpf is not installed where another user can read it")
    output = run("--seconds", "1", before=before)
    check_refused(output, "CAP_BPF", "CAP_PERFMON")
    if Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text().strip() != "0":
        assert "kernel.unprivileged_bpf_disabled = " in output


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "soon"])
def test_refuses_a_silly_time(seconds):
    result = subprocess.run([*DEMO, "--seconds", seconds], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2
    assert "--seconds" in result.stderr


# ---------------------------------------------------------------- its parts


def test_addresses_are_written_as_usual():
    from pylbpf.demo import records

    v4 = struct.pack("=H", socket.AF_INET) + struct.pack("!H", 443) + bytes([192, 0, 2, 1])
    v6 = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", 53, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    assert records.address(v4.ljust(80, b"\0")) == "192.0.2.1:443"
    assert records.address(v6.ljust(80, b"\0")) == "[2001:db8::1]:53"
    assert records.address(b"\x01\0/run/socket".ljust(80, b"\0")) == "/run/socket"
    assert records.address(b"\x01\0\0hidden".ljust(80, b"\0")) == "@hidden"
    assert records.address(b"\x10\0".ljust(80, b"\0")) == "address family 16"


def test_nothing_that_a_program_says_can_upset_the_terminal():
    from pylbpf.demo import records

    assert records.printable(b"a\x1b[2J\xff\nb\0junk") == "a\\x1b[2J\\xff\\x0ab"


def test_counters_are_summed_over_the_cpus():
    from pylbpf.demo import records

    assert records.count(struct.pack("=6Q", 1, 2, 3, 10, 20, 30)) == (11, 22, 33)


def test_a_bad_rate_in_a_section_name_is_a_clear_error():
    import pylbpf
    from pylbpf.demo.handlers import Sample, Story

    path = objects.build(objects.many(1, "sample/often"), "often")
    story = Story(lambda event: None, "p0000")
    with pytest.raises(ValueError, match=r'SEC\("sample/often"\): 1 to 10000 times'):
        pylbpf.open(path, handlers=[Sample(story)])


def test_watch_leaves_out_what_is_not_on_its_list():
    import pylbpf
    from pylbpf.demo.handlers import Story, Watch

    told = []
    path = objects.build(objects.many(1, "watch"), "watch")
    with pylbpf.open(path, handlers=[Watch(Story(told.append, "p0000"))]) as obj:
        assert not obj.programs["p0000"].autoload
    assert told[0].decision == "left out: not on the list of allowed events"


# ---------------------------------------------------------------- its object


def sections(elf: bytes) -> dict[str, bytes]:
    """Name -> content of the sections of a 64-bit little-endian ELF file."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    count, names = struct.unpack_from("<HH", elf, 0x3C)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, table + at * 64) for at in range(count)]
    strings = elf[headers[names][4]:]
    return {
        strings[header[0]: strings.index(b"\0", header[0])].decode(): elf[header[4]: header[4] + header[5]]
        for header in headers[1:]
    }


@pytest.fixture
def rebuilt(tmp_path):
    try:
        path = bpfcc.compile(FOLDER / "demo.bpf.c", tmp_path / "demo.bpf.o", ident=True)
    except bpfcc.CompilerMissing as error:
        pytest.skip(f"compiler: {error}")
    return path.read_bytes()


def test_the_object_is_small_and_says_nothing_of_where_it_was_made():
    elf = (FOLDER / "demo.bpf.o").read_bytes()
    assert len(elf) < 20 * 1024
    assert {".BTF", ".BTF.ext", ".maps"} <= sections(elf).keys()
    assert not [name for name in sections(elf) if ".debug" in name]
    assert b"./demo.bpf.c" in elf and str(objects.ROOT).encode() not in elf


def test_the_object_has_the_sections_of_its_source(rebuilt):
    shipped = sections((FOLDER / "demo.bpf.o").read_bytes())
    assert shipped.keys() == sections(rebuilt).keys()
    assert {section for section in shipped if re.fullmatch(r"\??(sample|watch|call|raw_tp)(/.*)?", section)} == {
        *PROGRAMS.values(), "?call/ptrace",
    }


def test_the_object_is_what_its_compiler_makes_of_its_source(rebuilt):
    shipped = (FOLDER / "demo.bpf.o").read_bytes()
    made_by, here = (sections(elf)[".comment"].rstrip(b"\0").decode() for elf in (shipped, rebuilt))
    if made_by != here:
        pytest.skip(f"same compiler: demo.bpf.o was made by {made_by}, here is {here}")
    assert shipped == rebuilt
