"""A program as something that can be attached: what all kinds of hooks have in common, and attach() by its section.

The kinds have rooms of their own, each a class that goes on where the one before it ended: attach_probe, attach_trace,
attach_net. Program is the last.
"""
import errno as _errno

from cpython.object cimport PyObject
from libc.errno cimport EINVAL, EOPNOTSUPP, errno

from .c cimport libbpf
from .call cimport Call, count, enter, note_missing, statistics
from .errors cimport finish
from .handle cimport Handle, LOADED, OPENING, PASS, Record
from .link cimport HIDDEN_EVENT, Link, NO_EVENT, make_link
from .attach_hook cimport Hooking
from .autoattach cimport builtin_attach
from .sections cimport ON_TRACEPOINT, Section, find

from .errors import BpfError, StateError

libbpf.pylbpf_on_missing = note_missing

cdef tuple UNKNOWN = (_errno.EINVAL, _errno.EOPNOTSUPP, _errno.ENOENT, _errno.ENODEV, _errno.ENOSYS, _errno.E2BIG, _errno.EBADF, 524)

cdef enum:
    # enum bpf_prog_type
    KPROBE = 2
    TRACEPOINT = 5


cdef class Attachable(Hooking):
    """What Program inherits: attach methods. Each returns a Link that keeps program and object alive.

    All raise StateError before load, and BpfError with the kernel's number when the hook refuses. They may sleep in
    the kernel; the GIL is released meanwhile, the object is locked.
    """

    def __init__(self):
        raise TypeError("programs come from Object.programs")

    cdef libbpf.bpf_program *live(self) except NULL:
        self.handle.check_alive()
        if self.handle.phase == OPENING:
            self.handle.check_opener()
        self.ptr = self.handle.target(self.own)
        return self.ptr

    cdef bint begin(self, str operation) except -1:
        """Lock the object for an attach; true if end() must unlock it."""
        cdef Handle handle = self.handle
        cdef bint locked = handle.enter(operation)
        try:
            handle.require(1 << LOADED, operation)
            if libbpf.bpf_program__fd(self.live()) < 0:
                raise StateError(_errno.EINVAL, "the program was not loaded: autoload is off, or it was unloaded",
                                 operation, str(self))
        except BaseException:
            if locked:
                handle.release()
            raise
        return locked

    cdef void unlock(self, bint locked) noexcept:
        if locked:
            self.handle.release()

    cdef int number(self) noexcept:
        return libbpf.bpf_program__fd(self.ptr)

    cdef int hold(self) except -1:
        cdef Handle handle = self.handle
        cdef int fd
        self.live()
        if handle.waiting and not handle.inside():
            handle.acquire("use")       # until it is closed, or not
            handle.release()
        fd = libbpf.bpf_program__fd(self.live())
        if fd < 0:
            raise StateError(_errno.EINVAL, "the program is not loaded", "use", str(self))
        handle.users += 1
        return fd

    cdef void let_go(self) noexcept:
        self.handle.users -= 1

    cdef int kind(self) except -1:
        return <int>libbpf.bpf_program__type(self.live())

    cdef bint begin_as(self, str operation, tuple types) except -1:
        """As begin(), for hooks that the program's expected attach type chooses."""
        cdef bint locked = self.begin(operation)
        cdef int type = <int>libbpf.bpf_program__expected_attach_type(self.ptr)
        if type in types:
            return locked
        if locked:
            self.handle.release()
        from .enums import AttachType
        raise StateError(_errno.EINVAL, f"its expected_attach_type is {AttachType(type).name}; before load it must be set to "
                         + " or ".join(AttachType(each).name for each in types), operation, str(self))

    cdef object end(self, Call *call, libbpf.bpf_link *link, long code, bint locked, str kind, int event=NO_EVENT):
        """Unlock, raise what went wrong, or wrap the new link."""
        cdef Link made
        if locked:
            self.handle.release()
        if code < 0 or call.error != NULL:
            # A callback may have made the link before it failed: nobody else will ever destroy it.
            if link != NULL:
                libbpf.bpf_link__destroy(link)
            try:
                finish(call, code, f"attach {kind}", self)
            except BpfError as error:
                raise explained(error, kind)
        finish(call, 0, None, None)
        made = make_link(link, self.handle, self, kind)
        made.event = event
        return made

    def attach(self):
        """Attach as the section says, or as its handler says.

        Return a Link, or a LinkSet where a handler made several. Raises BpfError (EOPNOTSUPP) if the section or the
        handler has no automatic attach. Inside a handler's own attach this does what libbpf would do without the
        handler. A handler's attach is called directly; otherwise bpf_program__attach().
        """
        cdef Handle handle = self.handle
        cdef const Record *record
        cdef libbpf.bpf_link *link = NULL
        cdef Call call
        cdef int code = 0
        cdef int event = NO_EVENT
        cdef bint locked = self.begin("attach")
        cdef libbpf.bpf_program *program = self.ptr
        record = handle.record_of(self.own)
        if record != NULL and record.python_attach != NULL and handle.attaching == self.own:
            # From inside the handler's own attach: what would happen without it.
            enter(&call, <PyObject *>handle)
            with nogil:
                code = builtin_attach(program, &link, &event) if record.override else 0
        elif record != NULL and record.python_attach != NULL:
            try:
                links = record.python_attach(record, handle, self)
            finally:
                if locked:
                    handle.release()
            if not links:
                raise BpfError(_errno.EOPNOTSUPP, "its handler returned no link: there is no automatic attach",
                               "attach", str(self))
            if len(links) == 1:
                return links[0]
            from .linkset import LinkSet
            return LinkSet(links)
        else:
            enter(&call, <PyObject *>handle)
            with nogil:
                code = attach_one(program, record, &link, &event)
        if code == 0 and link == NULL:
            code = -EOPNOTSUPP
        return self.end(&call, link, code, locked, f"section '{self.section}'", event)


def explained(error, str kind):
    """An error of attaching; where a kernel would give it for what it does not know, NotSupported if it lacks the kind."""
    if error.errno not in UNKNOWN:
        return error
    from .lacking import explain
    return explain(error, kind)


cdef bint on_tracepoint(const libbpf.bpf_program *program) noexcept nogil:
    """Whether its section names a tracepoint."""
    cdef const Section *section
    if <int>libbpf.bpf_program__type(program) != TRACEPOINT:
        return False
    section = find(libbpf.bpf_program__section_name(program))
    return section != NULL and section.attachment == ON_TRACEPOINT


cdef int attach_one(libbpf.bpf_program *program, const Record *record, libbpf.bpf_link **link, int *event) noexcept nogil:
    """Attach by a native handler, or as libbpf does; 0 with a NULL link means there is no automatic attach.

    `event` gets the perf event behind the link, as Link.event has it.
    """
    cdef int code = 0
    link[0] = NULL
    event[0] = NO_EVENT
    if record == NULL:
        if on_tracepoint(program):
            # As libbpf does it, but with a perf event that we know.
            return builtin_attach(program, link, event)
        if <int>libbpf.bpf_program__type(program) == KPROBE:
            event[0] = HIDDEN_EVENT
        link[0] = libbpf.bpf_program__attach(program)
        if link[0] == NULL:
            code = -errno
        return code
    if record.attach != NULL:
        code = record.attach(program, record.cookie, link)
    if record.attach == NULL or (code == PASS and record.passes):
        # The handler leaves attaching to libbpf, which has a way only for sections of its own.
        return builtin_attach(program, link, event) if record.override else 0
    count(&statistics().attach)
    if code == 0:
        return 0
    if link[0] != NULL:
        libbpf.bpf_link__destroy(link[0])
        link[0] = NULL
    return code if -4095 <= code < 0 else -EINVAL
