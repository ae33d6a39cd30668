"""The owner of one bpf_object, shared by its programs, maps and links."""
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_type_lock

from .c cimport libbpf
from .call cimport Call, Stand
from .spans cimport Span

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
    bint native                     # its setup was C code, which may have set what libbpf has no getter for


cdef struct Place:
    # Of something among its like, which are a ring in the order in which they came.
    Place *before
    Place *after
    PyObject *owner                 # borrowed: it leaves its place before it is gone; NULL in the ring's own


cdef inline void take_place(Place *place, Place *last) noexcept nogil:
    place.before = last.before
    place.after = last
    last.before.after = place
    last.before = place


cdef inline void leave_place(Place *place) noexcept nogil:
    if place.before != NULL:
        place.before.after = place.after
        place.after.before = place.before
        place.before = place.after = NULL


cdef class Handle:
    cdef libbpf.bpf_object *ptr
    cdef Phase phase
    cdef Py_ssize_t exports         # views of instructions: while there are any, nothing may move
    cdef Py_ssize_t mapped          # views of maps' memory, global variables among it: likewise
    cdef Place viewed               # the views that these are of
    cdef unsigned int moves         # how often instructions moved: older views are stale
    cdef dict moved                 # address of a program -> how often only its own did; or None
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
    cdef Place links                # destroyed before the object is closed
    cdef dict rings                 # id -> weak reference: closed after the links
    cdef dict logs                  # program name -> verifier log
    # What libbpf does not tell: program name -> ifindex; -> attach target and descriptor; whose type was changed
    cdef dict ifindexes
    cdef dict targets
    cdef set retyped
    cdef unsigned long long checksum    # of the file it was opened from; 0 for memory
    cdef bint loading               # from the relocation of instructions on, until the load has ended
    cdef bint parallel              # by several threads, which load parts of the object
    cdef Stand *stands              # programs that were left to parts, in program order; `part` is NULL until the end
    cdef size_t stand_count
    cdef libbpf.bpf_object **parts  # closed with the object
    cdef size_t part_count
    cdef Span *arenas               # that libbpf has mapped, until the object is freed
    cdef size_t arena_count
    cdef libbpf.bpf_program *attaching  # whose attach callback runs now, or NULL
    cdef bint verbose               # some program wants its verifier log of success
    cdef list kept                  # what a callback pointed libbpf to, until the load ends
    cdef list inner                 # maps whose descriptors libbpf borrows, until the object is closed
    cdef int preparing              # how many prepare_load callbacks run now
    cdef list made                  # links made by the attach callback that runs now, or None
    cdef int users                  # calls that go on with a program's descriptor, but without the lock
    cdef bint waiting               # for them to end, with the lock
    cdef object types               # what was made of its BTF: dtypes and the like
    cdef object owner               # weak reference to the Object
    cdef object __weakref__

    cdef libbpf.bpf_object *live(self) except NULL
    cdef bint usable(self) noexcept
    cdef int check_alive(self) except -1
    cdef int check_opener(self) except -1
    cdef int check_views(self, str operation) except -1
    cdef unsigned int moves_of(self, const libbpf.bpf_program *program) except? 0xffffffff
    cdef int note_move(self, const libbpf.bpf_program *program) except -1
    cdef Phase now(self) noexcept
    cdef int require(self, int phases, str operation) except -1
    cdef bint acquire(self, str operation) except -1
    cdef bint enter(self, str operation) except -1
    cdef bint inside(self) noexcept
    cdef Call *preparation(self, const libbpf.bpf_program *program) noexcept nogil
    cdef Stand *stand_of(self, const libbpf.bpf_program *program) noexcept nogil
    cdef libbpf.bpf_program *target(self, libbpf.bpf_program *program) noexcept nogil
    cdef int settle(self, const libbpf.bpf_program *program) except -1
    cdef void release(self) noexcept
    cdef int wait_users(self) except -1
    cdef int bind(self, libbpf.bpf_program *program, const Record *record) noexcept nogil
    cdef Binding *binding_of(self, const libbpf.bpf_program *program) noexcept nogil
    cdef const Record *record_of(self, const libbpf.bpf_program *program) noexcept nogil
    cdef void free_object(self) noexcept
    cdef list open_links(self)


# Of a program whose handler was dropped: it has no automatic attach.
cdef const Record *no_handler() noexcept nogil
cdef list enter_all(object handles, str operation)
cdef int release_all(list entered) except -1
cdef str phase_name(int phase)
cdef unsigned int forks


cdef inline unsigned int fork_generation() noexcept nogil:
    """Count of forks between the first process and this one: cheaper to compare than getpid()."""
    return forks
