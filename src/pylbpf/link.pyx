"""One link: what keeps a program attached."""
import errno as _errno
import os as _os

from cpython.object cimport PyObject
cimport cython
from libc.errno cimport EINVAL, errno
from libc.string cimport memset
from cpython.pythread cimport PyThread_get_thread_ident
from posix.unistd cimport close as close_fd, getpid, usleep

from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter
from .errors cimport fail, finish
from .handle cimport Handle, fork_generation, leave_place, take_place
from .paths cimport is_of_kind, path_bytes

from .errors import NotSupported, StateError

cdef enum:
    PERF_EVENT = 7      # enum bpf_link_type

cdef extern from "Python.h":
    int PyErr_ResourceWarning(object source, Py_ssize_t stack_level, const char *format, ...) except -1


@cython.final
@cython.no_gc_clear
cdef class Link:
    """A program attached to a hook.

    The program stays attached as long as the link lives: losing the last reference detaches it, with a
    ResourceWarning, because attaching for the blink of an eye is seldom meant. Close it, use it in a ``with`` block,
    pin it, or ``disconnect()`` it to let the attachment outlive the object. Closing an Object destroys its links first.
    ``name`` says what is attached to what. Source: struct bpf_link of libbpf.
    """

    def __init__(self):
        raise TypeError("links are made by Program.attach(), its kin, and Link.open()")

    def __dealloc__(self):
        leave_place(&self.place)

    def __del__(self):
        if self.ptr != NULL:
            try:
                if self.generation == fork_generation():
                    text = repr(self)
                    PyErr_ResourceWarning(self, 1, b"%U was never closed", <PyObject *>text)
            finally:
                # Also where warnings are errors.
                self.release("destroy")

    @property
    def program(self):
        """The Program that is attached, or the struct_ops Map; None for a link opened from a pin."""
        return self.subject

    @property
    def name(self):
        """The link in words: what is attached, and to what."""
        if self.subject is None:
            return self.hook
        if self.handle.usable():
            return f"{self.subject} on {self.hook}"
        return f"a program of {self.handle.name} on {self.hook}"

    def __repr__(self):
        state = "closed" if self.ptr == NULL else "attached"
        return f"<Link: {self.name}, {state}>"

    def __str__(self):
        return self.name

    def __enter__(self):
        self.live()
        return self

    def __exit__(self, *_):
        self.close()

    cdef libbpf.bpf_link *live(self) except NULL:
        if self.ptr == NULL:
            raise ValueError(f"the link {self.name} is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child may only drop it", None, self.name)
        return self.ptr

    cdef int wait_idle(self, str operation) except -1:
        """One thread at a time: wait for another; what a print callback of this one's call tries is an error."""
        while self.worker:
            if self.worker == PyThread_get_thread_ident():
                raise StateError(_errno.EBUSY, "called from inside a call on the same link", operation, self.name)
            with nogil:
                usleep(100)
        return 0

    cdef int done(self, Call *call, int code, str operation, object subject) except -1:
        self.worker = 0
        return finish(call, code, operation, subject)

    cdef int release(self, str operation) except -1:
        """Destroy the bpf_link. The pointer is gone before the GIL is, so nobody can come second."""
        cdef libbpf.bpf_link *ptr = self.ptr
        cdef Handle handle = self.handle
        cdef bint locked = False
        cdef Call call
        cdef int code
        if ptr == NULL:
            return 0
        self.wait_idle(operation)
        if self.ptr == NULL:        # another thread was faster
            return 0
        self.ptr = NULL
        leave_place(&self.place)
        if self.generation != fork_generation():
            # Destroying would disable what the parent shares with us; only the number is ours.
            if self.kind != USDT_LINK:
                close_fd(libbpf.bpf_link__fd(ptr))
            return 0
        if self.kind == USDT_LINK and handle is not None:
            locked = handle.enter(operation)
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_link__destroy(ptr)
        if locked:
            handle.release()
        return finish(&call, code, operation, self)

    def destroy(self):
        """Detach the program and free the link; a second time does nothing.

        May sleep for tens of milliseconds in the kernel; other threads run meanwhile. A pinned link stays attached,
        but for those on perf events. Source: bpf_link__destroy().
        """
        self.release("destroy")

    def close(self):
        """Same as destroy()."""
        self.release("close")

    @property
    def closed(self):
        """True once destroyed or disconnected."""
        return self.ptr == NULL

    @property
    def fd(self):
        """The link's file descriptor, owned by the link.

        Raises NotSupported for kinds that have none (USDT). Source: bpf_link__fd().
        """
        cdef libbpf.bpf_link *ptr = self.live()
        if self.kind == USDT_LINK:
            raise NotSupported(_errno.EOPNOTSUPP, "a USDT link has no descriptor of its own", "fd", self.name)
        return libbpf.bpf_link__fd(ptr)

    def fileno(self):
        """Same as fd."""
        return self.fd

    def detach(self):
        """Detach in the kernel at once, even if others hold the link; the link object stays.

        Raises BpfError where the kind cannot (EOPNOTSUPP: perf events and most tracing). Minimum kernel 5.9.
        Source: bpf_link__detach().
        """
        cdef libbpf.bpf_link *ptr = self.live()
        cdef Call call
        cdef int code
        self.fd
        self.wait_idle("detach")
        ptr = self.live()
        self.worker = PyThread_get_thread_ident()
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_link__detach(ptr)
        self.done(&call, code, "detach", self)

    def disconnect(self):
        """Give up the link without detaching, and return its descriptor, which the caller now owns and closes.

        The program stays attached as long as the descriptor, a pin, or for perf events the process lives.
        Source: bpf_link__disconnect().
        """
        cdef int fd = self.fd
        cdef int event = self.event if self.event >= 0 else event_of(fd)
        self.wait_idle("disconnect")
        libbpf.bpf_link__disconnect(self.live())
        self.release("disconnect")
        if event >= 0 and event != fd:
            # The kernel's link holds it; libbpf has just lost the number.
            close_fd(event)
        return fd

    @property
    def pin_path(self):
        """Where the link is pinned, or None. Source: bpf_link__pin_path()."""
        self.wait_idle("read pin_path of")
        cdef const char *path = libbpf.bpf_link__pin_path(self.live())
        return None if path == NULL else path.decode("utf-8", "surrogateescape")

    def pin(self, path):
        """Pin the link in a BPF file system, so that it outlives the process. Source: bpf_link__pin()."""
        cdef bytes raw = path_bytes(path)
        cdef const char *where = raw
        cdef libbpf.bpf_link *ptr = self.live()
        cdef Call call
        cdef int code
        self.fd
        self.wait_idle("pin")
        ptr = self.live()
        self.worker = PyThread_get_thread_ident()
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_link__pin(ptr, where)
        self.done(&call, code, "pin", f"{self.name} to {path}")

    def unpin(self):
        """Remove the pin. Source: bpf_link__unpin()."""
        cdef libbpf.bpf_link *ptr = self.live()
        cdef Call call
        cdef int code
        self.wait_idle("unpin")
        ptr = self.live()
        self.worker = PyThread_get_thread_ident()
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_link__unpin(ptr)
        self.done(&call, code, "unpin", self)

    @staticmethod
    def open(path):
        """Open a pinned link. Source: bpf_link__open()."""
        cdef bytes raw = path_bytes(path)
        cdef const char *where = raw
        cdef libbpf.bpf_link *ptr
        cdef Call call
        cdef int code = 0
        enter(&call, NULL)
        with nogil:
            ptr = libbpf.bpf_link__open(where)
            if ptr == NULL:
                code = -errno
        finish(&call, code, "open link", path)
        if not is_of_kind(libbpf.bpf_link__fd(ptr), "link"):
            libbpf.bpf_link__destroy(ptr)
            fail(EINVAL, "open link", f"{path}, which is not a link")
        return make_link(ptr, None, None, f"pinned at {_os.fsdecode(path)}")


cdef unsigned int program_on_event(int link) noexcept:
    """The number of the program of a link that the kernel holds on a perf event; 0 for any other."""
    cdef uapi.bpf_link_info info
    cdef unsigned int length = sizeof(info)
    memset(&info, 0, sizeof(info))
    if bpf.bpf_obj_get_info_by_fd(link, &info, &length) < 0 or info.type != PERF_EVENT:
        return 0
    return info.prog_id


cdef dict programs_of_events():
    """Number of program -> list of the perf events of this process that run it."""
    cdef unsigned int length, program, type
    cdef unsigned long long offset, address
    cdef dict found = {}
    for number in map(int, _os.listdir("/proc/self/fd")):
        length = 0
        if is_of_kind(number, "perf_event") and bpf.bpf_task_fd_query(
                getpid(), number, 0, NULL, &length, &program, &type, <uapi.__u64 *>&offset, <uapi.__u64 *>&address) == 0:
            found.setdefault(program, []).append(number)
    return found


cdef int event_of(int link) except -2:
    """The perf event that libbpf opened for a link and does not tell of; -1 if the program does not say which it is."""
    cdef unsigned int program = program_on_event(link)
    if program:
        events = programs_of_events().get(program, ())
        if len(events) == 1:
            return events[0]
    return NO_EVENT


cdef Link make_link(libbpf.bpf_link *ptr, Handle handle, object subject, object hook):
    """Wrap a link, which is then owned; names are put together only when somebody asks."""
    cdef Link link = Link.__new__(Link)
    link.ptr = ptr
    link.handle = handle
    link.generation = fork_generation()
    # USDT links are many kernel links under one name; libbpf leaves their number zero.
    link.kind = USDT_LINK if libbpf.bpf_link__fd(ptr) == 0 else PLAIN_LINK
    link.event = NO_EVENT
    link.subject = subject
    link.hook = hook
    if handle is not None:
        link.place.link = <PyObject *>link
        take_place(&link.place, &handle.links)
        if handle.made is not None:
            handle.made.append(link)
    return link


cdef int close_links(Handle handle) except -1:
    """Destroy all links of an object, the newest first; raise the first failure at the end."""
    cdef object failure = None
    cdef Link link
    while handle.links.before != &handle.links:
        link = <Link>handle.links.before.link
        leave_place(&link.place)
        try:
            link.release("destroy")
        except OSError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return 0


cdef list free_links(Handle handle):
    """The links of an object, in the order in which they were made; StateError if some need the object."""
    cdef list links = []
    cdef list bound = []
    cdef Link link
    for link in handle.open_links():
        if link.ptr != NULL:
            links.append(link)
            # USDT links are in the object's books; those of maps without BPF_F_LINK are known by the map's descriptor.
            if link.kind == USDT_LINK or link.hook == "struct_ops":
                bound.append(link.name)
    if bound:
        raise StateError(_errno.EBUSY, f"these links need the object, close them before: {', '.join(bound)}",
                         "detach descriptors of", handle.name)
    return links
