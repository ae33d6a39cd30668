"""Exceptions, and the one place where a result of C becomes one."""
import errno as _errno
import os as _os

from cpython.object cimport PyObject

from .c cimport libbpf
from .call cimport Call, Verdict, clear, current, enter, leave

cdef enum:
    LIBBPF_ERRNO_START = 4000
    MAX_ERRNO = 4095


class BpfError(OSError):
    """A call into libbpf or the kernel failed.

    Attributes: ``errno``, ``strerror``, ``operation`` ("load"), ``subject`` ("app.bpf.o", as text) and ``log``, the
    lines in which libbpf explained the failure. An instance is also of the class that Python itself chooses for the
    number, so ``except PermissionError`` and ``except FileNotFoundError`` work.
    """

    def __init__(self, errno=0, strerror=None, operation=None, subject=None, log=""):
        super().__init__(errno, strerror)
        self.operation = operation
        self.subject = subject
        self.log = log

    def __str__(self):
        # The message is given as a whole, not as Python's "[Errno 1] ...", because what was attempted comes first.
        attempted = " ".join(str(part) for part in (self.operation, self.subject) if part)
        text = self.strerror or "unknown error"
        name = _errno.errorcode.get(self.errno)
        if name and self.strerror == _os.strerror(self.errno):
            text += f" ({name})"
        explanation = "".join(f"\n  {line}" for line in self._explanation())
        return (f"{attempted}: {text}" if attempted else text) + explanation

    def _explanation(self):
        return self.log.splitlines()[-8:]


class LibbpfError(BpfError):
    """An error of libbpf's own, numbered from 4000: not an ELF file, wrong format, unknown relocation and so on."""


class VerifierError(BpfError):
    """The kernel's verifier rejected a program.

    Attributes beside those of BpfError: ``program`` and ``section`` names, ``summary`` (the sentence that says why),
    ``insn`` (index of the failing instruction, or None), ``source`` (the line of C it came from, or None), ``log``
    (the whole verifier log, never cut) and ``log_true_size`` (its length in bytes).
    """

    program = section = summary = insn = source = None
    log_true_size = 0

    def _explanation(self):
        if self.source:
            yield f"; {self.source}"
        if self.summary:
            yield self.summary if self.insn is None else f"{self.insn}: {self.summary}"


class StateError(BpfError):
    """The object is in the wrong phase for this, or it is busy with a call that this one came out of."""


class HandlerBusyError(BpfError):
    """libbpf's table of handlers cannot change now, because programs of open objects point into it."""


class HandlerExistsError(BpfError, ValueError):
    """Another handler is registered for the same sections at the same priority."""


class NotSupported(BpfError):
    """The libbpf that runs, or the kernel, is too old; the message names the version that has it."""


cdef tuple _bases = (BlockingIOError, FileExistsError, FileNotFoundError, InterruptedError, IsADirectoryError,
                     NotADirectoryError, PermissionError, ProcessLookupError, TimeoutError)


def error_class(int number):
    """The class of BpfError for an errno."""
    if number >= LIBBPF_ERRNO_START:
        return LibbpfError
    base = type(OSError(number, ""))
    return class_beside(base) if base in _bases else BpfError


cdef object class_beside(object base):
    """A BpfError that is also what Python has for its number: made when first needed, for most never are."""
    cdef str name = "Bpf" + base.__name__
    made = globals().get(name)
    if made is None:
        made = type(name, (BpfError, base), {"__module__": __name__, "__doc__": f"A BpfError that is also a {base.__name__}."})
        made = globals().setdefault(name, made)     # another thread may have been first
    return made


def __getattr__(str name):
    """These classes by name, as pickles ask for them."""
    for base in _bases:
        if name == "Bpf" + base.__name__:
            return class_beside(base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


cdef str message_of(int number):
    cdef char buffer[256]
    if number < LIBBPF_ERRNO_START:
        return _os.strerror(number)
    if libbpf.libbpf_strerror(number, buffer, sizeof(buffer)) < 0:
        return f"libbpf error {number}"
    return buffer.decode("utf-8", "replace")


cdef object describe(object subject):
    return None if subject is None else str(subject)


cdef int fail(int code, str operation, object subject) except -1:
    raise error_class(code)(code, message_of(code), operation, describe(subject))


cdef int lacks(const char *name, const char *since, object subject) except -1:
    running = libbpf.libbpf_version_string().decode()
    raise NotSupported(
        _errno.EOPNOTSUPP,
        f"{name.decode()} needs libbpf {since.decode()}, the one that runs is {running.lstrip('v')}",
        None, describe(subject))


cdef int need(int major, int minor, str what) except -1:
    if (libbpf.libbpf_major_version(), libbpf.libbpf_minor_version()) < (major, minor):
        lacks(what.encode(), f"{major}.{minor}".encode(), None)
    return 0


# What a program may lack that the verifier has nothing against.
cdef frozenset SHORT_OF = frozenset((_errno.EMFILE, _errno.ENFILE, _errno.ENOMEM))


cdef object verifier_error(int number, const Verdict *verdict, str operation, object subject):
    from ._verifier import explain
    text = verdict.text[:verdict.length].decode("utf-8", "replace")
    error = VerifierError(number, message_of(number), operation, describe(subject), text)
    error.program = verdict.program.decode("utf-8", "surrogateescape")
    error.log_true_size = verdict.whole
    error.summary, error.insn, error.source = explain(text)
    error.subject = f"program '{error.program}' of {error.subject}"
    return error


cdef int raise_failure(Call *call, long code, str operation, object subject) except -1:
    cdef int number = <int>-code if -MAX_ERRNO <= code < 0 else _errno.EINVAL
    if call.error != NULL:
        raise <object>call.error
    if call.missing != NULL:
        lacks(call.missing, call.since, subject)
    if call.last != NULL and call.last.rejected and number not in SHORT_OF:
        raise verifier_error(number, call.last, operation, subject)
    log = call.lines[:call.length].decode("utf-8", "replace") if call.length else ""
    raise error_class(number)(number, message_of(number), operation, describe(subject), log)


cdef int finish(Call *call, long code, str operation, object subject) except -1:
    leave(call)
    if code >= 0 and call.error == NULL:
        if call.lines != NULL or call.verdicts != NULL or call.result != NULL:
            clear(call)
        return 0
    try:
        return raise_failure(call, code, operation, subject)
    finally:
        clear(call)


cdef int finish_kept(Call *kept, long code, str operation, object subject) except -1:
    cdef Call silent
    if kept == NULL:
        enter(&silent, NULL)
        return finish(&silent, code, operation, subject)
    kept.outer = current()      # it may have been entered on another thread
    return finish(kept, code, operation, subject)
