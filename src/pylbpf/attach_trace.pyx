"""Attaching to events and to what BTF names: tracepoints, perf events, functions by trampoline, LSM, iterators."""
from cpython.object cimport PyObject
from libc.errno cimport errno
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC, O_DIRECTORY, O_RDONLY
from posix.unistd cimport close as close_fd

from .c cimport libbpf, uapi
from .call cimport Call, enter, note_missing
from .errors cimport need
from .paths cimport name_bytes, number64_of, number_of
from .program cimport Program
from .targets cimport Functions, Target, descriptor_of, duplicate_fd, functions_of, held, memory_of, open_target
from .tracepoint cimport attach_tracepoint as attach_by_event

libbpf.pylbpf_on_missing = note_missing


def attach_raw_tracepoint(Program self not None, name, *, cookie=0):
    """Attach to a raw tracepoint by name ("sys_enter").

    ``cookie`` (kernel 6.9, libbpf 1.4) is what bpf_get_attach_cookie() returns in the program. Minimum kernel 4.17.
    Source: bpf_program__attach_raw_tracepoint_opts().
    """
    cdef bytes raw = name_bytes(name, "tracepoint name")
    cdef const char *tracepoint = raw
    cdef unsigned long long value = number64_of(cookie, "cookie")
    cdef libbpf.bpf_raw_tracepoint_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef str title = f"raw_tracepoint {name}"
    cdef bint locked = self.begin("attach raw_tracepoint")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.cookie = value
    enter(&call, <PyObject *>self.handle)
    with nogil:
        if value:
            link = libbpf.bpf_program__attach_raw_tracepoint_opts(self.ptr, tracepoint, &opts)
        else:
            link = libbpf.bpf_program__attach_raw_tracepoint(self.ptr, tracepoint)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)


def attach_tracepoint(Program self not None, category, name, *, cookie=0):
    """Attach to a tracepoint ("syscalls", "sys_enter_openat").

    Needs tracefs to look the event up. ``cookie`` needs kernel 5.15. Minimum kernel 4.7. As
    bpf_program__attach_tracepoint_opts() does it. Source: bpf_program__attach_perf_event_opts().
    """
    cdef bytes raw_category = name_bytes(category, "tracepoint category")
    cdef bytes raw_name = name_bytes(name, "tracepoint name")
    cdef const char *c_category = raw_category
    cdef const char *c_name = raw_name
    cdef unsigned long long value = number64_of(cookie, "cookie")
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef int event
    cdef str title = f"tracepoint {category}/{name}"
    cdef bint locked = self.begin("attach tracepoint")
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = attach_by_event(self.ptr, c_category, c_name, value, &event)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title, event)


def attach_perf_event(Program self not None, fd, *, cookie=0, bint force_ioctl=False):
    """Attach to an open perf event, a descriptor or an object with fileno().

    The descriptor stays the caller's: the link works on a duplicate. ``cookie`` needs kernel 5.15;
    ``force_ioctl`` (libbpf 1.2) attaches without a kernel link. Source: bpf_program__attach_perf_event_opts().
    """
    cdef unsigned long long value = number64_of(cookie, "cookie")
    cdef int number = descriptor_of(fd, "perf event")
    cdef int own
    cdef libbpf.bpf_perf_event_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    if force_ioctl:
        need(1, 2, "force_ioctl")
    # The link closes its descriptor, but only if attaching succeeds.
    own = duplicate_fd(number)
    cdef str title = f"perf_event {number}"
    cdef bint locked
    try:
        locked = self.begin("attach perf_event")
    except BaseException:
        close_fd(own)
        raise
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.bpf_cookie = value
    opts.force_ioctl_attach = force_ioctl
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_perf_event_opts(self.ptr, own, &opts)
        if link == NULL:
            code = -errno
            close_fd(own)
    return self.end(&call, link, code, locked, title, own)


def attach_trace(Program self not None, *, cookie=0):
    """Attach to the BTF target the program was loaded for: tp_btf, fentry, fexit, fmod_ret, freplace.

    ``cookie`` needs kernel 5.19. Minimum kernel 5.5. Source: bpf_program__attach_trace_opts().
    """
    cdef unsigned long long value = number64_of(cookie, "cookie")
    cdef libbpf.bpf_trace_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef bint locked = self.begin("attach trace")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.cookie = value
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_trace_opts(self.ptr, &opts)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, "trace")


def attach_tracing_multi(Program self not None, pattern=None, *, ids=None, cookies=None):
    """Attach to many functions by one link, by a ``pattern`` with * and ?, or by their BTF ``ids``.

    ``cookies`` has one number for each id. The program must be loaded for it: section fentry.multi and its kin.
    Needs libbpf 1.8. Source: bpf_program__attach_tracing_multi().
    """
    cdef Functions many = functions_of(pattern, None, ids, "I", "ids", None, cookies)
    cdef const char *c_pattern = <const char *>memory_of(many.raw)
    cdef libbpf.bpf_tracing_multi_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef str title = f"tracing multi {many.words}"
    cdef bint locked = self.begin("attach tracing multi")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.ids = <const uapi.__u32 *>memory_of(many.numbers)
    opts.cookies = <const uapi.__u64 *>memory_of(many.cookies)
    opts.cnt = many.count
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_tracing_multi(self.ptr, c_pattern, &opts)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)


def attach_freplace(Program self not None, target, function):
    """Replace a function of another loaded program: ``target`` is a Program or a descriptor, needed during the call.

    The function must have the type of the one that this program was loaded for. Minimum kernel 5.10.
    Source: bpf_program__attach_freplace().
    """
    cdef bytes raw = name_bytes(function, "function name")
    cdef const char *name = raw
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef Target kept = held(target, "target")
    cdef int fd = kept.fd
    cdef str title = f"freplace {function} of {target}"
    cdef bint locked = self.begin("attach freplace")
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_freplace(self.ptr, fd, name)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)


def attach_lsm(Program self not None):
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


def attach_iter(Program self not None, *, map=None, cgroup=None, order=0, pid=0, tid=0, pid_fd=None):
    """Make an iterator link; iter() reads what the program writes.

    What to go through: the elements of a ``map`` (a Map or descriptor, which the link keeps), cgroups from
    ``cgroup`` on (a path or descriptor) in an ``order`` (an IterOrder; kernel 6.1), the threads of one process
    (``pid``, or ``pid_fd``) or one thread (``tid``; kernel 6.1). Without any, all that the kernel has.
    Minimum kernel 5.8. Source: bpf_program__attach_iter().
    """
    cdef libbpf.bpf_iter_attach_opts opts
    cdef uapi.bpf_iter_link_info info
    cdef Target target = None
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef unsigned int way = number_of(order, "order")
    cdef unsigned int process = number_of(pid, "pid")
    cdef unsigned int thread = number_of(tid, "tid")
    cdef int limits = ((map is not None) + (cgroup is not None) + (process != 0) + (thread != 0) + (pid_fd is not None))
    if limits > 1:
        raise ValueError("an iterator goes through a map, or cgroups, or one process, or one thread")
    if way and cgroup is None:
        raise ValueError("order is for cgroups")
    memset(&info, 0, sizeof(info))
    if map is not None:
        target = held(map, "map")
        info.map.map_fd = target.fd
    elif cgroup is not None:
        target = open_target(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC, "cgroup")
        info.cgroup.cgroup_fd = target.fd
        info.cgroup.order = <uapi.bpf_cgroup_iter_order>way
    elif pid_fd is not None:
        target = held(pid_fd, "pid_fd")
        info.task.pid_fd = target.fd
    else:
        info.task.tid = thread
        info.task.pid = process
    cdef bint locked = self.begin("attach iter")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.link_info = &info
    opts.link_info_len = sizeof(info)
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_iter(self.ptr, &opts if limits else NULL)
        if link == NULL:
            code = -errno
    made = self.end(&call, link, code, locked, "iter")
    if limits:
        # Other iterators would take the number for something else.
        goes = made.info().target_name
        wanted = "the elements of a map" if map is not None else "cgroups" if cgroup is not None else "tasks"
        if not (goes in ("bpf_map_elem", "bpf_sk_storage_map") if map is not None else
                goes == "cgroup" if cgroup is not None else goes.startswith("task")):
            made.close()
            raise ValueError(f"{self} goes through '{goes}', not {wanted}")
    return made


def iter(Program self not None, *, bint text=False, map=None, cgroup=None, order=0, pid=0, tid=0, pid_fd=None):
    """What an iterator program writes, as a file of bytes, or with ``text`` of text: for line in program.iter().

    What to go through is said as for attach_iter(). The file is closed at the end of a loop over its lines, and
    outlives the object. Minimum kernel 5.8. Source: bpf_program__attach_iter(), bpf_iter_create().
    """
    with self.attach_iter(map=map, cgroup=cgroup, order=order, pid=pid, tid=tid, pid_fd=pid_fd) as link:
        return link.iter(text=text)
