"""Programs of traffic control by netlink, without links: they stay when the process is gone, until detach()."""
from collections import namedtuple as _namedtuple

cimport cython
from libc.string cimport memset

from .c cimport libbpf
from .call cimport Call, enter, note_missing
from .errors cimport finish, need
from .paths cimport name_bytes, number_of
from .targets cimport Target, held, interface_index

__all__ = ["TcHook", "TcFilter"]

libbpf.pylbpf_on_missing = note_missing

TcFilter = _namedtuple("TcFilter", "handle priority prog_id", module=__name__)
TcFilter.__doc__ = """A program on a TcHook: ``handle`` and ``priority`` are its name there; ``prog_id`` is the program's number."""

cdef dict POINTS = {"ingress": 1, "egress": 2, "both": 3, "custom": 4, "qdisc": 8}

cdef enum:
    CUSTOM = 4
    QDISC = 8


@cython.final
cdef class TcHook:
    """A place of traffic control: the ingress or egress of an ``interface``, given by name or index.

    ``attach_point`` is "ingress", "egress", "both" (for create() and destroy() only), "custom" (``parent``: the number of
    a qdisc's class), or from libbpf 1.6 on "qdisc" (``qdisc``: its kind, ``handle`` and ``parent``: where it stands).
    Nothing here is undone by itself. Source: struct bpf_tc_hook of libbpf.
    """

    cdef libbpf.bpf_tc_hook hook
    cdef bytes kind                 # the qdisc's
    cdef readonly object interface
    cdef readonly str attach_point

    def __init__(self, interface, attach_point, *, parent=0, handle=0, qdisc=None):
        if attach_point not in POINTS:
            raise ValueError(f"attach_point is one of {', '.join(POINTS)}, not {attach_point!r}")
        memset(&self.hook, 0, sizeof(self.hook))
        self.hook.sz = sizeof(self.hook)
        self.hook.attach_point = <libbpf.bpf_tc_attach_point><int>POINTS[attach_point]
        self.hook.parent = number_of(parent, "parent")
        self.hook.handle = number_of(handle, "handle")
        self.kind = None if qdisc is None else name_bytes(qdisc, "qdisc")
        if POINTS[attach_point] == QDISC or self.kind is not None or self.hook.handle:
            need(1, 6, "a TcHook with a qdisc")
        if self.kind is not None:
            self.hook.qdisc = self.kind
        self.hook.ifindex = interface_index(interface)
        self.interface = interface
        self.attach_point = attach_point

    def __str__(self):
        return f"{self.attach_point} of {self.interface}"

    def __repr__(self):
        return f"<TcHook: {self}>"

    def create(self):
        """Make the qdisc (clsact) that programs hang on; FileExistsError if there is one already.

        Source: bpf_tc_hook_create().
        """
        cdef Call call
        cdef int code
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_tc_hook_create(&self.hook)
        finish(&call, code, "create hook", self)

    def destroy(self):
        """Remove the qdisc and all programs on it; of "ingress" or "egress" alone, all programs there.

        Source: bpf_tc_hook_destroy().
        """
        cdef Call call
        cdef int code
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_tc_hook_destroy(&self.hook)
        finish(&call, code, "destroy hook", self)

    def attach(self, program, *, handle=0, priority=0, bint replace=False):
        """Attach a loaded Program (or its descriptor) and return a TcFilter, which says where it is.

        Programs of a smaller ``priority`` run first. Without ``handle`` and ``priority`` the kernel chooses. A handle that
        is taken is FileExistsError, unless ``replace``. Source: bpf_tc_attach().
        """
        cdef libbpf.bpf_tc_opts opts
        cdef Call call
        cdef int code
        cdef Target kept = held(program, "program")
        fill(&opts, handle, priority)
        opts.prog_fd = kept.fd
        opts.flags = libbpf.BPF_TC_F_REPLACE if replace else 0
        title = f"attach {program} to"
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_tc_attach(&self.hook, &opts)
        finish(&call, code, title, self)
        return TcFilter(opts.handle, opts.priority, opts.prog_id)

    def detach(self, handle, priority):
        """Detach the program of that handle and priority; BpfError (ENOENT or EINVAL) if there is none.

        Source: bpf_tc_detach().
        """
        cdef libbpf.bpf_tc_opts opts
        cdef Call call
        cdef int code
        fill(&opts, handle, priority)
        title = f"detach handle {handle}, priority {priority} of"
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_tc_detach(&self.hook, &opts)
        finish(&call, code, title, self)

    def query(self, handle, priority):
        """The TcFilter of that handle and priority; FileNotFoundError if there is none.

        BpfError (EINVAL) where the interface has no qdisc for it. Source: bpf_tc_query().
        """
        cdef libbpf.bpf_tc_opts opts
        cdef Call call
        cdef int code
        fill(&opts, handle, priority)
        title = f"query handle {handle}, priority {priority} of"
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_tc_query(&self.hook, &opts)
        finish(&call, code, title, self)
        return TcFilter(opts.handle, opts.priority, opts.prog_id)


cdef int fill(libbpf.bpf_tc_opts *opts, object handle, object priority) except -1:
    memset(opts, 0, sizeof(opts[0]))
    opts.sz = sizeof(opts[0])
    opts.handle = number_of(handle, "handle")
    opts.priority = number_of(priority, "priority")
    return 0
