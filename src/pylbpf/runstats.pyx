"""The kernel's statistics of running programs, counted as long as somebody wants them."""
cimport cython
from posix.unistd cimport close as close_fd

from .c cimport bpf, uapi
from .call cimport Call, enter
from .errors cimport finish

cdef enum:
    RUN_TIME = 0        # enum bpf_stats_type


@cython.final
cdef class StatsEnabled:
    """While this is open, the kernel measures how often and how long programs run, for ProgramInfo.run_cnt and its kin.

    For all programs of the system, which costs each run some 20 ns. Counters of several that are open do not interfere.
    """

    cdef int fd

    def __cinit__(self):
        self.fd = -1

    def __init__(self):
        raise TypeError("made by stats_enabled()")

    def __dealloc__(self):
        self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    cpdef void close(self) noexcept:
        """Stop measuring, if nobody else measures; a second time does nothing."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            close_fd(fd)

    def fileno(self):
        """The descriptor that keeps it on."""
        if self.fd < 0:
            raise ValueError("the statistics are closed")
        return self.fd


def stats_enabled():
    """Have the kernel measure running programs until the result is closed: with pylbpf.stats_enabled(): ...

    Raises PermissionError without CAP_SYS_ADMIN. Minimum kernel 5.8. Source: bpf_enable_stats().
    """
    cdef StatsEnabled stats = StatsEnabled.__new__(StatsEnabled)
    cdef Call call
    enter(&call, NULL)
    with nogil:
        stats.fd = bpf.bpf_enable_stats(<uapi.bpf_stats_type>RUN_TIME)
    finish(&call, stats.fd, "enable statistics", None)
    return stats
