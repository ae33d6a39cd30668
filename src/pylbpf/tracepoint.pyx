"""Attaching to tracepoints by a perf event of our own.

libbpf opens the perf event and does not tell which one it is. Whoever knows it can close it apart from the link, which
takes half of the time that detaching takes.
"""
from libc.errno cimport E2BIG, EINVAL, EIO, ENOENT, errno
from libc.stdio cimport snprintf
from libc.stdlib cimport strtol
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open as open_file
from posix.unistd cimport close, read

from .c cimport libbpf
from .log cimport warn

cdef extern from * nogil:
    """
    #include <string.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #include <linux/perf_event.h>

    static int pylbpf_open_event(int number)
    {
        struct perf_event_attr attr;

        memset(&attr, 0, sizeof(attr));
        attr.size = sizeof(attr);
        attr.type = PERF_TYPE_TRACEPOINT;
        attr.config = number;
        /* Programs run on all processors, wherever the event itself is. */
        return syscall(__NR_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
    }
    """
    int open_event "pylbpf_open_event"(int number)

cdef const char *TRACEFS = b"/sys/kernel/tracing"
cdef const char *DEBUGFS = b"/sys/kernel/debug/tracing"     # where it was before Linux 4.1


cdef int read_number(const char *path) noexcept nogil:
    """The number in a file, or -errno."""
    cdef char text[32]
    cdef char *end
    cdef long number
    cdef ssize_t length
    cdef int code
    cdef int fd = open_file(path, O_RDONLY | O_CLOEXEC)
    if fd < 0:
        return -errno
    length = read(fd, text, sizeof(text) - 1)
    code = -errno
    close(fd)
    if length < 0:
        return code
    text[length] = 0
    number = strtol(text, &end, 10)
    return <int>number if end != text and 0 <= number <= 0x7fffffff else -EIO


cdef int number_of(const char *category, const char *name) noexcept nogil:
    """The number by which perf knows a tracepoint, or -errno."""
    cdef char path[4096]
    cdef int found
    if snprintf(path, sizeof(path), b"%s/events/%s/%s/id", TRACEFS, category, name) >= <int>sizeof(path):
        return -E2BIG
    found = read_number(path)
    if found == -ENOENT and snprintf(path, sizeof(path), b"%s/events/%s/%s/id", DEBUGFS, category, name) < <int>sizeof(path):
        found = read_number(path)
    return found


cdef int explain(int code, const libbpf.bpf_program *program, const char *category, const char *name,
                 const char *what) noexcept nogil:
    """Return the number, having said in a warning what could not be done."""
    cdef char line[768]
    cdef char reason[128]
    libbpf.libbpf_strerror(code, reason, sizeof(reason))
    snprintf(line, sizeof(line), b"prog '%.128s': %s tracepoint '%.128s/%.256s': %s\n", libbpf.bpf_program__name(program),
             what, category, name, reason)
    warn(line)
    return code


cdef libbpf.bpf_link *attach_tracepoint(const libbpf.bpf_program *program, const char *category, const char *name,
                                        unsigned long long cookie, int *event) noexcept nogil:
    cdef libbpf.bpf_perf_event_opts opts
    cdef libbpf.bpf_link *link
    cdef int fd
    cdef int code = number_of(category, name)
    event[0] = -1
    if code < 0:
        (&errno)[0] = explain(-code, program, category, name, b"cannot find the number of")
        return NULL
    fd = open_event(code)
    if fd < 0:
        (&errno)[0] = explain(errno, program, category, name, b"cannot open a perf event for")
        return NULL
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.bpf_cookie = cookie
    link = libbpf.bpf_program__attach_perf_event_opts(program, fd, &opts)
    if link == NULL:
        code = errno if errno else EINVAL
        close(fd)
        (&errno)[0] = explain(code, program, category, name, b"cannot attach to")
        return NULL
    event[0] = fd
    return link
