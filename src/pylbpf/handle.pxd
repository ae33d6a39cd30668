"""The owner of one bpf_object, shared by its programs, maps and links."""
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_type_lock

from .c cimport bpf, libbpf

cdef enum Phase:
    OPENING, OPEN, PREPARED, LOADED, FAILED, CLOSED


cdef enum:
    # What a nogil method of a handler returns that nobody overrode.
    PASS = -0x40000000

cdef class Handle
cdef struct Record
ctypedef object (*python_attach_t)(const Record *record, Handle handle, object program)

cdef struct Record:
    # A handler as the trampolines see it. Any of the functions may be NULL.
    libbpf.libbpf_prog_setup_fn_t setup
    libbpf.libbpf_prog_prepare_load_fn_t prepare_load
    libbpf.libbpf_prog_attach_fn_t attach
    python_attach_t python_attach   # instead of attach, when that is written in Python
    long cookie             # handed to the native functions
    PyObject *handler       # the ProgramHandler, kept alive by the table the record came from
    bint python_setup, python_prepare_load
    int program_type
    int expected_attach_type
    unsigned int program_flags
    int autoload            # -1: leave as it is
    bint override           # it can match sections that libbpf knows
    bint catch_all          # it is for what nothing else matches
    bint prepares           # its prepare_load must not get lost
    bint passes             # its functions may answer PASS

cdef struct Rules:
    # What an object is matched against when it is opened, in order of precedence.
    size_t count
    const char **patterns
    const Record **records


cdef struct Binding:
    libbpf.bpf_program *program
    const Record *record


cdef class Handle:
    cdef libbpf.bpf_object *ptr
    cdef Phase phase
    cdef Py_ssize_t exports         # views of instructions: while there are any, nothing may move
    cdef unsigned int moves         # how often instructions moved: older views are stale
    cdef unsigned int generation    # of forks: a child may not operate what its parent made
    cdef PyThread_type_lock lock
    cdef unsigned long holder       # thread that holds the lock, 0 for none
    cdef readonly str name
    cdef Binding *bindings          # in program order, which is also address order
    cdef size_t bound, capacity, hint
    cdef const Rules *rules         # of `table`, until the object is open
    cdef object table               # keeps the handlers of `rules` and `bindings` alive
    cdef bint registered            # bound to an entry of libbpf's own table of handlers
    cdef object guard               # keeps that entry, until the object is loaded
    cdef dict links                 # id -> weak reference: destroyed before the object is closed
    cdef dict rings                 # likewise, closed after the links
    cdef dict logs                  # program name -> verifier log
    cdef dict ifindexes             # program name -> ifindex, which libbpf does not tell
    cdef bint loading               # from the relocation of instructions on, until the load has ended
    cdef libbpf.bpf_program *attaching  # whose attach callback runs now, or NULL
    cdef bint verbose               # some program wants its verifier log of success
    cdef list kept                  # what a callback pointed libbpf to, until the load ends
    cdef libbpf.bpf_program *preparing  # whose prepare_load callback runs now, or NULL,
    cdef bpf.bpf_prog_load_opts *opts   # and what it may change
    cdef list writable              # views given to that callback
    cdef list made                  # links made by the attach callback that runs now, or None
    cdef object owner               # weak reference to the Object
    cdef object __weakref__

    cdef libbpf.bpf_object *live(self) except NULL
    cdef bint usable(self) noexcept
    cdef int check_alive(self) except -1
    cdef int check_opener(self) except -1
    cdef int check_views(self, str operation) except -1
    cdef Phase now(self) noexcept
    cdef int require(self, int phases, str operation) except -1
    cdef bint acquire(self, str operation) except -1
    cdef bint enter(self, str operation) except -1
    cdef int settle(self) except -1
    cdef void release(self) noexcept
    cdef int bind(self, libbpf.bpf_program *program, const Record *record) noexcept nogil
    cdef const Record *record_of(self, const libbpf.bpf_program *program) noexcept nogil
    cdef void free_object(self) noexcept


cdef list enter_all(object handles, str operation)
cdef int release_all(list entered) except -1
cdef unsigned int fork_generation() noexcept nogil
cdef str phase_name(int phase)
