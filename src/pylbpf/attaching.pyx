"""Many programs attached in one go, in their order.

What C attaches is attached by C, without the GIL in between; handlers in Python, and struct_ops maps, have their turn on
the calling thread. Neighbours that are tracepoints or uprobes are attached on several threads, for they take most of
their time for files and for waiting. All other kinds gain nothing from threads, or lose.

The functions of the kernel that patterns of kprobe.multi mean are looked up in one list for all.

libbpf's attach functions change nothing in object or program but for USDT, whose programs are attached one by one. All
objects are locked meanwhile.
"""
import errno as _errno

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
cimport cython
from libc.errno cimport EOPNOTSUPP
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from .attach cimport attach_one
from .autoattach cimport attach_functions, is_on_functions
from .c cimport libbpf
from .call cimport Call, clear, enter, keep_call, leave, note_missing
from .detaching cimport PATIENCE, detach, now
from .errors cimport finish_kept
from .expedite cimport begin_expedite, end_expedite
from .functions cimport free_functions, read_functions
from .handle cimport Handle, LOADED, Record, enter_all, fork_generation, release_all
from .link cimport HIDDEN_EVENT, Link, NO_EVENT, make_link
from .linkset cimport set_of
from .log cimport listening
from .map cimport make_map
from .program cimport Program, make_program
from .sections cimport ON_TRACEPOINT, ON_UPROBE, Section, find
from .workers cimport Crew, cancel, check_process, thread_count

from .attach import explained
from .errors import BpfError, StateError

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    # enum bpf_map_type, enum bpf_prog_type
    STRUCT_OPS = 26
    KPROBE = 2
    TRACEPOINT = 5
    # How many threads tracepoints and uprobes gain from: 120 of either take 39 and 102 ms on one thread, 25 and 56 on
    # 8, no less on more, on two processors. For a few it is not worth while.
    THREADS = 8
    FEW = 4


# Without the GIL

cdef bint went_wrong(const Attempt *attempt) noexcept nogil:
    return attempt.code < 0 or (attempt.said != NULL and attempt.said.error != NULL)


cdef void attempt_one(Attempt *attempt) noexcept nogil:
    cdef Call call
    attempt.tried = True
    enter(&call, attempt.handle)
    if attempt.functions != NULL:
        attempt.event = HIDDEN_EVENT
        attempt.code = attach_functions(attempt.target, attempt.functions, &attempt.link)
    else:
        attempt.code = attach_one(attempt.target, attempt.record, &attempt.link, &attempt.event)
    if attempt.code == -EOPNOTSUPP and attempt.record == NULL and call.length == 0:
        # libbpf says nothing about a section without automatic attach; of failures it does.
        attempt.code = 0
    leave(&call)
    attempt.said = keep_call(&call)
    if attempt.cancelled != NULL and went_wrong(attempt):
        cancel(attempt.cancelled)


cdef void attempt_item(void *context, size_t item) noexcept nogil:
    attempt_one(&(<Attempt *>context)[item])


cdef size_t attempt_some(Attempt *attempts, size_t at, size_t end, bint stopping) noexcept nogil:
    """Attach those from `at` on until the time is up, or one fails; return where to go on."""
    cdef long long until = now() + PATIENCE
    while at < end:
        attempt_one(&attempts[at])
        at += 1
        if (stopping and went_wrong(&attempts[at - 1])) or now() >= until:
            break
    return at


cdef bint gains_from_threads(const libbpf.bpf_program *program, const Record *record) noexcept nogil:
    cdef int type = <int>libbpf.bpf_program__type(program)
    cdef const Section *section
    if (type != TRACEPOINT and type != KPROBE) or (record != NULL and record.attach != NULL):
        return False
    section = find(libbpf.bpf_program__section_name(program))
    return section != NULL and (section.attachment == ON_TRACEPOINT or section.attachment == ON_UPROBE)


@cython.final
cdef class Together(Crew):
    """Neighbours."""

    cdef Attaching batch

    cdef int finish_item(self, size_t item) except -1:
        return self.batch.tell()


@cython.final
@cython.no_gc_clear
cdef class Attaching:
    """What one call attaches."""

    def __cinit__(self):
        self.items = []
        self.generation = fork_generation()
        self.rollback = True
        self.subjects = []
        self.several = {}
        self.raised = {}
        self.links = []
        self.owned = []

    def __init__(self):
        raise TypeError("made by the calls that need it")

    def __dealloc__(self):
        cdef size_t at
        for at in range(self.count):
            if self.attempts[at].said != NULL:
                clear(self.attempts[at].said)
                free(self.attempts[at].said)
            if self.attempts[at].link != NULL:      # there was no memory to roll it back
                libbpf.bpf_link__destroy(self.attempts[at].link)
        free(self.attempts)
        free_functions(&self.functions)

    # What is to be attached

    cdef Attempt *add(self, Handle handle, object subject) except NULL:
        cdef size_t room
        cdef void *grown
        cdef Attempt *attempt
        if self.count == self.room:
            room = 2 * self.room + 16
            grown = realloc(self.attempts, room * sizeof(Attempt))
            if grown == NULL:
                raise MemoryError()
            self.attempts = <Attempt *>grown
            self.room = room
        self.subjects.append(subject)
        attempt = &self.attempts[self.count]
        memset(attempt, 0, sizeof(Attempt))
        attempt.handle = <PyObject *>handle
        attempt.event = NO_EVENT
        self.count += 1
        return attempt

    cdef int add_program(self, Handle handle, libbpf.bpf_program *program, object subject) except -1:
        cdef const Record *record = handle.record_of(program)
        cdef Attempt *attempt = self.add(handle, subject)
        attempt.program = program
        attempt.target = handle.target(program)
        attempt.record = record
        attempt.owned = subject is None
        # Inside the handler's own attach it is done as without the handler.
        attempt.python = record != NULL and record.python_attach != NULL and handle.attaching != program
        attempt.together = not attempt.python and gains_from_threads(program, record)
        # After a change of its type libbpf does not know any more how a program is attached.
        if record == NULL and <int>libbpf.bpf_program__type(program) == KPROBE and is_on_functions(program):
            attempt.reads = handle.retyped is None or libbpf.bpf_program__name(program).decode(
                "utf-8", "surrogateescape") not in handle.retyped
            self.readers += attempt.reads
        return 0

    cdef int add_object(self, Handle handle) except -1:
        cdef bint choice = (libbpf.libbpf_major_version(), libbpf.libbpf_minor_version()) >= (1, 5)
        cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(handle.ptr, NULL)
        cdef libbpf.bpf_program *target
        cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(handle.ptr, NULL)
        cdef Attempt *attempt
        while program != NULL:
            target = handle.target(program)
            if libbpf.bpf_program__autoattach(target) and libbpf.bpf_program__fd(target) >= 0:
                self.add_program(handle, program, None)
            program = libbpf.bpf_object__next_program(handle.ptr, program)
        # Programs of struct_ops have no other way.
        while map != NULL:
            if (<int>libbpf.bpf_map__type(map) == STRUCT_OPS and libbpf.bpf_map__autocreate(map)
                    and (not choice or libbpf.bpf_map__autoattach(map))):
                attempt = self.add(handle, make_map(handle, map))
                attempt.map = map
                attempt.python = attempt.owned = True
            map = libbpf.bpf_object__next_map(handle.ptr, map)
        return 0

    cdef int gather(self) except -1:
        """Find out what there is to do; whatever is wrong with an item is told before anything is attached."""
        cdef Program program
        cdef Handle last = None
        for item in self.items:
            if isinstance(item, Handle):
                (<Handle>item).require(1 << LOADED, "attach")
                self.add_object(item)
            else:
                program = <Program>item
                if program.handle is not last:
                    last = program.handle
                    last.require(1 << LOADED, "attach")
                if libbpf.bpf_program__fd(program.handle.target(program.own)) < 0:
                    raise StateError(_errno.EINVAL, "the program was not loaded: autoload is off, or it was unloaded",
                                     "attach", str(program))
                self.add_program(program.handle, program.own, program)
        self.check_twice()
        return 0

    cdef int check_twice(self) except -1:
        cdef set programs
        cdef size_t at
        # As a rule these are the programs of an object in its order, which are in the order of their addresses, too.
        for at in range(1, self.count):
            if self.attempts[at].program <= self.attempts[at - 1].program:
                break
        else:
            return 0
        programs = set()
        for at in range(self.count):
            if self.attempts[at].program != NULL:
                if <size_t>self.attempts[at].program in programs:
                    raise ValueError(f"{self.subject(at)} of {<Handle>self.attempts[at].handle} is given twice")
                programs.add(<size_t>self.attempts[at].program)
        return 0

    cdef void read_once(self) noexcept:
        """Read for all of them what libbpf would read for each. If that fails, libbpf may try and say why."""
        cdef size_t at
        cdef int code
        with nogil:
            code = read_functions(&self.functions)
            for at in range(self.count):
                if self.attempts[at].reads and code == 0:
                    self.attempts[at].functions = &self.functions

    cdef object subject(self, size_t at):
        if self.subjects[at] is None:
            self.subjects[at] = make_program(<Handle>self.attempts[at].handle, self.attempts[at].program)
        return self.subjects[at]

    # Attaching

    cdef bint failed(self, size_t at):
        return went_wrong(&self.attempts[at]) or (self.attempts[at].python and at in self.raised)

    cdef object error(self, size_t at):
        """The exception that says why an attempt failed."""
        cdef Attempt *attempt = &self.attempts[at]
        if at in self.raised:
            return self.raised[at]
        try:
            finish_kept(attempt.said, attempt.code, "attach", self.subject(at))
        except BpfError as error:
            return explained(error, self.subject(at).section)
        except BaseException as error:
            return error

    cdef int tell(self) except -1:
        self.told += 1
        if self.on_progress is not None:
            self.on_progress(self.told, self.count)
            check_process(self.generation)
        return 0

    cdef int attach_in_python(self, size_t at) except -1:
        cdef Attempt *attempt = &self.attempts[at]
        attempt.tried = True
        try:
            if attempt.map != NULL:
                self.several[at] = (self.subject(at).attach_struct_ops(),)
            else:
                self.several[at] = attempt.record.python_attach(attempt.record, <Handle>attempt.handle, self.subject(at))
        except Exception as error:
            self.raised[at] = error
        return 0

    cdef size_t attach_together(self, size_t at, size_t end, int threads) except? 0:
        cdef Together crew = Together.__new__(Together)
        cdef size_t each
        crew.batch = self
        crew.toil.work = attempt_item
        crew.toil.context = self.attempts + at
        crew.toil.count = end - at
        if self.rollback:
            for each in range(at, end):
                self.attempts[each].cancelled = &crew.toil.cancelled
        crew.run(threads)
        return end

    cdef size_t attach_in_order(self, size_t at, size_t end) except? 0:
        cdef size_t first = at
        if self.on_progress is not None:
            end = at + 1
        with nogil:
            at = attempt_some(self.attempts, at, end, self.rollback)
        PyErr_CheckSignals()
        if self.on_progress is None:
            self.told += at - first
        else:
            self.tell()
        return at

    cdef int attach_all(self, int threads) except -1:
        cdef size_t at = 0
        cdef size_t first, end
        if self.readers > 1:
            self.read_once()
        while at < self.count:
            first = at
            end = at + 1
            if self.attempts[at].python:
                self.attach_in_python(at)
                self.tell()
                at = end
            else:
                while (end < self.count and not self.attempts[end].python
                       and self.attempts[end].together == self.attempts[at].together):
                    end += 1
                if self.attempts[at].together and end - at >= FEW and threads > 1:
                    at = self.attach_together(at, end, threads)
                else:
                    at = self.attach_in_order(at, end)
            if self.rollback:
                for first in range(first, at):
                    if self.failed(first):
                        return 0
        return 0

    # What comes of it

    cdef Link wrap(self, size_t at):
        """Make a Link, which is ours to release from now on."""
        cdef Attempt *attempt = &self.attempts[at]
        cdef Link link = make_link(attempt.link, <Handle>attempt.handle, self.subject(at), "its section")
        link.event = attempt.event
        attempt.link = NULL
        self.links.append(link)
        return link

    cdef object conclude(self):
        cdef Attempt *attempt
        cdef list skipped = []
        cdef list errors = []
        cdef list owned = []
        cdef PyObject *owner = NULL
        cdef size_t at
        for at in range(self.count):
            attempt = &self.attempts[at]
            if attempt.link != NULL and attempt.said == NULL and not attempt.owned:
                self.wrap(at)       # most often
                continue
            if attempt.owned and attempt.handle != owner:
                owner = attempt.handle
                owned = []
                self.owned.append((<Handle>owner, owned))
            if self.failed(at):
                error = self.error(at)
                if self.rollback or not isinstance(error, Exception):
                    raise error
                errors.append((self.subject(at), error))
            elif attempt.link != NULL:
                link = self.wrap(at)
                if attempt.owned:
                    owned.append(link)
            elif attempt.python and self.several.get(at):
                made = self.several.pop(at)
                self.links.extend(made)
                if attempt.owned:
                    owned.extend(made)
            else:
                skipped.append(self.subject(at))
        return set_of(self.links, skipped, errors)

    cdef int roll_back(self) except -1:
        cdef size_t at
        if self.generation != fork_generation():
            # The links are the parent's; closing the copies of their descriptors would disturb them.
            for at in range(self.count):
                self.attempts[at].link = NULL
                self.attempts[at].said = NULL
            return 0
        for at in range(self.count):
            if self.attempts[at].link != NULL:
                self.wrap(at)
            self.links.extend(self.several.get(at, ()))
        detach(self.links[::-1])
        return 0

    cdef object run(self, object threads, bint expedite):
        """Attach all; return a LinkSet. What is raised is raised when no link is left."""
        cdef int most = THREADS if threads is None else min(THREADS, thread_count(threads))
        cdef list handles = []
        cdef list entered
        cdef Handle handle
        cdef Handle last = None
        for item in self.items:
            handle = item if isinstance(item, Handle) else (<Program>item).handle
            if handle is not last:
                handle.check_alive()
                handles.append(handle)
                last = handle
            if handle is item and handle.holder == PyThread_get_thread_ident():
                handle.acquire("attach")        # which says that this is a callback
        entered = enter_all(handles, "attach")
        try:
            self.gather()
            if listening():
                most = 1        # a listener on another thread would wait for the locks if it called the objects
            if expedite:
                begin_expedite()
            try:
                self.attach_all(most)
                return self.conclude()
            except BaseException:
                try:
                    self.roll_back()
                except Exception:
                    pass        # the first error is the one to tell
                raise
            finally:
                if expedite:
                    end_expedite()
        finally:
            release_all(entered)


def attach_object(Handle handle):
    """Attach what Object.attach() attaches."""
    cdef Attaching batch = Attaching.__new__(Attaching)
    batch.items.append(handle)
    return batch.run(None, False)
