"""One object of many, opened and loaded on a worker's thread."""
from cpython.object cimport PyObject
from posix.signal cimport sigset_t

from .call cimport Call
from .corebtf cimport pylbpf_scan
from .opening cimport Job


cdef enum Trouble:
    # Why an item was not loaded, where neither libbpf nor the kernel was asked.
    NO_TROUBLE, WRONG_PHASE, VIEWS_IN_USE


cdef struct Task:
    # One item, as the workers see it.
    PyObject *handle            # borrowed: the batch keeps it
    Job *job                    # NULL for an object that was opened before
    Call call                   # of the load
    bint opened, begun          # whether the job's call and the load's were entered
    Trouble trouble
    int phase                   # in which an object was found, with WRONG_PHASE
    int code                    # of the load
    long long open_time, prepare_time, load_time    # nanoseconds
    unsigned long long instructions
    char *programs              # for each program a letter, its name and a NUL
    size_t programs_size
    char *section               # of the program that was rejected
    bint scanned
    pylbpf_scan found           # what it is going to cost, and its names of kernel types
    bint shares                 # the small BTF
    const char *plain           # why not


cdef struct Plan:
    # What all items have in common.
    Task *tasks
    PyObject *select            # a function, a frozenset of names, or NULL
    PyObject *found             # set of those names that there are
    const sigset_t *signals
    const sigset_t *blocked
    size_t log_limit
    bint prepares               # libbpf has prepare, which can be timed apart
    int *cancelled              # to be set at the first failure, or NULL
    PyObject *shared            # a SharedBtf, or NULL
    const char *shared_path


cdef void work_on_item(void *context, size_t item) noexcept nogil
cdef void scan_item(void *context, size_t item) noexcept nogil
