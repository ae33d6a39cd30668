"""The command line: its commands are found, what they print is for people or for pipes, mistakes are one line."""
from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import objects

click = pytest.importorskip("click")
pytest.importorskip("rich")

from pylbpf import VerifyReport, cli  # noqa: E402
from pylbpf.__main__ import main  # noqa: E402

PYLBPF = [sys.executable, "-m", "pylbpf"]


@pytest.fixture
def folder(tmp_path: Path, bpf_objects: Any) -> Path:
    """Two objects with five programs, of which one is rejected, and one that is damaged."""
    for name in ("rejected", "xdp"):
        shutil.copy(bpf_objects[name], tmp_path)
    (tmp_path / "damaged.bpf.o").write_bytes(b"\x7fELF")
    return tmp_path


def run(*arguments: object, status: int = 0) -> tuple[str, str]:
    """stdout and stderr of a command."""
    result = subprocess.run(
        [*PYLBPF, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONWARNINGS": "error"}, timeout=240,
    )
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout, result.stderr


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


# ---------------------------------------------------------------- commands


def test_help_names_every_command():
    output, _ = run("--help")
    for name in ("demo", "doctor", "verify"):
        assert re.search(rf"^  {name} +\S", output, re.MULTILINE)
        assert "Usage: pylbpf " + name in run(name, "-h")[0]


def test_every_module_is_a_command():
    names = {path.stem for path in Path(cli.__file__).parent.glob("[!_]*.py")}
    assert set(cli.commands.list_commands(click.Context(cli.commands))) == names
    for name in names:
        command = cli.commands.get_command(click.Context(cli.commands), name)
        assert isinstance(command, click.Command) and command.get_short_help_str()


def test_unknown_commands(capsys):
    assert main(["nothing"]) == 2
    assert "No such command 'nothing'" in capsys.readouterr().err
    for name in ("_screen", "__init__", ""):    # of which an older click takes the first two for options
        assert cli.commands.get_command(click.Context(cli.commands), name) is None


def test_what_fails_is_one_line(monkeypatch, capsys):
    @click.command()
    def command() -> None:
        raise FileNotFoundError(2, "no such thing", "x")

    monkeypatch.setattr(cli.Commands, "get_command", lambda self, context, name: command)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "pylbpf: [Errno 2] no such thing: 'x'\n"


def test_importing_the_library_does_not_import_the_command_line():
    code = "import sys, pylbpf; print(sorted({'click', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout == "[]\n"


# ---------------------------------------------------------------- verify


pytestmark = pytest.mark.bpf


def test_table(folder):
    output, said = run("verify", folder)
    table = rows(output)
    assert table[0] == "object program verdict insns states peak stack size jited ms reason".split()
    assert table[1][:2] == ["damaged.bpf.o", "refused"]
    assert [row[:3] for row in table[2:]] == [
        ["rejected.bpf.o", "careful", "accepted"], ["rejected.bpf.o", "careless", "rejected"],
        ["xdp.bpf.o", "pass", "accepted"], ["xdp.bpf.o", "pass_frags", "accepted"],
    ]
    assert "R0 invalid mem access 'map_value_or_null'" in output
    assert re.fullmatch(r"1 refused, 3 accepted, 1 rejected, \d+\.\d\d s\n", said)
    assert "\x1b" not in output + said and not re.search(r" $", output, re.MULTILINE)


def test_rows_are_whole_however_narrow(folder):
    name = "x" * 200 + ".bpf.o"
    shutil.copy(folder / "xdp.bpf.o", folder / name)
    assert name in run("verify", folder / name)[0]


def test_filters_and_order(folder):
    def programs(*options: str) -> list[str]:
        return [row[1] for row in rows(run("verify", folder, *options)[0])[1:]]

    assert programs("-f", "verdict=rejected") == ["careless"]
    assert programs("-f", "verdict!=re*", "-f", "insn_count > 10") == ["pass", "pass_frags"]
    assert programs("-f", "careful") == ["careful"] and programs("-f", "xdp*") == ["pass", "pass_frags"]
    assert programs("-f", "errno>=13", "-f", "errno<4000") == ["careless"]
    assert programs("--sort", "program", "-f", "verdict!=refused") == ["careful", "careless", "pass", "pass_frags"]
    sizes = [int(row[7]) for row in rows(run("verify", folder / "xdp.bpf.o", "-s", "jited_size")[0])[1:]]
    assert sizes == sorted(sizes, reverse=True)


def test_programs(folder):
    output, said = run("verify", folder, "--programs", "pass*", "-p", "careful", "--jobs", 2)
    assert [row[1] for row in rows(output)[2:]] == ["careful", "pass", "pass_frags"]
    assert said.startswith("1 refused, 3 accepted")


def test_files(folder, tmp_path):
    run("verify", folder, "--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json", "-f", "nothing")
    table = VerifyReport.from_csv(tmp_path / "a.csv")
    whole = VerifyReport.from_json(tmp_path / "a.json")
    assert len(table) == len(whole) == 5 and whole[2].log and whole.kernel == os.uname().release
    output, _ = run("verify", folder, "--csv", "-")
    assert output.startswith("object,path,") and len(output.splitlines()) == 6
    assert len(json.loads(run("verify", folder, "--json", "-", "--log-level", 2)[0])["results"][1]["log"]) > 200


def test_comparison(folder, tmp_path):
    run("verify", folder, "-q", "--json", tmp_path / "old.json", "--csv", tmp_path / "old.csv")
    assert "compared: no difference" in run("verify", folder, "-c", tmp_path / "old.json", "--fail-on", "worse")[1]
    text = (tmp_path / "old.csv").read_text()
    lines = text.splitlines()
    fields = dict(zip(lines[0].split(","), lines[4].split(",")))
    assert fields["program"] == "pass"
    lines[4] = lines[4].replace(f",{fields['insn_count']},", ",10,", 1)
    (tmp_path / "old.csv").write_text("\n".join(lines) + "\nbefore.bpf.o,,gone,,,accepted\n")
    output, said = run("verify", folder, "-c", tmp_path / "old.csv", "--fail-on", "worse", status=1)
    changes = output[output.index("change "):]
    assert re.search(r"^worse +xdp.bpf.o +pass +\w+ +10 +\d+ +\+\d+", changes, re.MULTILINE)
    assert re.search(r"^vanished +before.bpf.o +gone", changes, re.MULTILINE)
    assert "1 worse, 1 vanished" in said
    assert "compared: 1 vanished" in run("verify", folder, "-c", tmp_path / "old.csv", "--threshold", "900")[1]


@pytest.mark.parametrize("verdict, status", [("rejected", 1), ("refused", 1), ("failed", 0)])
def test_exit_status(folder, verdict, status):
    run("verify", folder, "-q", "--fail-on", verdict, status=status)
    run("verify", folder / "xdp.bpf.o", "--fail-on", verdict, status=0)


@pytest.mark.parametrize("arguments, words", [
    ([], "Missing argument"), (["{folder}/empty"], "no program was found"),
    (["x", "--fail-on", "worse"], "needs --compare"),
    (["x", "-f", "colour=red"], "'colour' is not a field"), (["x", "-f", "program<3"], "program is a text"),
    (["x", "-f", "insn_count<many"], "'many' is not a number"), (["x", "-c", "/nonexistent"], "No such file"),
    (["x", "-c", "{folder}/xdp.bpf.o"], "xdp.bpf.o"), (["x", "-c", "{folder}/no.json"], "no.json"),
    (["x", "--csv", "-", "--json", "-"], "standard output"), (["x", "--jobs", "0"], "jobs"),
    (["x", "-s", "colour"], "colour"), (["x", "--threshold", "nan"], "nan is not a number"), (["x", ""], "a path is empty"),
    (["x", "--fail-on", "doubt"], "doubt"),
])
def test_mistakes(folder, arguments, words):
    (folder / "empty").mkdir()
    (folder / "no.json").write_text("{}")
    output, said = run("verify", *(each.format(folder=folder) for each in arguments), status=2)
    assert output == "" and words in said and len(said.splitlines()) < 6


def test_a_file_that_cannot_be_written(folder):
    for option in ("--csv", "--json"):
        assert "cannot write to /nonexistent" in run("verify", folder, option, "/nonexistent/x.csv", status=2)[1]
    assert run("verify", folder, "--csv", "/dev/full", status=1)[1].startswith("pylbpf: [Errno 28]")


def test_nothing_that_a_file_is_called_can_upset_the_terminal(folder):
    shutil.copy(folder / "xdp.bpf.o", folder / "\x1b[2J[red]\n.o")
    output, _ = run("verify", folder / "\x1b[2J[red]\n.o")
    assert r"\x1b[2J[red]\n.o" in output and "\x1b" not in output


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict", "latin-1"])
def test_names_that_the_encoding_has_not_are_escaped(folder, encoding):
    names = ("h\u4e2d.bpf.o", os.fsdecode(b"h\xff.bpf.o"))
    for name in names:
        shutil.copy(folder / "xdp.bpf.o", folder / name)
    for arguments in (), ("--csv", "-"):
        result = subprocess.run([*PYLBPF, "verify", *arguments, *(folder / name for name in names)], capture_output=True,
                                env={**os.environ, "PYTHONIOENCODING": encoding}, check=False)
        assert result.returncode == 0 and b"accepted" in result.stdout and b"Traceback" not in result.stderr, result.stderr


def test_a_pipe_in_a_folder_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.o")
    assert "not a regular file" in run("verify", folder)[0]


def test_without_rights_it_says_so(folder):
    import kernel

    if not shutil.which("setpriv") or not kernel.has_capability("CAP_SYS_ADMIN"):
        pytest.skip("setpriv: not here, or CAP_SETPCAP missing")
    result = subprocess.run(["setpriv", "--inh-caps", "-all", "--bounding-set", "-all", *PYLBPF, "verify", folder],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0 and "CAP_BPF" in result.stderr


def terminal(*arguments: object, until: bytes = b"", send: int = 0) -> tuple[int, str]:
    """The status and the output of a command on a terminal of 100 columns."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "50"}
    environment.pop("NO_COLOR", None)
    command = [*PYLBPF, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    output, sent = b"", False
    try:
        while True:
            try:
                output += os.read(ours, 65536)
            except OSError:  # EIO: it has exited
                break
            if until and not sent and until in output:
                process.send_signal(send)
                sent = True
    finally:
        os.close(ours)
        status = process.wait(60)
    assert "Traceback" not in output.decode()
    return status, output.decode()


def test_on_a_terminal_there_is_colour_and_a_bar(folder):
    status, output = terminal("verify", folder)
    assert status == 0 and "\x1b[31mrejected" in output and "━" in output
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    assert all(len(line.rstrip()) <= 100 for line in plain.replace("\r", "\n").splitlines())


def test_ctrl_c_shows_what_was_found(bpf_objects, tmp_path):
    for at in range(60):
        shutil.copy(bpf_objects["rings"], tmp_path / f"rings{at:02}.bpf.o")
    status, output = terminal("verify", tmp_path, "--jobs", 1, until=b"/60", send=signal.SIGINT)
    assert status == 130 and "interrupted: " in output


def test_sources_are_taken_as_they_are_built(tmp_path):
    source = objects.build(objects.many(3, "xdp"), "three")
    assert len(rows(run("verify", source.parent / "*.bpf.o")[0])) == 4


# ---------------------------------------------------------------- top


@pytest.mark.bpf
def test_top_tells_what_runs(bpf_objects):
    import threading
    import pylbpf
    import rings

    with rings.loaded(bpf_objects["rings"]) as obj, obj.programs["send"].attach():
        id = obj.programs["send"].info().id
        over = threading.Event()

        def busy() -> None:
            while not over.wait(0.005):
                rings.send()

        thread = threading.Thread(target=busy)
        thread.start()
        try:
            output, _ = run("top", "--json", "-i", "0.3", "-n", "2")
            table, _ = run("top", "-i", "0.3")
        finally:
            over.set()
            thread.join()
        looks = [json.loads(line) for line in output.splitlines()]
        assert len(looks) == 2
        for look in looks:
            [row] = [row for row in look if row["id"] == id]
            assert row["name"] == "send" and row["runs/s"] > 1 and row["ns/run"] > 0 and row["cpu %"] >= 0
            assert any(f"({os.getpid()})" in each for each in row["held by"])
        assert table.split()[:3] == ["id", "type", "name"] and " send " in table
    assert id not in {row["id"] for row in json.loads(run("top", "--json", "-a", "-i", "0.05")[0])}
    assert pylbpf


def on_terminal(*arguments: str, until: bytes, key: bytes = b"") -> tuple[bytes, int]:
    """Run a command on a terminal of 24 lines; when it has written `until`, press a key. All output, and the status."""
    import fcntl
    import pty
    import struct
    import termios

    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    process = subprocess.Popen([sys.executable, "-m", "pylbpf", *arguments], stdin=its, stdout=its, stderr=its,
                               env={**os.environ, "TERM": "xterm"}, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                               start_new_session=True)
    os.close(its)
    output = b""
    with contextlib.suppress(OSError):      # EIO when the last writer is gone
        while part := os.read(ours, 1 << 16):
            output += part
            if key and until in output:
                os.write(ours, key)
                key = b""
    os.close(ours)
    assert until in output, output
    return output, process.wait(timeout=120)


@pytest.mark.bpf
@pytest.mark.parametrize("arguments, key", [(("-n", "3"), b""), ((), b"\x03")], ids=["counted", "Ctrl-C"])
def test_top_on_a_terminal_is_a_screen_of_its_own(bpf_objects, arguments, key):
    import rings

    with rings.loaded(bpf_objects["rings"]) as obj:
        id = obj.programs["send"].info().id
        output, status = on_terminal("top", "-a", "-i", "0.1", *arguments, until=b"cpu %", key=key)
        assert id
    assert status == 0
    begin, end = output.index(b"\x1b[?1049h"), output.rindex(b"\x1b[?1049l")     # the other screen, and back
    shown = output[begin:end]
    assert b"held by" in shown and b"Traceback" not in output
    assert output.count(b"\x1b[?25l") == output.count(b"\x1b[?25h") >= 1         # the cursor is back
    assert key or shown.count(b"held by") >= 3


def test_top_takes_no_nonsense():
    for arguments in ("-i", "0"), ("-n", "0"), ("-i", "x"):
        assert run("top", *arguments, status=2)[1]
