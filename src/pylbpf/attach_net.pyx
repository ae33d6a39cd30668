"""Attaching to the network and to cgroups: interfaces, name spaces, sockets in maps, netfilter."""
from cpython.object cimport PyObject
from libc.errno cimport errno
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC, O_DIRECTORY, O_RDONLY

from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter, note_missing
from .errors cimport finish, need
from .link cimport link_of_descriptor
from .paths cimport number_of, signed_of
from .program cimport Program
from .targets cimport Anchor, Target, beside, held, interface_index, open_target, set_anchor

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    # enum bpf_attach_type
    SK_SKB_STREAM_PARSER = 4
    SK_SKB_STREAM_VERDICT = 5
    SK_MSG_VERDICT = 7
    FLOW_DISSECTOR = 17
    SK_LOOKUP = 36
    XDP = 37
    SK_SKB_VERDICT = 38
    TCX_INGRESS = 46
    TCX_EGRESS = 47
    NETKIT_PRIMARY = 54
    NETKIT_PEER = 55

    CGROUP = 0          # no attach type alone


cdef libbpf.bpf_link *attach_ordered(const libbpf.bpf_program *program, int target, int first_type,
                                     const Anchor *anchor) noexcept nogil:
    """By the function that libbpf has for the kind, whose options all look the same."""
    cdef libbpf.bpf_tcx_opts tcx
    cdef libbpf.bpf_netkit_opts netkit
    cdef libbpf.bpf_cgroup_opts cgroup
    if first_type == TCX_INGRESS:
        memset(&tcx, 0, sizeof(tcx))
        tcx.sz = sizeof(tcx)
        tcx.flags = anchor.flags
        tcx.relative_fd = anchor.relative_fd
        tcx.relative_id = anchor.relative_id
        tcx.expected_revision = anchor.expected_revision
        return libbpf.bpf_program__attach_tcx(program, target, &tcx)
    if first_type == NETKIT_PRIMARY:
        memset(&netkit, 0, sizeof(netkit))
        netkit.sz = sizeof(netkit)
        netkit.flags = anchor.flags
        netkit.relative_fd = anchor.relative_fd
        netkit.relative_id = anchor.relative_id
        netkit.expected_revision = anchor.expected_revision
        return libbpf.bpf_program__attach_netkit(program, target, &netkit)
    memset(&cgroup, 0, sizeof(cgroup))
    cgroup.sz = sizeof(cgroup)
    cgroup.flags = anchor.flags
    cgroup.relative_fd = anchor.relative_fd
    cgroup.relative_id = anchor.relative_id
    cgroup.expected_revision = anchor.expected_revision
    return libbpf.bpf_program__attach_cgroup_opts(program, target, &cgroup)


cdef object in_order(Program self, str kind, int target, object where, tuple types, int minor,
                     unsigned int flags, object relative_fd, object relative_id, object expected_revision):
    """Attach to what keeps its programs in an order."""
    cdef Anchor anchor
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef int first_type = types[0] if types else CGROUP
    cdef Target other = beside(relative_fd)
    cdef bint placed = set_anchor(&anchor, flags, other, relative_id, expected_revision)
    cdef bint known = libbpf.libbpf_major_version() > 1 or <int>libbpf.libbpf_minor_version() >= minor
    if placed:
        need(1, minor, f"a place in the order of {kind}")
    cdef str title = f"{kind} {where}"
    cdef bint locked = self.begin_as(f"attach {kind}", types) if types else self.begin(f"attach {kind}")
    enter(&call, <PyObject *>self.handle)
    with nogil:
        # Without options all these kinds are one call, which every libbpf has under this name.
        link = (attach_ordered(self.ptr, target, first_type, &anchor) if known
                else libbpf.bpf_program__attach_cgroup(self.ptr, target))
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)


def attach_xdp(Program self not None, interface, *, flags=0):
    """Attach to a network interface, by name or index.

    ``flags`` are XdpFlags: with SKB_MODE, DRV_MODE or HW_MODE in that mode or not at all. Minimum kernel 5.9.
    Source: bpf_program__attach_xdp(), with flags bpf_link_create().
    """
    cdef int ifindex = interface_index(interface)
    cdef bpf.bpf_link_create_opts opts
    cdef libbpf.bpf_link *link = NULL
    cdef Call call
    cdef int code = 0
    cdef int program
    cdef unsigned int mode = number_of(flags, "flags")
    cdef str title = f"xdp {interface}"
    cdef bint locked = self.begin("attach xdp")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.flags = mode
    program = libbpf.bpf_program__fd(self.ptr)
    enter(&call, <PyObject *>self.handle)
    with nogil:
        if mode:
            code = bpf.bpf_link_create(program, ifindex, <uapi.bpf_attach_type>XDP, &opts)
        else:
            link = libbpf.bpf_program__attach_xdp(self.ptr, ifindex)
            if link == NULL:
                code = -errno
    if mode and code >= 0:
        if locked:
            self.handle.release()
        finish(&call, 0, None, None)
        return link_of_descriptor(code, self.handle, self, title)
    return self.end(&call, link, code, locked, title)


def attach_tcx(Program self not None, interface, *, flags=0, relative_fd=None, relative_id=0, expected_revision=0):
    """Attach to the ingress or egress of a network interface, given by name or index, without a qdisc.

    Several programs run in an order, and the new one comes last. ``flags`` (AttachFlags) BEFORE or AFTER puts it
    beside another program or link, or at an end if there is none: ``relative_fd`` is a Program, a Link or a
    descriptor, ``relative_id`` a number. With ``expected_revision`` the kernel refuses if anything has been
    attached or detached meanwhile; query.attached() tells the revision. All four need libbpf 1.3. The program's
    expected_attach_type must be TCX_INGRESS or TCX_EGRESS. Minimum kernel 6.6. Source: bpf_program__attach_tcx().
    """
    return in_order(self, "tcx", interface_index(interface), interface, (TCX_INGRESS, TCX_EGRESS), 3,
                         number_of(flags, "flags"), relative_fd, relative_id, expected_revision)


def attach_netkit(Program self not None, interface, *, flags=0, relative_fd=None, relative_id=0, expected_revision=0):
    """Attach to a netkit device, given by name or index of its primary end.

    Options as for attach_tcx(), from libbpf 1.3 on. The program's expected_attach_type must be NETKIT_PRIMARY or
    NETKIT_PEER. Minimum kernel 6.7. Source: bpf_program__attach_netkit().
    """
    return in_order(self, "netkit", interface_index(interface), interface, (NETKIT_PRIMARY, NETKIT_PEER), 3,
                         number_of(flags, "flags"), relative_fd, relative_id, expected_revision)


def attach_cgroup(Program self not None, cgroup, *, flags=0, relative_fd=None, relative_id=0, expected_revision=0):
    """Attach to a cgroup2, by path or open descriptor, which is only needed during the call.

    Options as for attach_tcx(), from libbpf 1.6 and kernel 6.17 on; beside a program that a link holds, name the
    link. The hook is the one that the program was loaded for; LSM programs of a cgroup too. Minimum kernel 5.7. Source: bpf_program__attach_cgroup_opts().
    """
    cdef Target target = open_target(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC, "cgroup")
    return in_order(self, "cgroup", target.fd, cgroup, (), 6, number_of(flags, "flags"), relative_fd, relative_id,
                         expected_revision)


def attach_netns(Program self not None, netns):
    """Attach a sk_lookup or flow_dissector program to a network name space.

    ``netns`` is a path (/proc/1/ns/net, /run/netns/blue) or a descriptor, which is only needed during the call.
    Minimum kernel 5.8. Source: bpf_program__attach_netns().
    """
    cdef Target target = open_target(netns, O_RDONLY | O_CLOEXEC, "network name space")
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef int fd = target.fd
    cdef str title = f"netns {netns}"
    cdef bint locked = self.begin_as("attach netns", (SK_LOOKUP, FLOW_DISSECTOR))
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_netns(self.ptr, fd)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)


def attach_sockmap(Program self not None, map):
    """Attach to the sockets of a sockmap or sockhash, a Map or its descriptor.

    The program must be of section sk_skb or sk_msg. Minimum kernel 6.10. Source: bpf_program__attach_sockmap().
    """
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef Target kept = held(map, "map")
    cdef int fd = kept.fd
    cdef str title = f"sockmap {map}"
    cdef bint locked = self.begin_as("attach sockmap", (SK_SKB_STREAM_PARSER, SK_SKB_STREAM_VERDICT, SK_SKB_VERDICT,
                                                        SK_MSG_VERDICT))
    enter(&call, <PyObject *>self.handle)
    with nogil:
        # bpf_program__attach_sockmap() of libbpf 1.5, in a version that all have.
        link = libbpf.bpf_program__attach_netns(self.ptr, fd)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)


def attach_netfilter(Program self not None, pf, hooknum, *, priority=0, flags=0):
    """Attach to a netfilter hook of this network name space.

    ``pf`` is 2 (NFPROTO_IPV4) or 10 (NFPROTO_IPV6), ``hooknum`` 0 to 4 (NF_INET_PRE_ROUTING, LOCAL_IN, FORWARD,
    LOCAL_OUT, POST_ROUTING). Hooks of a smaller ``priority`` run first; each priority is taken once, and the
    smallest and the greatest number are not for programs. ``flags`` 1 (BPF_F_NETFILTER_IP_DEFRAG) has fragments put
    together before. Minimum kernel 6.4, libbpf 1.3. Source: bpf_program__attach_netfilter().
    """
    cdef libbpf.bpf_netfilter_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef int order = signed_of(priority, "priority")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.pf = number_of(pf, "pf")
    opts.hooknum = number_of(hooknum, "hooknum")
    opts.flags = number_of(flags, "flags")
    opts.priority = order
    cdef str title = f"netfilter pf {pf}, hook {hooknum}"
    cdef bint locked = self.begin("attach netfilter")
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_netfilter(self.ptr, &opts)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)
