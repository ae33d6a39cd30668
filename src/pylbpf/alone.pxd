"""One program of an object, loaded by itself."""
from cpython.object cimport PyObject

from .backlog cimport Finding, Source, Work
from .c cimport libbpf
from .call cimport Call
from .opening cimport Job


cdef struct Worker:
    Work *work
    size_t place
    PyObject *handle            # of the open in progress, kept by the crew
    Job job
    Call call                   # of the last load
    PyObject *error             # owned: the first that a callback raised
    char *log
    size_t room


cdef bint make_room(Worker *worker, size_t room) noexcept nogil
cdef char *end_of(const char *log, size_t limit) noexcept nogil
cdef bint open_source(Worker *worker, Source *source) noexcept nogil
cdef int attempt(Worker *worker, Source *source, size_t place, unsigned int level, bint opened,
                 double *seconds) noexcept nogil
cdef void close_source(Worker *worker) noexcept nogil
cdef libbpf.bpf_program *program_at(libbpf.bpf_object *object, size_t place) noexcept nogil
cdef void take_words(Worker *worker, Call *call, Finding *finding) noexcept nogil
cdef void forget_call(Worker *worker, Call *call) noexcept nogil
cdef void drop(PyObject *error) noexcept nogil
