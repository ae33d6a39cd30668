# cython: nonecheck=False
"""The owner of one bpf_object, shared by its programs, maps and links.

Whoever was handed out by an object keeps its handle; the handle keeps none of them, so reference counts alone free
everything, at a moment one can predict. It also carries the rules of use: phases, which libbpf has no getter for; one
lock, because libbpf lets one thread at a time into an object; and the mark of the process that made it.
"""
import errno as _errno

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_get_thread_ident,
    PyThread_release_lock, NOWAIT_LOCK, WAIT_LOCK,
)
from libc.stdlib cimport free, realloc
from posix.unistd cimport usleep
cimport cython

from .c cimport libbpf
from .call cimport Call, Stand, clear, current, enter, leave
from .spans cimport forget_span

from .errors import StateError

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)

cdef void on_fork() noexcept nogil:
    global forks
    forks += 1


pthread_atfork(NULL, NULL, on_fork)


PHASES = ("being opened", "open", "prepared", "loaded", "failed", "closed")


cdef str phase_name(int phase):
    return PHASES[phase]


@cython.final
@cython.no_gc_clear
cdef class Handle:
    def __cinit__(self):
        self.phase = OPENING
        self.generation = fork_generation()
        self.name = "object"
        self.links.before = self.links.after = &self.links
        self.viewed.before = self.viewed.after = &self.viewed
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError()

    def __init__(self):
        raise TypeError("handles are made by pylbpf.open()")

    def __dealloc__(self):
        self.free_object()
        free(self.bindings)
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    def __str__(self):
        return self.name

    cdef void free_object(self) noexcept:
        """Close the bpf_object. In a forked child that only closes numbers, which is harmless to the parent."""
        cdef libbpf.bpf_object *ptr = self.ptr
        cdef libbpf.bpf_object **parts = self.parts
        cdef size_t count = self.part_count
        cdef Call call
        cdef size_t at
        self.ptr = NULL
        self.parts = NULL
        self.part_count = self.stand_count = 0
        self.phase = CLOSED
        if ptr != NULL:
            enter(&call, NULL)
            with nogil:
                for at in range(count):
                    libbpf.bpf_object__close(parts[at])
                libbpf.bpf_object__close(ptr)
            leave(&call)
            clear(&call)
        free(parts)
        free(self.stands)
        self.stands = NULL
        for at in range(self.arena_count):
            forget_span(&self.arenas[at])
        self.arena_count = 0
        free(self.arenas)
        self.arenas = NULL

    cdef bint usable(self) noexcept:
        """Whether it can be asked for anything: neither closed nor another process's."""
        return self.phase != CLOSED and self.generation == forks

    cdef int check_alive(self) except -1:
        if self.phase == CLOSED:
            raise ValueError(f"{self.name} is closed")
        if self.generation != forks:
            raise StateError(_errno.EPERM, "made by the parent process; a forked child must open its own", None, self.name)
        return 0

    cdef libbpf.bpf_object *live(self) except NULL:
        self.check_alive()
        if self.ptr == NULL:
            raise StateError(_errno.EBUSY, "still being opened", None, self.name)
        return self.ptr

    cdef int check_opener(self) except -1:
        """While an object is being opened only its own callbacks may look: libbpf frees it at any moment if that fails."""
        if self.holder != PyThread_get_thread_ident():
            raise StateError(_errno.EBUSY, "still being opened by another thread", None, self.name)
        return 0

    cdef unsigned int moves_of(self, const libbpf.bpf_program *program) except? 0xffffffff:
        return self.moves if self.moved is None else self.moves + <unsigned int>self.moved.get(<size_t>program, 0)

    cdef int note_move(self, const libbpf.bpf_program *program) except -1:
        if self.moved is None:
            self.moved = {}
        self.moved[<size_t>program] = self.moved.get(<size_t>program, 0) + 1
        return 0

    cdef int check_views(self, str operation) except -1:
        if self.exports:
            raise BufferError(f"cannot {operation} {self.name}: {self.exports} views of its instructions are in use")
        if self.mapped:
            raise BufferError(f"cannot {operation} {self.name}: {self.mapped} views of its maps' memory are in use")
        return 0

    cdef Phase now(self) noexcept:
        """The phase; in the middle of a load what prepare() does is done."""
        return PREPARED if self.loading and self.phase == OPEN else self.phase

    cdef int require(self, int phases, str operation) except -1:
        """Raise unless the phase is one of `phases`, a sum of 1 << phase."""
        self.check_alive()
        if not phases & (1 << self.now()):
            expected = " or ".join(PHASES[phase] for phase in range(CLOSED) if phases & (1 << phase))
            raise StateError(_errno.EINVAL, f"the object is {PHASES[self.now()]}, it must be {expected}", operation, self.name)
        return 0

    cdef bint acquire(self, str operation) except -1:
        """Take the lock; wait for another thread, but raise if this very thread is inside a call."""
        cdef unsigned long me = PyThread_get_thread_ident()
        cdef PyThread_type_lock lock = self.lock
        self.check_alive()
        if self.inside():
            raise StateError(_errno.EBUSY, "called from inside a callback of the same object", operation, self.name)
        if not PyThread_acquire_lock(lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(lock, WAIT_LOCK)
        self.holder = me
        if self.phase == CLOSED:     # by the thread that we waited for
            self.release()
            self.check_alive()
        return True

    cdef bint enter(self, str operation) except -1:
        """Take the lock for a setter, which callbacks may call too; true if release() is due.

        While several threads load, only Program lets callbacks set anything: of the program that is theirs.
        """
        if self.holder == PyThread_get_thread_ident() and not self.parallel:
            self.check_alive()
            return False
        return self.acquire(operation)

    cdef bint inside(self) noexcept:
        """Whether this thread is in a call on this object: it holds the lock, or works for the one that does."""
        cdef Call *call = current()
        if self.holder == PyThread_get_thread_ident():
            return True
        while self.parallel and call != NULL:
            if call.handle == <PyObject *>self:
                return True
            call = call.outer
        return False

    cdef Call *preparation(self, const libbpf.bpf_program *program) noexcept nogil:
        """The call in whose prepare_load of this program this thread is, or NULL."""
        cdef Call *call = current()
        while call != NULL and (call.preparing != program or call.preparing == NULL):
            call = call.outer
        return call

    cdef Stand *stand_of(self, const libbpf.bpf_program *program) noexcept nogil:
        """If a program was left to a part: the entry that says so."""
        cdef size_t low = 0
        cdef size_t high = self.stand_count
        cdef size_t middle
        while low < high:
            middle = (low + high) // 2
            if self.stands[middle].own < program:
                low = middle + 1
            else:
                high = middle
        if low < self.stand_count and self.stands[low].own == program:
            return &self.stands[low]
        return NULL

    cdef libbpf.bpf_program *target(self, libbpf.bpf_program *program) noexcept nogil:
        """What libbpf is to be asked about a program: itself, or the one that was loaded for it in a part."""
        cdef Call *call
        cdef Stand *stand
        if self.stand_count == 0:
            return program
        if self.parallel:
            # Parts belong to their threads, and may come and go.
            call = self.preparation(program)
            return program if call == NULL else call.prepared
        stand = self.stand_of(program)
        return program if stand == NULL or stand.part == NULL else stand.part

    cdef int settle(self, const libbpf.bpf_program *program) except -1:
        """Wait until a load on another thread, which moves instructions, is over."""
        cdef Call *call = current()
        if not self.loading:
            return 0
        if self.parallel:
            while call != NULL:
                if call.handle == <PyObject *>self and call.prepared == program:
                    return 0
                call = call.outer
        elif self.holder == PyThread_get_thread_ident():
            while call != NULL:
                if call.handle == <PyObject *>self and call.hearing and call.prepared == NULL:
                    raise StateError(_errno.EBUSY, "being loaded, which a listener hears of", None, self.name)
                call = call.outer
            return 0
        if self.preparing or self.inside():
            # A callback may be waiting for us.
            raise StateError(_errno.EBUSY, "being loaded by another thread, which is in a callback", None, self.name)
        self.acquire("look into")
        self.release()
        return 0

    cdef void release(self) noexcept:
        self.holder = 0
        PyThread_release_lock(self.lock)

    cdef int wait_users(self) except -1:
        """Until no other thread is in a call with a program's descriptor, which is about to be closed."""
        self.waiting = True
        try:
            while self.users:
                with nogil:
                    usleep(50)
                PyErr_CheckSignals()
        finally:
            self.waiting = False
        return 0

    cdef int bind(self, libbpf.bpf_program *program, const Record *record) noexcept nogil:
        cdef size_t capacity
        cdef Binding *grown
        if self.bound == self.capacity:
            capacity = self.capacity * 2 if self.capacity else 16
            grown = <Binding *>realloc(self.bindings, capacity * sizeof(Binding))
            if grown == NULL:
                return -_errno_nomem
            self.bindings = grown
            self.capacity = capacity
        self.bindings[self.bound].program = program
        self.bindings[self.bound].record = record
        self.bindings[self.bound].native = False
        self.bound += 1
        return 0

    cdef Binding *binding_of(self, const libbpf.bpf_program *program) noexcept nogil:
        """What a program was bound to when it was opened, or NULL."""
        cdef size_t low = 0
        cdef size_t high = self.bound
        cdef size_t middle
        cdef size_t hint = self.hint
        # Programs are loaded and attached in order: most often it is the one after the last.
        if hint < high and self.bindings[hint].program == program:
            self.hint = hint + 1
            return &self.bindings[hint]
        while low < high:
            middle = (low + high) // 2
            if self.bindings[middle].program < program:
                low = middle + 1
            else:
                high = middle
        if low < self.bound and self.bindings[low].program == program:
            self.hint = low + 1
            return &self.bindings[low]
        return NULL

    cdef const Record *record_of(self, const libbpf.bpf_program *program) noexcept nogil:
        """The handler a program was bound to, or NULL."""
        cdef Binding *binding = self.binding_of(program)
        if binding == NULL:
            return NULL
        return binding.record

    cdef list open_links(self):
        """The links of the object, in the order in which they were made."""
        cdef list links = []
        cdef Place *place = self.links.after
        while place != &self.links:
            links.append(<object>place.owner)
            place = place.after
        return links


cdef Record _none
_none.autoload = -1


cdef const Record *no_handler() noexcept nogil:
    return &_none


cdef list enter_all(object handles, str operation):
    """Take the locks of several objects; return those that release_all() must give back.

    In the order of their addresses, so that two threads that want the same ones do not wait for each other.
    """
    cdef Handle handle
    cdef list entered = []
    try:
        for handle in sorted(set(handles), key=id):
            if handle.enter(operation):
                entered.append(handle)
    except BaseException:
        release_all(entered)
        raise
    return entered


cdef int release_all(list entered) except -1:
    cdef Handle handle
    for handle in entered:
        handle.release()
    return 0


cdef enum:
    _errno_nomem = 12
