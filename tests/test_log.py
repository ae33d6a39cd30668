"""What libbpf says: to a listener, into exceptions, and never to stderr."""
from __future__ import annotations

import errno
import subprocess
import sys
import threading

import pytest

import objects
import pylbpf
from pylbpf import LogLevel


@pytest.fixture
def listen():
    """listen(level) -> a list that fills with (level, line)."""
    lines: list[tuple[LogLevel, str]] = []
    before = pylbpf.set_print(None)

    def start(level=None):
        pylbpf.set_print(lambda *line: lines.append(line), level)
        return lines

    yield start
    pylbpf.set_print(before)


def attach_to_nothing(obj):
    with pytest.raises(pylbpf.BpfError) as raised:
        obj.programs["on_task_rename"].attach_raw_tracepoint("there_is_no_such")
    return raised.value


def test_listener_gets_level_and_line(bpf_object, listen):
    lines = listen(LogLevel.DEBUG)
    pylbpf.open(bpf_object("task_rename")).close()
    assert lines and all(type(level) is LogLevel and type(line) is str for level, line in lines)
    assert LogLevel.DEBUG in {level for level, _ in lines}
    assert not [line for _, line in lines if line.endswith("\n") or line.startswith("libbpf: ")]
    assert any("task_ren" in line or "on_task_rename" in line for _, line in lines)


@pytest.mark.parametrize("level", [LogLevel.WARN, LogLevel.INFO, LogLevel.DEBUG, 0, 1, 2])
def test_listener_gets_lines_up_to_its_level(bpf_object, listen, level):
    lines = listen(level)
    pylbpf.open(bpf_object("task_rename")).close()
    assert all(told <= level for told, _ in lines)
    assert bool(lines) == (level == LogLevel.DEBUG)


@pytest.mark.bpf
def test_default_level_is_info(bpf_object, listen):
    lines = listen()
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        error = attach_to_nothing(obj)
    assert {level for level, _ in lines} == {LogLevel.WARN}
    assert [line for _, line in lines] == error.log.splitlines()


@pytest.mark.bpf
def test_warnings_are_in_the_exception_whether_or_not_somebody_listens(bpf_object, listen):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        silent = attach_to_nothing(obj).log
        listen(LogLevel.WARN)
        assert attach_to_nothing(obj).log == silent != ""


def test_set_print_returns_who_listened_before():
    def one(level, line):
        pass

    before = pylbpf.set_print(one)
    assert pylbpf.set_print(print, LogLevel.WARN) is one
    assert pylbpf.set_print(None) is print
    assert pylbpf.set_print(before) is None


@pytest.mark.parametrize("callback, level, error", [
    (5, None, TypeError), ("print", None, TypeError), (print, 3, ValueError), (print, -1, ValueError),
    (print, "x", (TypeError, ValueError)), (print, object(), TypeError), (print, 1 << 80, ValueError), (print, 1.5, TypeError),
])
def test_wrong_arguments_change_nothing(listen, bpf_object, callback, level, error):
    lines = listen(LogLevel.DEBUG)
    with pytest.raises(error):
        pylbpf.set_print(callback, level)
    pylbpf.open(bpf_object("task_rename")).close()
    assert lines


def test_exception_of_the_listener_is_unraisable_and_disturbs_nothing(bpf_object, listen, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: unraisable.append(hook.exc_type))

    def fail(level, line):
        raise ZeroDivisionError

    pylbpf.set_print(fail, LogLevel.DEBUG)
    with pylbpf.open(bpf_object("task_rename")) as obj:
        assert list(obj.programs) == ["on_task_rename"]
    pylbpf.set_print(None)
    assert set(unraisable) == {ZeroDivisionError}


def test_listener_may_open_another_object_and_change_the_listener(bpf_object, listen):
    opened, path = [], bpf_object("empty")

    def listener(level, line):
        pylbpf.set_print(None)
        with pylbpf.open(path) as obj:
            opened.append(obj.name)

    pylbpf.set_print(listener, LogLevel.DEBUG)
    pylbpf.open(bpf_object("task_rename")).close()
    assert opened == ["empty"]


def test_lines_come_on_the_thread_that_made_the_call(bpf_object, listen):
    threads: set[int] = set()
    pylbpf.set_print(lambda level, line: threads.add(threading.get_ident()), LogLevel.DEBUG)
    path = bpf_object("task_rename")
    idents: list[int] = []

    def work():
        idents.append(threading.get_ident())
        for _ in range(5):
            pylbpf.open(path).close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    pylbpf.set_print(None)
    assert threads == set(idents)


def test_long_lines_are_whole(bpf_object, listen):
    lines = listen(LogLevel.DEBUG)
    with pytest.raises(pylbpf.BpfError):
        with pylbpf.open(bpf_object("unknown")) as obj:
            obj.load()
    long = [line for _, line in lines if len(line) > 512]
    for line in long:  # the list of all sections
        assert "names are:" in line and not line.endswith("raw_")


@pytest.mark.bpf
def test_errno_survives_the_listener(bpf_object, listen):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)

    def spoil(level, line):
        libc.close(-1)
        open("/dev/null").close()

    pylbpf.set_print(spoil, LogLevel.DEBUG)
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        assert type(attach_to_nothing(obj)).__name__ == "BpfFileNotFoundError"


SILENT = """
import sys, pylbpf
for source in (b"", b"x" * 100, b"\\x7fELF" + bytes(200), open(sys.argv[1], "rb").read()[:700]):
    try:
        pylbpf.open(source)
    except pylbpf.BpfError:
        pass
with pylbpf.open(sys.argv[2]) as obj:
    try:
        obj.load()
    except pylbpf.BpfError as error:
        assert error.log or error.errno in (1, 13)
"""


def test_libbpf_never_writes_to_stderr(bpf_object):
    result = subprocess.run([sys.executable, "-c", SILENT, str(bpf_object("task_rename")), str(bpf_object("rejected"))],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (result.returncode, result.stdout) == (0, "")


AT_EXIT = """
import sys, threading, time, pylbpf
pylbpf.set_print(lambda level, line: None, 2)
def work():
    while True:
        pylbpf.open(sys.argv[1]).close()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
"""


def test_exit_while_threads_are_inside_libbpf_and_somebody_listens(bpf_object):
    for _ in range(3):
        result = subprocess.run([sys.executable, "-c", AT_EXIT, str(bpf_object("task_rename"))],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        assert (result.returncode, result.stdout) == (0, "")


def test_what_moves_is_not_shown_to_a_listener(requires_bpf, listen):
    refused = []

    def listener(level, line):
        try:
            memoryview(obj.programs["p0000"].insns)
        except pylbpf.StateError as error:
            refused.append(error.errno)

    with pylbpf.open(objects.build(objects.many(2, "raw_tp/task_rename", subprogram=True), "listened")) as obj:
        before = pylbpf.set_print(listener, LogLevel.DEBUG)
        try:
            obj.load()
        finally:
            pylbpf.set_print(before)
    assert refused and set(refused) == {errno.EBUSY}
