"""What there is to verify, and what was found: shared by the workers of one call."""
from cpython.object cimport PyObject
from posix.signal cimport sigset_t

from .c cimport libbpf, uapi
from .corebtf cimport pylbpf_names
from .handle cimport Rules
from .workers cimport Toil

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass

cdef extern from * nogil:
    """
    #define PYLBPF_NO_PLACE ((size_t)-1)
    """
    size_t NO_PLACE "PYLBPF_NO_PLACE"   # instead of a program's place in its object


cdef enum Verdict:
    REFUSED, FAILED, REJECTED, ACCEPTED


cdef struct Source:
    # An object. What it points to is kept by the crew.
    const char *path            # or NULL,
    const unsigned char *data   # and then the bytes are here
    size_t size
    const char *name            # for libbpf, or NULL
    int code                    # what is wrong with it, 0 or -errno,
    char *problem               # in words, or NULL
    size_t cost
    const char *btf             # the shared types, if they are enough for it, or NULL
    unsigned char *own          # what was read of the path, until its last program is done
    size_t *chosen              # which of its programs are to be verified,
    size_t programs             # so many
    size_t begun, ended
    Source *below               # on the pile of those that have programs left


cdef struct Finding:
    Finding *next
    size_t source
    size_t program              # its place in the object; NO_PLACE: this is about the object
    char *name
    char *section
    const char *type            # as libbpf calls it
    Verdict verdict
    int code                    # 0 or a positive number
    double seconds              # of the load
    size_t insns
    uapi.__u32 xlated, jited    # bytes
    char *statistics            # the log of the load,
    char *log                   # and the end of a longer one, if there was one
    char *said                  # what libbpf said
    PyObject *error             # owned: what a callback raised


cdef struct Work:
    # What the workers share.
    unsigned int generation     # of forks: a child has none of the workers
    pthread_mutex_t lock
    pthread_cond_t news
    bint cancelled
    bint memory_gone
    Source *sources
    size_t *order               # in which they are begun
    PyObject **handles          # one of each worker
    size_t kept                 # bytes of objects in memory
    pylbpf_names names          # types of the kernel that they ask for, all together
    PyObject *shared            # a SharedBtf for these, or NULL
    const char *btf             # and where it is
    size_t count
    size_t next
    size_t looking              # workers that are about to know what programs a source has
    size_t unknown              # sources of which nobody knows that yet,
    size_t known                # and what there is to tell of all the others
    Source *pile
    Finding *first              # what the waiting thread was not told yet
    Finding *last
    libbpf.bpf_object_open_opts opts
    const Rules *rules
    bint python                 # some callback is written in Python: each open has a handle of its own
    bint choosy                 # not all programs may be wanted
    unsigned int level          # of logs beside statistics: 0, WAY or ALL_WAYS
    unsigned int flags          # of all logs
    size_t keep                 # bytes of a log
    Toil *toil
    sigset_t *signals
    sigset_t *blocked
    PyObject *table             # of the handlers, for handles that are made later,
    PyObject *labels            # names of the objects, for people,
    PyObject *holders           # and the handles in use: lists
    PyObject *crew              # which all of this belongs to


cdef void begin_work(Work *work) noexcept
cdef void free_work(Work *work) noexcept
cdef bint take(Work *work, Source **source, size_t *program) noexcept nogil
cdef void publish(Work *work, Source *source, size_t known) noexcept nogil
cdef void end_program(Work *work, Source *source) noexcept nogil
cdef void cancel_work(Work *work, bint memory_gone) noexcept nogil
cdef void read_source(Source *source) noexcept nogil
cdef void survey_source(void *context, size_t at) noexcept nogil
cdef void choose_types(Work *work, Source *source) noexcept nogil
cdef Finding *make_finding(Work *work, Source *source, size_t program) noexcept nogil
cdef void add_finding(Work *work, Finding *finding) noexcept nogil
cdef Finding *next_finding(Work *work) noexcept nogil
cdef void free_finding(Finding *finding) noexcept
