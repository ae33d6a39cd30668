"""Attaching without links, by descriptors: what is attached stays until it is detached, or what it is attached to ends."""
from libc.errno cimport errno
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC, O_RDONLY

from .atwork cimport AtWork
from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter, note_missing
from .errors cimport finish, need
from .link cimport link_of_descriptor
from .paths cimport number64_of, number_of
from .targets cimport Anchor, Target, beside, held, interface_index, open_target, set_anchor

libbpf.pylbpf_on_missing = note_missing

cdef extern from "<sys/socket.h>" nogil:
    int setsockopt(int fd, int level, int option, const void *value, unsigned int length)
    int SOL_SOCKET
    int SO_ATTACH_BPF
    int SO_ATTACH_REUSEPORT_EBPF
    int SO_DETACH_FILTER
    int SO_DETACH_REUSEPORT_BPF

cdef enum:
    SK_REUSEPORT = 21       # enum bpf_prog_type
    PERF_EVENT = 41         # enum bpf_attach_type
    XDP = 37
    TCX_INGRESS = 46
    TCX_EGRESS = 47
    NETKIT_PRIMARY = 54
    NETKIT_PEER = 55
    ALLOW_AND_REPLACE = 0b111       # flags that older libbpf knows


cdef Target hook_target(object target, unsigned int attach_type):
    cdef Target made
    if attach_type not in (XDP, TCX_INGRESS, TCX_EGRESS, NETKIT_PRIMARY, NETKIT_PEER):
        return open_target(target, O_RDONLY | O_CLOEXEC, "target")
    made = Target.__new__(Target)
    made.fd = interface_index(target)
    return made


cdef class Hooking(AtWork):
    """What Program inherits: hooks without links."""

    def prog_attach(self, target, attach_type, *, flags=0, replace_fd=None, relative_fd=None, relative_id=0,
                    expected_revision=0):
        """Attach without a link: it stays when program, object and process are gone, until prog_detach().

        ``target`` is what the ``attach_type`` (an AttachType) is of: a path or descriptor of a cgroup or a lirc device, a
        sockmap, an interface for TCX and NETKIT. ``flags`` are AttachFlags; ``replace_fd`` (a Program, with
        flags REPLACE) is what is there now; ``relative_fd``, ``relative_id`` and ``expected_revision`` (libbpf 1.3) as
        for attach_tcx(). Source: bpf_prog_attach_opts().
        """
        cdef unsigned int type = number_of(attach_type, "attach_type")
        cdef Target where = hook_target(target, type)
        cdef bpf.struct_bpf_prog_attach_opts opts
        cdef Anchor anchor
        cdef Call call
        cdef int code, program
        cdef Target other = beside(relative_fd)
        set_anchor(&anchor, number_of(flags, "flags"), other, relative_id, expected_revision)
        if anchor.flags & ~ALLOW_AND_REPLACE or anchor.relative_fd or anchor.relative_id or anchor.expected_revision:
            need(1, 3, "a place in the order of programs")
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.flags = anchor.flags
        opts.relative_fd = anchor.relative_fd
        opts.relative_id = anchor.relative_id
        opts.expected_revision = anchor.expected_revision
        cdef Target replaced = None if replace_fd is None else held(replace_fd, "replace_fd")
        if replaced is not None:
            opts.replace_fd = replaced.fd
        cdef str title = f"attach to {target} ({attach_type!r})"
        cdef bint locked = self.begin("attach")
        program = self.number()
        enter(&call, NULL)
        with nogil:
            code = bpf.bpf_prog_attach_opts(program, where.fd, <uapi.bpf_attach_type>type, &opts)
        self.unlock(locked)
        finish(&call, code, title, self)

    def prog_detach(self, target, attach_type, *, relative_fd=None, relative_id=0, expected_revision=0):
        """Undo prog_attach(); BpfError (ENOENT) if this program is not there. A link is not detached by this.

        Source: bpf_prog_detach2(), with options bpf_prog_detach_opts() (libbpf 1.3).
        """
        cdef unsigned int type = number_of(attach_type, "attach_type")
        cdef Target where = hook_target(target, type)
        cdef bpf.struct_bpf_prog_detach_opts opts
        cdef Anchor anchor
        cdef Call call
        cdef int code, program
        cdef Target other = beside(relative_fd)
        cdef bint placed = set_anchor(&anchor, 0, other, relative_id, expected_revision)
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.flags = anchor.flags
        opts.relative_fd = anchor.relative_fd
        opts.relative_id = anchor.relative_id
        opts.expected_revision = anchor.expected_revision
        cdef str title = f"detach from {target} ({attach_type!r})"
        cdef bint locked = self.begin("detach")
        program = self.number()
        enter(&call, NULL)
        with nogil:
            if placed:
                code = bpf.bpf_prog_detach_opts(program, where.fd, <uapi.bpf_attach_type>type, &opts)
            else:
                code = bpf.bpf_prog_detach2(program, where.fd, <uapi.bpf_attach_type>type)
        self.unlock(locked)
        finish(&call, code, title, self)

    def link_create(self, target, attach_type, *, flags=0, cookie=0, relative_fd=None, relative_id=0, expected_revision=0):
        """Attach as an ``attach_type`` (an AttachType) says, and return the Link: what the attach methods do, by hand.

        ``target`` is an interface for XDP, TCX and NETKIT, a path or descriptor of a cgroup or a network name space, a
        sockmap, a perf event (PERF_EVENT), None where the program itself says it (iterators, tracing). ``flags`` are those
        of the kind; ``cookie`` goes with perf events and tracing, the others with TCX, NETKIT and cgroups as for
        attach_tcx(). Minimum kernel 5.7, of the kinds newer. Source: bpf_link_create().
        """
        cdef unsigned int type = number_of(attach_type, "attach_type")
        cdef Target where = Target.__new__(Target) if target is None else hook_target(target, type)
        cdef bpf.bpf_link_create_opts opts
        cdef Anchor anchor
        cdef Call call
        cdef int fd, program
        cdef Target other = beside(relative_fd)
        set_anchor(&anchor, number_of(flags, "flags"), other, relative_id, expected_revision)
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.flags = anchor.flags
        if cookie and type == PERF_EVENT:
            opts.perf_event.bpf_cookie = number64_of(cookie, "cookie")
        elif cookie:
            opts.tracing.cookie = number64_of(cookie, "cookie")
        elif anchor.relative_fd or anchor.relative_id or anchor.expected_revision:
            need(1, 3, "a place in the order of programs")
            # One union, in which these three look alike.
            opts.tcx.relative_fd = anchor.relative_fd
            opts.tcx.relative_id = anchor.relative_id
            opts.tcx.expected_revision = anchor.expected_revision
        cdef str title = f"{target or ''} {attach_type!r}".strip()
        cdef bint locked = self.begin("attach")
        program = self.number()
        enter(&call, NULL)
        with nogil:
            fd = bpf.bpf_link_create(program, max(where.fd, 0), <uapi.bpf_attach_type>type, &opts)
        self.unlock(locked)
        finish(&call, fd, f"attach to {title}", self)
        return link_of_descriptor(fd, self.handle, self, title)

    def attach_socket(self, sock):
        """Make it the filter of a socket, or for the type SK_REUSEPORT what chooses among the sockets of its group.

        ``sock`` is a socket or a descriptor. It replaces the one before, and stays as long as the socket, or until
        detach_socket(). As libbpf has nothing for this, with bpf_program__fd(): setsockopt(2), SO_ATTACH_BPF and
        SO_ATTACH_REUSEPORT_EBPF. Minimum kernel 3.19, of reuseport groups 4.5.
        """
        cdef Call call
        cdef int code, program
        cdef Target kept = held(sock, "socket")
        cdef int fd = kept.fd
        cdef int option = SO_ATTACH_REUSEPORT_EBPF if self.kind() == SK_REUSEPORT else SO_ATTACH_BPF
        cdef bint locked = self.begin("attach socket")
        program = self.number()
        enter(&call, NULL)
        with nogil:
            code = setsockopt(fd, SOL_SOCKET, option, &program, sizeof(program))
            if code < 0:
                code = -errno
        self.unlock(locked)
        finish(&call, code, "attach to socket", self)

    def detach_socket(self, sock):
        """Take the socket's filter or its group's program away, whichever it is; BpfError (ENOENT) if there is none.

        As libbpf has nothing for this, by the type of bpf_program__type(): setsockopt(2), SO_DETACH_FILTER and
        SO_DETACH_REUSEPORT_BPF (kernel 5.3).
        """
        cdef Call call
        cdef int code
        cdef int nothing = 0
        cdef Target kept = held(sock, "socket")
        cdef int fd = kept.fd
        cdef int option = (SO_DETACH_REUSEPORT_BPF if self.kind() == SK_REUSEPORT
                           else SO_DETACH_FILTER)
        cdef bint locked = self.begin("detach socket")
        enter(&call, NULL)
        with nogil:
            code = setsockopt(fd, SOL_SOCKET, option, &nothing, sizeof(nothing))
            if code < 0:
                code = -errno
        self.unlock(locked)
        finish(&call, code, "detach from socket", self)
