"""One link: what keeps a program attached."""
import errno as _errno
import os as _os

from cpython.object cimport PyObject
cimport cython
from libc.errno cimport EBUSY, EINVAL, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from cpython.pythread cimport PyThread_get_thread_ident
from posix.unistd cimport close as close_fd, getpid, usleep

from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter
from .errors cimport fail, finish
from .handle cimport Handle, fork_generation, leave_place, take_place
from .kernelfd cimport LINK, open_number, open_pin, pin_descriptor
from .paths cimport is_of_kind, number_of, path_bytes, path_text
from .targets cimport Target, descriptor_of, duplicate_fd, held

from .errors import NotSupported, StateError

cdef extern from "<limits.h>":
    enum:
        PATH_MAX

cdef enum:
    PERF_EVENT = 7      # enum bpf_link_type
    BPF_F_REPLACE = 1 << 2

# Of enum bpf_link_type, those that the kernel can put another program into: cgroup, iter, netns, xdp, tcx, netkit, sockmap.
cdef tuple UPDATED = (3, 4, 5, 6, 11, 13, 14)
# And those that end only when nobody holds them: raw_tracepoint, tracing, iter, perf_event, kprobe_multi, uprobe_multi.
cdef tuple LASTING = (1, 2, 4, 7, 8, 12)
cdef tuple PROBES = ("", "tracepoint", "kprobe", "kretprobe", "uprobe", "uretprobe")      # enum bpf_task_fd_type

cdef extern from "Python.h":
    int PyErr_ResourceWarning(object source, Py_ssize_t stack_level, const char *format, ...) except -1


cdef class Linked:
    """What links are about."""

    cdef bint begin(self, str operation) except -1:
        raise NotImplementedError

    cdef void unlock(self, bint locked) noexcept:
        pass

    cdef int number(self) noexcept:
        return -1

    cdef int hold(self) except -1:
        raise NotImplementedError

    cdef void let_go(self) noexcept:
        pass

    cdef int kind(self) except -1:
        raise NotImplementedError


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
        raise TypeError("links are made by Program.attach(), its kin, and Link.open_pinned()")

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
        """The Program that is attached, or the struct_ops Map; None for a link from a pin, a number or a descriptor."""
        return self.subject

    @property
    def name(self):
        """The link in words: what is attached, and to what."""
        if self.subject is None:
            return self.hook
        if self.handle is None or self.handle.usable():
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

    cdef int number(self) noexcept:
        """The descriptor of a live link; 0 for USDT."""
        return (<Bare *>self.ptr).fd if self.kind == BARE_LINK else libbpf.bpf_link__fd(self.ptr)

    cdef str instead(self):
        return "it is a map that the kernel has registered" if self.borrowed else "it is a perf event"

    cdef int belong_to(self, object subject, Handle handle) except -1:
        """It is about another program or map from now on, and dies with that one's object."""
        leave_place(&self.place)
        self.subject = subject
        self.handle = handle
        if self.ptr != NULL and handle is not None:
            self.place.owner = <PyObject *>self
            take_place(&self.place, &self.handle.links)
        return 0

    cdef int wait_idle(self, str operation) except -1:
        """One thread at a time: wait for another; what a print callback of this one's call tries is an error."""
        while self.worker:
            if self.worker == PyThread_get_thread_ident():
                raise StateError(_errno.EBUSY, "called from inside a call on the same link", operation, self.name)
            with nogil:
                usleep(100)
        return 0

    cdef bint identify(self, unsigned int *type, unsigned int *id) except -1:
        """identify(), and keep other threads from closing it until done(): its number may be another link's by then."""
        self.worker = PyThread_get_thread_ident()
        try:
            return identify(self.number(), type, id)
        except BaseException:
            self.worker = 0
            raise

    cdef int refuse(self, unsigned int type, str reason, str operation) except -1:
        """After identify(): links of this type cannot do that; the reason may have a place for its name."""
        self.worker = 0
        from .enums import LinkType
        raise NotSupported(_errno.EOPNOTSUPP, reason.format(LinkType(type).name), operation, self.name)

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
        if self.ptr != NULL and self.kind == USDT_LINK and handle is not None and self.generation == fork_generation():
            locked = handle.enter(operation)
            try:
                self.wait_idle(operation)
            except BaseException:
                if locked:
                    handle.release()
                raise
        if self.ptr == NULL:        # another thread was faster
            if locked:
                handle.release()
            return 0
        self.ptr = NULL
        leave_place(&self.place)
        if self.generation != fork_generation():
            # Destroying would disable what the parent shares with us; only the number is ours.
            if self.kind == BARE_LINK:
                destroy_link(ptr, self.kind)
            elif self.kind != USDT_LINK and not self.borrowed:
                close_fd(libbpf.bpf_link__fd(ptr))
            return 0
        enter(&call, NULL)
        with nogil:
            code = destroy_link(ptr, self.kind)
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
        self.live()
        if self.kind == USDT_LINK:
            raise NotSupported(_errno.EOPNOTSUPP, "a USDT link has no descriptor of its own", "fd", self.name)
        return self.number()

    def fileno(self):
        """Same as fd."""
        return self.fd

    def info(self):
        """What the kernel says about the link: a LinkInfo, in the class of its kind (pylbpf.linkinfo).

        NotSupported for what is no link of the kernel: USDT, and perf events without one. Minimum kernel 5.8.
        Source: bpf_link_get_info_by_fd().
        """
        cdef int fd
        from .linkinfo import link_info
        self.wait_idle("read info of")
        fd = self.fd
        self.worker = PyThread_get_thread_ident()       # it is not closed meanwhile
        try:
            if not is_of_kind(fd, "link"):
                raise NotSupported(_errno.EOPNOTSUPP, f"{self.instead()}, not a link of the kernel", "read info of", self.name)
            return link_info(fd)
        finally:
            self.worker = 0

    def iter(self, *, bint text=False):
        """What the program of an iterator link writes, as a file: of bytes, or with ``text`` of UTF-8 text.

        Each call begins anew. The file has its lines, read() and the rest, is closed at the end of a loop over its
        lines, and outlives the link. Raises BpfError (EINVAL) for any other kind. Source: bpf_iter_create().
        """
        cdef int link
        cdef Call call
        cdef int fd
        self.wait_idle("read lines of")
        link = self.fd
        self.worker = PyThread_get_thread_ident()
        enter(&call, NULL)
        with nogil:
            fd = bpf.bpf_iter_create(link)
        self.done(&call, fd, "read lines of", self)
        from .lines import open_lines
        return open_lines(fd, text)

    def detach(self):
        """Detach in the kernel at once, even if others hold the link; the link object stays.

        NotSupported for kinds that cannot: perf events, tracing and iterators. Minimum kernel 5.9.
        Source: bpf_link__detach().
        """
        cdef libbpf.bpf_link *ptr = self.live()
        cdef Call call
        cdef unsigned int type = 0
        cdef unsigned int id = 0
        cdef int code
        self.fd
        self.wait_idle("detach")
        ptr = self.live()
        if not self.identify(&type, &id) or type in LASTING:
            self.refuse(type, "links of kind {} end with their last holder: close it" if id
                        else f"{self.instead()}, not a link of the kernel: close it", "detach")
        enter(&call, NULL)
        with nogil:
            code = bpf.bpf_link_detach((<Bare *>ptr).fd) if self.kind == BARE_LINK else libbpf.bpf_link__detach(ptr)
        self.done(&call, code, "detach", self)

    def disconnect(self):
        """Give up the link without detaching, and return its descriptor, which the caller now owns and closes.

        The program stays attached as long as the descriptor, a pin, or for perf events the process lives.
        Of a struct_ops map without BPF_F_LINK, which stays registered, it is a new descriptor of the map.
        Source: bpf_link__disconnect().
        """
        cdef int fd = self.fd
        cdef int event = event_of(fd) if self.event == HIDDEN_EVENT else self.event
        self.wait_idle("disconnect")
        if self.kind == BARE_LINK:
            self.live()
            (<Bare *>self.ptr).fd = -1
        else:
            self.live()
            if self.borrowed:
                fd = duplicate_fd(fd)
            libbpf.bpf_link__disconnect(self.ptr)
        self.release("disconnect")
        if event >= 0 and event != fd:
            # The kernel's link holds it; libbpf has just lost the number.
            close_fd(event)
        return fd

    def update(self, program, *, old_program=None, flags=0):
        """Put another loaded Program in the place of the one that is attached; no moment is without a program.

        With ``old_program`` (a Program or its descriptor) only if that is the one that runs now, else BpfError
        (EPERM). ``flags`` are for the kernel (BPF_F_REPLACE comes with old_program). The link now keeps the new program's
        object. NotSupported for kinds that cannot: only cgroup, xdp, netns, tcx, netkit, iter and sockmap can.
        Minimum kernel 5.7. Source: bpf_link_update().
        """
        cdef Linked subject
        cdef Target kept
        cdef unsigned int bits = number_of(flags, "flags")
        cdef int old = -1
        cdef bint locked
        if not isinstance(program, Linked):
            raise TypeError(f"a link is updated with a Program, not {program!r}")
        subject = program
        if old_program is not None:
            kept = held(old_program, "old_program")
            old = kept.fd
        self.fd
        locked = subject.begin("update")        # or another thread could close it meanwhile
        try:
            self.put("update", subject.number(), old, bits, UPDATED)
            self.belong_to(program, subject.handle)
        finally:
            subject.unlock(locked)

    def update_map(self, map, *, old_map=None, flags=0):
        """Put another struct_ops Map in the place of the one that is attached; no moment is without one.

        Both must be of the same kind, declared in section ".struct_ops.link", and loaded; the link now keeps the new
        map's object. With ``old_map`` (a Map or its descriptor) only if that is the one in use now, else BpfError (EPERM).
        A link from a pin, a number or a descriptor, and ``old_map``, take maps only that have been attached before, for
        nobody else puts their functions into the kernel. NotSupported for kinds other than struct_ops.
        Minimum kernel 6.4, libbpf 1.3. Source: bpf_link__update_map(), bpf_link_update().
        """
        from .structops import update_map
        update_map(self, map, old_map, number_of(flags, "flags"))

    cdef int put(self, str operation, int new, int old, unsigned int flags, tuple types) except -1:
        """bpf_link_update() by descriptors of programs or maps, which are one to it; ``old`` is -1 for whatever is there."""
        cdef bpf.bpf_link_update_opts opts
        cdef Call call
        cdef unsigned int type = 0
        cdef unsigned int id = 0
        cdef int code, link
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.flags = flags
        if old >= 0:
            opts.old_prog_fd = old
            opts.flags |= BPF_F_REPLACE
        self.wait_idle(operation)
        self.live()
        if not self.identify(&type, &id) or type not in types:
            self.refuse(type, "links of kind {} cannot be updated so: close and attach again" if id
                        else "such a link cannot be updated: close it, and attach again", operation)
        link = self.number()
        enter(&call, NULL)
        with nogil:
            code = bpf.bpf_link_update(link, new, &opts)
        return self.done(&call, code, operation, self)

    @property
    def pin_path(self):
        """Where the link is pinned, or None. Source: bpf_link__pin_path()."""
        cdef const char *path
        self.wait_idle("read pin_path of")
        self.live()
        if self.kind == BARE_LINK:
            return self.pinned
        path = libbpf.bpf_link__pin_path(self.ptr)
        return None if path == NULL else path_text(path)

    def pin(self, path, *, path_fd=None):
        """Pin the link in a BPF file system, so that it outlives the process.

        With ``path_fd`` (kernel 6.5, libbpf 1.3) relative to that folder's descriptor; pin_path does not know of it then.
        Source: bpf_link__pin(), bpf_obj_pin_opts().
        """
        cdef bytes raw = path_bytes(path)
        cdef const char *where = raw
        cdef str words = path_text(raw)
        cdef libbpf.bpf_link *ptr = self.live()
        cdef Call call
        cdef int code
        self.fd
        self.wait_idle("pin")
        ptr = self.live()
        if path_fd is not None:
            pin_descriptor(self.number(), path, path_fd, self)
            return
        self.worker = PyThread_get_thread_ident()
        enter(&call, NULL)
        if self.kind == BARE_LINK and self.pinned is not None:
            code = -EBUSY
        else:
            with nogil:
                code = bpf.bpf_obj_pin((<Bare *>ptr).fd, where) if self.kind == BARE_LINK else libbpf.bpf_link__pin(ptr, where)
            if code == 0 and self.kind == BARE_LINK:
                self.pinned = words
        self.done(&call, code, "pin", f"{self.name} to {words}")

    def unpin(self):
        """Remove the pin. Source: bpf_link__unpin()."""
        cdef libbpf.bpf_link *ptr = self.live()
        cdef Call call
        cdef int code
        self.wait_idle("unpin")
        ptr = self.live()
        if self.kind == BARE_LINK:
            if self.pinned is None:
                fail(EINVAL, "unpin", self)
            path = self.pinned
            try:
                _os.unlink(path)
            except OSError as error:
                fail(error.errno, f"unpin {path} of", self)
            self.pinned = None
            return
        self.worker = PyThread_get_thread_ident()
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_link__unpin(ptr)
        self.done(&call, code, "unpin", self)

    @staticmethod
    def open_pinned(path, *, path_fd=None):
        """Open a pinned link; with ``path_fd`` (kernel 6.5, libbpf 1.3) the path is relative to that folder's descriptor.

        Source: bpf_link__open(), bpf_obj_get_opts().
        """
        cdef bytes raw = path_bytes(path)
        cdef const char *where = raw
        cdef str words = path_text(raw)
        cdef str hook = f"pinned at {words}"
        cdef libbpf.bpf_link *ptr
        cdef Call call
        cdef int code = 0
        if path_fd is not None:
            return adopt(open_pin(raw, path_fd, 0), words)
        enter(&call, NULL)
        with nogil:
            ptr = libbpf.bpf_link__open(where)
            if ptr == NULL:
                code = -errno
        finish(&call, code, "open link", words)
        if not is_of_kind(libbpf.bpf_link__fd(ptr), "link"):
            libbpf.bpf_link__destroy(ptr)
            fail(EINVAL, "open link", f"{words}, which is not a link")
        return make_link(ptr, None, None, hook)

    @staticmethod
    def open(path):
        """Same as open_pinned(), by libbpf's name. Source: bpf_link__open()."""
        return Link.open_pinned(path)

    @staticmethod
    def from_fd(fd):
        """A Link for a link's descriptor (a number or an object with fileno()), of which it takes a duplicate.

        Closing it closes that duplicate: the program is detached when nobody holds the link any more. Raises
        BpfError (EINVAL) if the descriptor is not of a link. Source: bpf_link_get_info_by_fd().
        """
        cdef int number = descriptor_of(fd, "link")
        cdef int copy = duplicate_fd(number)
        return adopt(copy, f"descriptor {number}")

    @staticmethod
    def from_id(id):
        """A Link for the number of a link in the kernel, of whatever process it is.

        Raises FileNotFoundError if there is none, PermissionError without CAP_SYS_ADMIN. Minimum kernel 5.8.
        Source: bpf_link_get_fd_by_id().
        """
        return adopt(open_number(LINK, id, 0), f"id {id}")


cdef Link adopt(int fd, str words):
    """A Link for a descriptor that is now ours, if it is one of a link."""
    cdef unsigned int type = 0
    cdef unsigned int id = 0
    if not identify(fd, &type, &id):
        close_fd(fd)
        fail(EINVAL, "use as link", words)
    return link_of_descriptor(fd, None, None, f"hook of link {id}")


cdef bint identify(int fd, unsigned int *type, unsigned int *id) except -1:
    """Type and number of a link of the kernel; false for anything else, as a perf event with a program."""
    cdef uapi.bpf_link_info info
    cdef unsigned int length = sizeof(info)
    memset(&info, 0, sizeof(info))
    if not is_of_kind(fd, "link") or bpf.bpf_obj_get_info_by_fd(fd, &info, &length) < 0:
        return False
    type[0] = info.type
    id[0] = info.id
    return True


cdef Link link_of_descriptor(int fd, Handle handle, object subject, object hook):
    cdef Link link
    cdef Bare *bare = <Bare *>malloc(sizeof(Bare))
    if bare == NULL:
        close_fd(fd)
        raise MemoryError()
    bare.fd = fd
    link = wrap(<libbpf.bpf_link *>bare, handle, subject, hook)
    link.kind = BARE_LINK
    return link


cdef int destroy_link(libbpf.bpf_link *ptr, Kind kind) noexcept nogil:
    cdef Bare *bare = <Bare *>ptr
    if kind != BARE_LINK:
        return libbpf.bpf_link__destroy(ptr)
    if bare.fd >= 0:
        close_fd(bare.fd)
    free(bare)
    return 0


cdef unsigned int program_on_event(int link) noexcept:
    """The number of the program of a link that the kernel holds on a perf event; 0 for any other."""
    cdef uapi.bpf_link_info info
    cdef unsigned int length = sizeof(info)
    memset(&info, 0, sizeof(info))
    if bpf.bpf_obj_get_info_by_fd(link, &info, &length) < 0 or info.type != PERF_EVENT:
        return 0
    return info.prog_id


cdef dict programs_of_events():
    """Number of program -> {perf event of this process that runs it: (kind, name, offset) of what it is on}."""
    cdef unsigned int length, program, type
    cdef unsigned long long offset, address
    cdef char name[PATH_MAX]
    cdef dict found = {}
    for number in map(int, _os.listdir("/proc/self/fd")):
        length = sizeof(name)
        name[0] = 0
        if is_of_kind(number, "perf_event") and bpf.bpf_task_fd_query(
                getpid(), number, 0, name, &length, &program, &type, <uapi.__u64 *>&offset, <uapi.__u64 *>&address) == 0:
            place = PROBES[type] if type < len(PROBES) else "", path_text(<bytes>name), offset
            found.setdefault(program, {})[number] = place
    return found


cdef int event_of(int link) except -2:
    """The perf event that libbpf opened for a link and does not tell of; -1 if nothing says which it is."""
    cdef unsigned int program = program_on_event(link)
    if program:
        from .linkinfo import link_info
        try:
            events = programs_of_events().get(program, {})
            if len(events) > 1:
                info = link_info(link)
                place = info.kind, info.name, info.offset
                events = [number for number, known in events.items() if known == place]
        except OSError:     # no descriptor to spare
            return NO_EVENT
        if len(events) == 1:
            return next(iter(events))
    return NO_EVENT


cdef Link make_link(libbpf.bpf_link *ptr, Handle handle, object subject, object hook):
    """Wrap a link, which is then owned; names are put together only when somebody asks."""
    cdef Link link = wrap(ptr, handle, subject, hook)
    # USDT links are many kernel links under one name; libbpf leaves their number zero.
    link.kind = USDT_LINK if libbpf.bpf_link__fd(ptr) == 0 else PLAIN_LINK
    return link


cdef Link make_map_link(libbpf.bpf_link *ptr, Handle handle, object map, int fd, object hook):
    """Likewise of a struct_ops map with this descriptor."""
    cdef Link link = make_link(ptr, handle, map, hook)
    link.kind = STRUCT_OPS_LINK
    link.borrowed = libbpf.bpf_link__fd(ptr) == fd
    return link


cdef Link wrap(libbpf.bpf_link *ptr, Handle handle, object subject, object hook):
    cdef Link link = Link.__new__(Link)
    link.ptr = ptr
    link.handle = handle
    link.generation = fork_generation()
    link.event = NO_EVENT
    link.subject = subject
    link.hook = hook
    if handle is not None:
        link.place.owner = <PyObject *>link
        take_place(&link.place, &handle.links)
        if handle.made is not None:
            handle.made.append(link)
    return link


cdef int close_links(Handle handle) except -1:
    """Destroy all links of an object, the newest first; raise the first failure at the end."""
    cdef object failure = None
    cdef Link link
    while handle.links.before != &handle.links:
        link = <Link>handle.links.before.owner
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
            if link.kind == USDT_LINK or link.kind == STRUCT_OPS_LINK:
                bound.append(link.name)
    if bound:
        raise StateError(_errno.EBUSY, f"these links need the object, close them before: {', '.join(bound)}",
                         "detach descriptors of", handle.name)
    return links
