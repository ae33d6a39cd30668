"""Many programs attached in one go."""
from cpython.object cimport PyObject

from .c cimport libbpf
from .call cimport Call
from .functions cimport Functions
from .handle cimport Handle, Record
from .link cimport Link


cdef struct Attempt:
    # One thing to attach, as it is seen without the GIL.
    PyObject *handle            # borrowed: the batch keeps it
    libbpf.bpf_program *program
    libbpf.bpf_program *target  # the same, or that of the part that loaded it
    libbpf.bpf_map *map         # of struct_ops, instead of a program
    const Record *record
    bint python                 # attached by Python
    bint together               # with its neighbours, on several threads
    bint reads                  # libbpf would read all functions of the kernel for it,
    const Functions *functions  # which were read already; or NULL
    bint owned                  # the object keeps the link
    bint tried
    int code
    libbpf.bpf_link *link
    int event
    Call *said                  # what libbpf had to tell, or NULL
    int *cancelled              # to be set if it fails, or NULL


cdef class Attaching:
    cdef list items             # Handles of objects that are attached as a whole, and Programs
    cdef object on_progress
    cdef unsigned int generation    # of forks
    cdef bint rollback
    cdef Attempt *attempts
    cdef size_t count, room, told
    cdef size_t readers         # how many attempts read
    cdef Functions functions
    cdef list subjects          # of each attempt its Program or Map; None as long as nobody needs it
    cdef dict several           # attempt -> links that a handler in Python made
    cdef dict raised            # attempt -> exception of Python
    cdef readonly list links
    cdef readonly list owned    # pairs of the Handle of an object that was given, and its links

    cdef Attempt *add(self, Handle handle, object subject) except NULL
    cdef int add_program(self, Handle handle, libbpf.bpf_program *program, object subject) except -1
    cdef int add_object(self, Handle handle) except -1
    cdef int gather(self) except -1
    cdef int check_twice(self) except -1
    cdef void read_once(self) noexcept
    cdef object subject(self, size_t at)
    cdef bint failed(self, size_t at)
    cdef object error(self, size_t at)
    cdef int tell(self) except -1
    cdef int attach_in_python(self, size_t at) except -1
    cdef size_t attach_together(self, size_t at, size_t end, int threads) except? 0
    cdef size_t attach_in_order(self, size_t at, size_t end) except? 0
    cdef int attach_all(self, int threads) except -1
    cdef Link wrap(self, size_t at)
    cdef object conclude(self)
    cdef int roll_back(self) except -1
    cdef object run(self, object threads, bint expedite)
