"""Grace periods that end sooner, for a while.

What attaches or detaches often waits for an RCU grace period. /sys/kernel/rcu_expedited makes the kernel interrupt all
processors instead of waiting until they have come by on their own.
"""
import atexit as _atexit
import errno as _errno

cimport cython
from libc.errno cimport ENOENT, EROFS, errno
from posix.fcntl cimport O_CLOEXEC, O_RDWR, open as open_file
from posix.unistd cimport close, pread, pwrite

from .errors cimport fail
from .handle cimport fork_generation

from .errors import NotSupported

cdef extern from "<sys/file.h>" nogil:
    int flock(int fd, int operation)
    int LOCK_EX, LOCK_NB, LOCK_UN

cdef const char *SWITCH = b"/sys/kernel/rcu_expedited"

# All under the GIL, which is never given up in between.
cdef int _wanted = 0            # by how many
cdef int _fd = -1
cdef bint _raised = False       # by us, and so it is ours to put back
cdef char _before[16]
cdef Py_ssize_t _length = 0
cdef unsigned int _generation = 0


cdef int begin_expedite() except -1:
    """Raise the switch, unless it is; each call needs an end_expedite(). Raises BpfError if it cannot be written."""
    global _wanted, _fd, _raised, _length, _generation
    cdef int code
    if _generation != fork_generation():
        # What the parent has raised it puts back itself.
        _generation = fork_generation()
        _wanted = 0
    if _wanted == 0:
        _fd = open_file(SWITCH, O_RDWR | O_CLOEXEC)
        if _fd < 0 and (errno == ENOENT or errno == EROFS):
            raise NotSupported(_errno.EOPNOTSUPP, f"{SWITCH.decode()} is not there, or read-only", "expedite",
                               "grace periods")
        if _fd < 0:
            fail(errno, "write", SWITCH.decode())
        # Of several processes that do this the first one knows what was there before; the others leave it alone.
        _raised = flock(_fd, LOCK_EX | LOCK_NB) == 0
        if _raised:
            _length = pread(_fd, _before, sizeof(_before), 0)
            code = 0 if _length > 0 and pwrite(_fd, b"1", 1, 0) == 1 else errno
            if code:
                _raised = False
                close(_fd)
                fail(code, "write", SWITCH.decode())
    _wanted += 1
    return 0


cdef void end_expedite() noexcept:
    global _wanted
    if _wanted == 0 or _generation != fork_generation():
        return
    _wanted -= 1
    if _wanted == 0:
        put_back()


cdef void put_back() noexcept:
    global _raised
    if _raised:
        pwrite(_fd, _before, _length, 0)
        flock(_fd, LOCK_UN)         # a forked child may share the descriptor
    _raised = False
    close(_fd)


@cython.final
cdef class Expedited:
    """What expedited() returns. It may be entered again and again."""

    cdef int entered
    cdef unsigned int generation

    def __init__(self):
        raise TypeError("made by expedited()")

    def __enter__(self):
        begin_expedite()
        if self.generation != fork_generation():
            self.generation = fork_generation()
            self.entered = 0
        self.entered += 1

    def __exit__(self, *_):
        if self.entered and self.generation == fork_generation():
            self.entered -= 1
            end_expedite()


def expedited():
    """Return a context manager in which RCU grace periods are expedited in the whole system.

    Attaching and detaching tcx, XDP and perf links waits for grace periods, which then end in microseconds instead of
    milliseconds; the price is that each interrupts all processors. It writes 1 to /sys/kernel/rcu_expedited and
    puts back what was there when the last one of this process is left, also at exit. A process that is killed leaves
    it raised. Where another process of pylbpf has raised it, that one puts it back. A kernel with 1 in
    /sys/kernel/rcu_normal takes no notice. Raises PermissionError without the right to write it, NotSupported where
    there is no such file. Source: /sys/kernel/rcu_expedited, rcu_gp_is_expedited().
    """
    return Expedited.__new__(Expedited)


def _finish():
    """At exit."""
    global _wanted
    if _wanted and _generation == fork_generation():
        _wanted = 0
        put_back()


_atexit.register(_finish)
