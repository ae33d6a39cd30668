"""A program as something that can be attached: one method for each kind of hook."""
import errno as _errno
import os as _os

from cpython.object cimport PyObject
from libc.errno cimport EINVAL, EOPNOTSUPP, errno
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC, O_DIRECTORY, O_RDONLY, open as open_fd
from posix.unistd cimport close as close_fd, dup

from .c cimport libbpf
from .call cimport Call, count, enter, note_missing, statistics
from .errors cimport fail, finish, need
from .handle cimport Handle, LOADED, OPENING, PASS, Record
from .link cimport HIDDEN_EVENT, Link, NO_EVENT, make_link
from .autoattach cimport builtin_attach
from .paths cimport name_bytes, path_bytes
from .sections cimport ON_TRACEPOINT, Section, find
from .tracepoint cimport attach_tracepoint

from .errors import BpfError, StateError

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...)
    int F_DUPFD_CLOEXEC

cdef extern from "<net/if.h>" nogil:
    unsigned int if_nametoindex(const char *name)

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    # enum bpf_prog_type
    KPROBE = 2
    TRACEPOINT = 5


cdef class Attachable:
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

    cdef object end(self, Call *call, libbpf.bpf_link *link, long code, bint locked, str kind, int event=NO_EVENT):
        """Unlock, raise what went wrong, or wrap the new link."""
        cdef Link made
        if locked:
            self.handle.release()
        if code < 0 or call.error != NULL:
            # A callback may have made the link before it failed: nobody else will ever destroy it.
            if link != NULL:
                libbpf.bpf_link__destroy(link)
            finish(call, code, f"attach {kind}", self)
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

    def attach_raw_tracepoint(self, name, *, unsigned long long cookie=0):
        """Attach to a raw tracepoint by name ("sys_enter").

        ``cookie`` (kernel 6.9, libbpf 1.4) is what bpf_get_attach_cookie() returns in the program. Minimum kernel 4.17.
        Source: bpf_program__attach_raw_tracepoint_opts().
        """
        cdef bytes raw = name_bytes(name, "tracepoint name")
        cdef const char *tracepoint = raw
        cdef libbpf.bpf_raw_tracepoint_opts opts
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        cdef bint locked = self.begin("attach raw_tracepoint")
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.cookie = cookie
        enter(&call, <PyObject *>self.handle)
        with nogil:
            if cookie:
                link = libbpf.bpf_program__attach_raw_tracepoint_opts(self.ptr, tracepoint, &opts)
            else:
                link = libbpf.bpf_program__attach_raw_tracepoint(self.ptr, tracepoint)
            if link == NULL:
                code = -errno
        return self.end(&call, link, code, locked, f"raw_tracepoint {name}")

    def attach_tracepoint(self, category, name, *, unsigned long long cookie=0):
        """Attach to a tracepoint ("syscalls", "sys_enter_openat").

        Needs tracefs to look the event up. ``cookie`` needs kernel 5.15. Minimum kernel 4.7. As
        bpf_program__attach_tracepoint_opts() does it. Source: bpf_program__attach_perf_event_opts().
        """
        cdef bytes raw_category = name_bytes(category, "tracepoint category")
        cdef bytes raw_name = name_bytes(name, "tracepoint name")
        cdef const char *c_category = raw_category
        cdef const char *c_name = raw_name
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        cdef int event
        cdef bint locked = self.begin("attach tracepoint")
        enter(&call, <PyObject *>self.handle)
        with nogil:
            link = attach_tracepoint(self.ptr, c_category, c_name, cookie, &event)
            if link == NULL:
                code = -errno
        return self.end(&call, link, code, locked, f"tracepoint {category}/{name}", event)

    def attach_kprobe(self, function, *, size_t offset=0, bint retprobe=False, unsigned long long cookie=0):
        """Attach to a kernel function, at ``offset`` bytes or at its return.

        ``cookie`` needs kernel 5.15. Source: bpf_program__attach_kprobe_opts().
        """
        cdef bytes raw = name_bytes(function, "function name")
        cdef const char *c_function = raw
        cdef libbpf.bpf_kprobe_opts opts
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        cdef bint locked = self.begin("attach kprobe")
        # Up to 1.1 the struct ended before attach_mode; a longer one of zeros is accepted.
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.bpf_cookie = cookie
        opts.offset = offset
        opts.retprobe = retprobe
        enter(&call, <PyObject *>self.handle)
        with nogil:
            link = libbpf.bpf_program__attach_kprobe_opts(self.ptr, c_function, &opts)
            if link == NULL:
                code = -errno
        return self.end(&call, link, code, locked, f"{'kretprobe' if retprobe else 'kprobe'} {function}+{offset}",
                        HIDDEN_EVENT)

    def attach_uprobe(self, path, *, int pid=-1, size_t offset=0, function=None, bint retprobe=False,
                      unsigned long long cookie=0, size_t ref_ctr_offset=0):
        """Attach to a function, or an offset in bytes, of a binary or shared library.

        ``pid`` -1 is every process, 0 this one. A ``function`` is looked up in the ELF symbols, and a ``path`` without
        slash in the usual library and program folders. ``cookie`` needs kernel 5.15, ``ref_ctr_offset`` 4.20.
        Source: bpf_program__attach_uprobe_opts().
        """
        cdef bytes raw_path = path_bytes(path)
        cdef bytes raw_function = None if function is None else name_bytes(function, "function name")
        cdef const char *c_path = raw_path
        cdef libbpf.bpf_uprobe_opts opts
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        cdef bint locked = self.begin("attach uprobe")
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.ref_ctr_offset = ref_ctr_offset
        opts.bpf_cookie = cookie
        opts.retprobe = retprobe
        if raw_function is not None:
            opts.func_name = raw_function
        enter(&call, <PyObject *>self.handle)
        with nogil:
            link = libbpf.bpf_program__attach_uprobe_opts(self.ptr, pid, c_path, offset, &opts)
            if link == NULL:
                code = -errno
        return self.end(&call, link, code, locked,
                        f"{'uretprobe' if retprobe else 'uprobe'} {_os.fsdecode(path)}:{function or ''}+{offset:#x}",
                        HIDDEN_EVENT)

    def attach_perf_event(self, fd, *, unsigned long long cookie=0, bint force_ioctl=False):
        """Attach to an open perf event, a descriptor or an object with fileno().

        The descriptor stays the caller's: the link works on a duplicate. ``cookie`` needs kernel 5.15;
        ``force_ioctl`` (libbpf 1.2) attaches without a kernel link. Source: bpf_program__attach_perf_event_opts().
        """
        cdef int number = fd if isinstance(fd, int) else fd.fileno()
        cdef int own
        cdef libbpf.bpf_perf_event_opts opts
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        if number < 0:
            raise ValueError(f"{number} is not a file descriptor")
        if force_ioctl:
            need(1, 2, "force_ioctl")
        # The link closes its descriptor, but only if attaching succeeds.
        own = duplicate_fd(number)
        cdef bint locked
        try:
            locked = self.begin("attach perf_event")
        except BaseException:
            close_fd(own)
            raise
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.bpf_cookie = cookie
        opts.force_ioctl_attach = force_ioctl
        enter(&call, <PyObject *>self.handle)
        with nogil:
            link = libbpf.bpf_program__attach_perf_event_opts(self.ptr, own, &opts)
            if link == NULL:
                code = -errno
                close_fd(own)
        return self.end(&call, link, code, locked, f"perf_event {number}", own)

    def attach_trace(self, *, unsigned long long cookie=0):
        """Attach to the BTF target the program was loaded for: tp_btf, fentry, fexit, fmod_ret, freplace.

        ``cookie`` needs kernel 5.19. Minimum kernel 5.5. Source: bpf_program__attach_trace_opts().
        """
        cdef libbpf.bpf_trace_opts opts
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        cdef bint locked = self.begin("attach trace")
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.cookie = cookie
        enter(&call, <PyObject *>self.handle)
        with nogil:
            link = libbpf.bpf_program__attach_trace_opts(self.ptr, &opts)
            if link == NULL:
                code = -errno
        return self.end(&call, link, code, locked, "trace")

    def attach_lsm(self):
        """Attach to the LSM hook the program was loaded for. Minimum kernel 5.7. Source: bpf_program__attach_lsm()."""
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        cdef bint locked = self.begin("attach lsm")
        enter(&call, <PyObject *>self.handle)
        with nogil:
            link = libbpf.bpf_program__attach_lsm(self.ptr)
            if link == NULL:
                code = -errno
        return self.end(&call, link, code, locked, "lsm")

    def attach_iter(self):
        """Make an iterator link. Minimum kernel 5.8. Source: bpf_program__attach_iter()."""
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        cdef bint locked = self.begin("attach iter")
        enter(&call, <PyObject *>self.handle)
        with nogil:
            link = libbpf.bpf_program__attach_iter(self.ptr, NULL)
            if link == NULL:
                code = -errno
        return self.end(&call, link, code, locked, "iter")

    def attach_xdp(self, interface):
        """Attach to a network interface, by name or index. Minimum kernel 5.9. Source: bpf_program__attach_xdp()."""
        cdef int ifindex = interface_index(interface)
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        cdef bint locked = self.begin("attach xdp")
        enter(&call, <PyObject *>self.handle)
        with nogil:
            link = libbpf.bpf_program__attach_xdp(self.ptr, ifindex)
            if link == NULL:
                code = -errno
        return self.end(&call, link, code, locked, f"xdp {interface}")

    def attach_cgroup(self, cgroup):
        """Attach to a cgroup2, by path or open descriptor, which is only needed during the call.

        Minimum kernel 5.7. Source: bpf_program__attach_cgroup().
        """
        cdef bint opened = not isinstance(cgroup, int)
        cdef int fd
        cdef bytes raw
        if opened:
            raw = path_bytes(cgroup)
            fd = open_fd(raw, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            if fd < 0:
                fail(errno, "open cgroup", cgroup)
        else:
            fd = cgroup
        cdef libbpf.bpf_link *link
        cdef Call call
        cdef int code = 0
        cdef bint locked
        try:
            locked = self.begin("attach cgroup")
            enter(&call, <PyObject *>self.handle)
            with nogil:
                link = libbpf.bpf_program__attach_cgroup(self.ptr, fd)
                if link == NULL:
                    code = -errno
        finally:
            if opened:
                close_fd(fd)
        return self.end(&call, link, code, locked, f"cgroup {cgroup}")


cdef int interface_index(object interface) except -1:
    """The number of a network interface given by name or number."""
    cdef unsigned int index
    cdef bytes name
    if isinstance(interface, int):
        if not 0 < interface < 1 << 31:
            raise ValueError(f"{interface} is not an interface index")
        return interface
    name = name_bytes(interface, "interface name")
    index = if_nametoindex(name)
    if index == 0:
        fail(errno, "find network interface", interface)
    return index


cdef int duplicate_fd(int fd) except -1:
    cdef int copy = fcntl(fd, F_DUPFD_CLOEXEC, <int>3)
    if copy < 0:
        fail(errno, "use descriptor", fd)
    return copy


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
