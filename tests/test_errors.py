"""Exceptions: their classes, what they carry, and what they say."""
from __future__ import annotations

import copy
import ctypes
import errno
import os
import pickle

import pytest

import kernel
import objects
import pylbpf
from handling import run_python
from pylbpf import errors


@pytest.mark.parametrize("number, base", [
    (errno.EPERM, PermissionError), (errno.EACCES, PermissionError), (errno.ENOENT, FileNotFoundError),
    (errno.EEXIST, FileExistsError), (errno.ENOTDIR, NotADirectoryError), (errno.EISDIR, IsADirectoryError),
    (errno.EINTR, InterruptedError), (errno.EAGAIN, BlockingIOError), (errno.ESRCH, ProcessLookupError),
    (errno.ETIMEDOUT, TimeoutError),
])
def test_an_error_is_also_what_python_calls_it(number, base):
    cls = errors.error_class(number)
    assert issubclass(cls, pylbpf.BpfError) and issubclass(cls, base) and cls.__name__ == f"Bpf{base.__name__}"
    error = cls(number, os.strerror(number), "open", "x.bpf.o", "one line\n")
    assert (error.errno, error.operation, error.subject, error.log) == (number, "open", "x.bpf.o", "one line\n")
    assert isinstance(error, OSError) and getattr(errors, cls.__name__) is cls


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOMEM, errno.E2BIG, errno.EBUSY, 524, 3999])
def test_other_numbers_are_plain_bpf_errors(number):
    assert errors.error_class(number) is pylbpf.BpfError


@pytest.mark.parametrize("number", [4000, 4006, 4013, 4095])
def test_numbers_from_4000_are_libbpfs_own(number):
    assert errors.error_class(number) is pylbpf.LibbpfError


def test_hierarchy():
    for cls in (pylbpf.LibbpfError, pylbpf.VerifierError, pylbpf.StateError, pylbpf.HandlerBusyError,
                pylbpf.HandlerExistsError, pylbpf.NotSupported):
        assert issubclass(cls, pylbpf.BpfError) and issubclass(cls, OSError)
    assert issubclass(pylbpf.HandlerExistsError, ValueError)


def test_message_says_what_was_attempted_on_what(tmp_path):
    path = tmp_path / "missing.bpf.o"
    with pytest.raises(FileNotFoundError) as raised:
        pylbpf.open(path)
    error = raised.value
    assert str(error) == f"open {path}: No such file or directory (ENOENT)"
    assert (error.errno, error.strerror, error.operation, error.subject, error.log) == (
        errno.ENOENT, os.strerror(errno.ENOENT), "open", str(path), "")


def test_message_ends_with_what_libbpf_said(bpf_object, requires_bpf):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        with pytest.raises(pylbpf.BpfError) as raised:
            obj.programs["on_task_rename"].attach_raw_tracepoint("there_is_no_such")
    first, *rest = str(raised.value).splitlines()
    assert first == ("attach raw_tracepoint there_is_no_such program 'on_task_rename': "
                     "No such file or directory (ENOENT)")
    assert rest and all(line.startswith("  ") for line in rest)
    assert [line.strip() for line in rest] == raised.value.log.splitlines()
    assert "libbpf: " not in raised.value.log


def test_long_explanations_are_cut_in_the_message_only():
    log = "\n".join(f"line {n}" for n in range(50))
    error = pylbpf.BpfError(errno.EINVAL, os.strerror(errno.EINVAL), "load", "x", log)
    assert len(str(error).splitlines()) == 9 and str(error).endswith("line 49")
    assert len(error.log.splitlines()) == 50


def test_errors_without_anything_have_a_message():
    assert str(pylbpf.BpfError()) == "unknown error"
    assert str(pylbpf.BpfError(5)) and str(pylbpf.BpfError(5, None, "load")).startswith("load")


def test_libbpfs_own_codes_have_its_text(tmp_path):
    path = tmp_path / "text.bpf.o"
    path.write_text("no object at all, but long enough to hold the header of one, had it one; " * 4)
    with pytest.raises(pylbpf.LibbpfError) as raised:
        pylbpf.open(path)
    assert 4000 <= raised.value.errno <= 4013
    assert "open" in str(raised.value) and str(path) in str(raised.value)


# ---------------------------------------------------------------- the verifier


@pytest.fixture
def rejected(bpf_object, requires_bpf):
    with pylbpf.open(bpf_object("rejected")) as obj:
        with pytest.raises(pylbpf.VerifierError) as raised:
            obj.load()
        yield raised.value


def test_verifier_error_tells_program_section_summary_instruction_and_line(rejected):
    assert rejected.program == "careless" and rejected.section == "raw_tp/task_rename"
    assert rejected.summary == "R0 invalid mem access 'map_value_or_null'"
    assert rejected.source.startswith("*value += 1;")
    assert rejected.errno == errno.EACCES and rejected.operation == "load"
    assert f"\n{rejected.insn}: (" in rejected.log
    assert str(rejected).splitlines() == [
        "load program 'careless' of rejected.bpf.o: Permission denied (EACCES)",
        f"  ; {rejected.source}",
        f"  {rejected.insn}: R0 invalid mem access 'map_value_or_null'",
    ]


def test_verifier_error_has_the_whole_log(rejected):
    assert rejected.log.splitlines()[-1].startswith("processed ")
    assert rejected.log_true_size == len(rejected.log.encode())
    assert "BEGIN PROG LOAD LOG" not in rejected.log and "END PROG LOAD LOG" not in rejected.log


@pytest.mark.bpf
def test_long_log_is_never_cut(bpf_object):
    with pylbpf.open(bpf_object("long_log")) as obj:
        with pytest.raises(pylbpf.VerifierError) as raised:
            obj.load()
        error = raised.value
        assert error.log_true_size == len(error.log.encode()) > 1 << 20
        assert error.log.splitlines()[-1].startswith("processed ") and "0: " in error.log[:1000]
        assert error.summary and len(str(error)) < 1000
        assert obj.programs["walk"].log == error.log


@pytest.mark.bpf
def test_log_of_another_program_is_not_blamed(bpf_object):
    """The kernel refuses `second` before it verifies it, so without a log; that of `first` was a success."""
    with pylbpf.open(bpf_object("subprogs"), log_level=1) as obj:
        obj.programs["second"].flags = 1 << 30
        with pytest.raises(pylbpf.BpfError) as raised:
            obj.load()
        assert obj.programs["first"].log and not obj.programs["second"].log
    assert getattr(raised.value, "program", None) in (None, "second")
    assert "first" not in str(raised.value) and "second" in str(raised.value)


@pytest.mark.bpf
def test_missing_right_is_a_permission_error(bpf_object):
    """In a child that has given its capabilities away."""
    if kernel.has_capability("CAP_SYS_ADMIN") is False:
        pytest.skip("bpf(2): CAP_SYS_ADMIN missing")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            data = bpf_object("task_rename").read_bytes()
            os.setresuid(65534, 65534, 65534)
            try:
                with pylbpf.open(data) as obj:
                    obj.load()
                told = "loaded"
            except PermissionError as error:
                told = f"{isinstance(error, pylbpf.BpfError)} {error.errno in (errno.EPERM, errno.EACCES)}"
            except BaseException as error:
                told = repr(error)
            os.write(write, told.encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as pipe:
        told = pipe.read()
    assert told in ("True True", "loaded")  # the latter where kernel.unprivileged_bpf_disabled is 0


# ---------------------------------------------------------------- errno


@pytest.mark.bpf
def test_errno_left_by_a_success_is_no_failure(bpf_object):
    """open and load leave it dirty, and what others left there is not looked at."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in (errno.ENOENT, errno.EINTR, errno.EAGAIN, 4003):
        libc.close(-1)
        ctypes.set_errno(number)
        with pylbpf.open(bpf_object("task_rename")) as obj:
            obj.load()
            obj.programs["on_task_rename"].attach().close()
            assert obj.maps["counts"].lookup(bytes(4)) is not None


@pytest.mark.bpf
def test_failures_in_a_row_each_have_their_own_number(bpf_object, tmp_path):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load()
        program = obj.programs["on_task_rename"]
        for _ in range(3):
            for attempt, number in (
                (lambda: program.attach_raw_tracepoint("there_is_no_such"), errno.ENOENT),
                (lambda: pylbpf.open(tmp_path), errno.EISDIR),
                (lambda: pylbpf.Link.open(tmp_path / "nothing"), errno.ENOENT),
                (lambda: program.attach_perf_event(1 << 20), errno.EBADF),
            ):
                with pytest.raises(pylbpf.BpfError) as raised:
                    attempt()
                assert raised.value.errno == number


# ---------------------------------------------------------------- beyond the process


@pytest.mark.parametrize("make", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_errors_can_be_copied_and_pickled(make, rejected):
    for error in (rejected, errors.error_class(errno.ENOENT)(errno.ENOENT, "gone", "open", "x", "why"),
                  pylbpf.StateError(errno.EINVAL, "no", "load", "y"), pylbpf.NotSupported(95, "too old")):
        again = make(error)
        assert type(again) is type(error) and str(again) == str(error)
        assert (again.errno, again.operation, again.subject, again.log) == (
            error.errno, error.operation, error.subject, error.log)
    assert make(rejected).summary == rejected.summary and make(rejected).program == rejected.program


def test_errors_keep_nothing_of_the_object(bpf_object, requires_bpf):
    """A traceback may, the exception does not: descriptors go when the object does."""
    before = sorted(os.listdir("/proc/self/fd"))
    obj = pylbpf.open(bpf_object("rejected"))
    try:
        obj.load()
    except pylbpf.VerifierError as caught:
        error = caught.with_traceback(None)
    del obj
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert error.program == "careless"


def test_an_unsupported_program_type_is_no_verifier_error(requires_bpf):
    try:
        path = objects.build(objects.many(1, "raw_tp/task_rename"), "one_program")
    except objects.bpfcc.CompilerMissing as error:
        pytest.skip(f"compiler: {error}")
    with pylbpf.open(path) as obj:
        obj.programs["p0000"].type = 1000
        with pytest.raises(pylbpf.BpfError) as raised:
            obj.load()
    assert not isinstance(raised.value, pylbpf.VerifierError) and raised.value.errno == errno.EINVAL
    assert "p0000" in str(raised.value)


def test_want_of_descriptors_is_no_rejection(requires_bpf):
    """libbpf shows the log of a program that the verifier had nothing against."""
    path = objects.build(objects.many(6, "raw_tp/task_rename"), "short_of_descriptors")
    run_python(f"""
import os
import resource
import pylbpf

obj = pylbpf.open({str(path)!r})
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 2, hard))
try:
    obj.load()
    raise SystemExit("loaded")
except pylbpf.BpfError as error:
    assert type(error) is not pylbpf.VerifierError and error.errno == 24, repr(error)
    assert "Too many open files" in str(error)
""")
