"""The call into libbpf in progress on this thread, and what it has said so far."""
from cpython.object cimport PyObject
from posix.signal cimport sigset_t

from .c cimport bpf, libbpf


cdef struct Stand:
    # A program of an object, and the one that was loaded for it in a part of the object; see `parallel`.
    libbpf.bpf_program *own
    libbpf.bpf_program *part


cdef struct Verdict:
    # One program's verifier log, in the order libbpf reported them.
    char *program
    char *text
    size_t length
    size_t whole            # its length before trim_verdicts() cut it
    bint rejected
    Verdict *next


cdef struct Call:
    Call *outer
    PyObject *handle        # borrowed: the caller holds it until leave()
    char *lines             # warnings of libbpf, newline separated
    size_t length
    size_t capacity
    Verdict *verdicts
    Verdict *last
    PyObject *error         # owned: first exception of a callback
    PyObject *result        # owned: what an attach callback returned
    const char *missing     # function that the running libbpf lacks ...
    const char *since       # ... and the version that has it
    bint verbose            # some program asked for its log of success
    int hearing             # listeners that hear of it right now
    bint suspended          # a callback runs: what that does in libbpf by itself is not ours
    sigset_t *signals       # the thread's own mask while signals are blocked, or NULL if none are,
    sigset_t *blocked       # and the mask that blocks them
    bint part               # it opens and loads a part of the object,
    const Stand *stands     # whose programs stand for these, in order
    size_t stand_count
    libbpf.bpf_program *preparing   # program of the object whose prepare_load runs here in Python, or NULL,
    libbpf.bpf_program *prepared    # the one that libbpf knows,
    bpf.bpf_prog_load_opts *opts    # what the callback may change,
    PyObject *loan                  # borrowed: list of the writable views it was given


cdef struct Stats:
    # How often callbacks of handlers ran, of any kind, and how often a trampoline took the GIL for one.
    long setup, prepare_load, attach, gil_acquired


cdef void let_signals_through(Call *call, bint through) noexcept nogil
cdef Call *current() noexcept nogil
cdef void enter(Call *call, PyObject *handle) noexcept nogil
cdef void leave(Call *call) noexcept nogil
cdef Call *keep_call(const Call *call) noexcept nogil
cdef Stats *statistics() noexcept nogil
cdef void count(long *counter) noexcept nogil
cdef void clear_text(Call *call) noexcept nogil
cdef void clear(Call *call) noexcept
cdef void keep_error(Call *call, object error) noexcept
cdef void note_missing(const char *name, const char *since) noexcept nogil
cdef void add_line(Call *call, const char *text, size_t length) noexcept nogil
cdef void add_verdict(Call *call, const char *program, size_t program_length, const char *text, size_t length,
                      bint rejected) noexcept nogil
cdef void trim_verdicts(Call *call, size_t limit) noexcept nogil
