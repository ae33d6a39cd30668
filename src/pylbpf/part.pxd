"""A part of an object: opened beside it, with the object's maps and some of its programs."""
from cpython.object cimport PyObject
from posix.signal cimport sigset_t

from .c cimport libbpf
from .call cimport Call, Stand
from .handle cimport Record
from .opening cimport Job


cdef struct Share:
    # A program and which part loads it, with what libbpf does not tell of it.
    libbpf.bpf_program *own
    size_t place                    # in the order of the file
    size_t weight
    size_t part
    const Record *record
    unsigned int ifindex            # or 0
    bint retyped                    # its type was changed, which makes libbpf forget its section
    const char *target              # what it is loaded for, or NULL,
    int target_fd                   # and in which program, or 0


cdef struct Part:
    libbpf.bpf_object *object
    Share *shares                   # what it loads, in order,
    Stand *stands                   # and its programs that stand for those
    size_t count
    Call call
    int code                        # 0 or -errno, once it was begun
    bint begun


cdef struct Plan:
    # What all parts have in common. None of it is a Python object.
    PyObject *handle                # of the object
    libbpf.bpf_object *object
    const Job *job                  # what parts are opened from
    Part *parts
    size_t failed                   # place of the first program that is known to fail
    bint verbose
    sigset_t *signals               # as in Call
    sigset_t *blocked


cdef void load_part(void *plan, size_t number) noexcept nogil
cdef void load_own(Plan *plan, Part *part) noexcept nogil
cdef size_t failing(const Part *part, bint *before_load) noexcept nogil
cdef size_t place_of(const Part *part, const char *name, size_t length) noexcept nogil
cdef void empty(libbpf.bpf_object *object, int null) noexcept nogil
