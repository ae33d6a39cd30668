"""XDP programs of network interfaces by netlink, without links: they stay when the process is gone, until detach()."""
from collections import namedtuple as _namedtuple

from libc.errno cimport ENODEV, ENXIO, errno
from libc.string cimport memset

from .c cimport libbpf
from .call cimport Call, enter, note_missing
from .errors cimport fail, finish
from .paths cimport number_of
from .targets cimport Target, held, interface_index

__all__ = ["attach", "detach", "query", "XdpQuery"]

cdef extern from "<net/if.h>" nogil:
    enum:
        IF_NAMESIZE
    char *if_indextoname(unsigned int index, char *name)

libbpf.pylbpf_on_missing = note_missing

XdpQuery = _namedtuple("XdpQuery", "prog_id drv_prog_id hw_prog_id skb_prog_id attach_mode feature_flags zc_max_segs",
                        module=__name__)
XdpQuery.__doc__ = """The XDP programs of an interface: their numbers, 0 for none, in each mode; ``prog_id`` if there is one.

``attach_mode`` 0 none, 1 driver, 2 generic, 3 hardware, 4 several. ``feature_flags`` (NETDEV_XDP_ACT_…) and
``zc_max_segs`` of the driver are 0 before libbpf 1.3 and kernel 6.3."""


def attach(interface, program, *, flags=0, old_program=None):
    """Attach a loaded Program (or its descriptor) to an interface, given by name or index, in the place of what is there.

    ``flags`` are XdpFlags: UPDATE_IF_NOEXIST fails (BpfError, EBUSY) if there is one. With ``old_program`` only if that
    is the one which runs now; else BpfError (EEXIST). Minimum kernel 4.8, with old_program 5.7.
    Source: bpf_xdp_attach().
    """
    change(interface_index(interface), held(program, "program"), number_of(flags, "flags"), old_program,
           "attach XDP program to", interface)


def detach(interface, *, flags=0, old_program=None):
    """Detach the XDP program of an interface; nothing happens if there is none.

    ``flags`` name the mode that it was attached in (SKB_MODE, DRV_MODE, HW_MODE) if that was said. With
    ``old_program`` only if that is the one which runs now. A program that a link holds is not detached: BpfError
    (EBUSY). Source: bpf_xdp_detach().
    """
    change(interface_index(interface), None, number_of(flags, "flags"), old_program, "detach XDP program of", interface)


cdef int change(int ifindex, Target new, unsigned int flags, object old_program, str operation, object interface) except -1:
    cdef libbpf.bpf_xdp_attach_opts opts
    cdef Call call
    cdef int code
    cdef int program = -1 if new is None else new.fd
    cdef Target old
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    if old_program is not None:
        old = held(old_program, "old_program")
        opts.old_prog_fd = old.fd
    enter(&call, NULL)
    with nogil:
        if program < 0:
            code = libbpf.bpf_xdp_detach(ifindex, flags, &opts)
        else:
            code = libbpf.bpf_xdp_attach(ifindex, program, flags, &opts)
    return finish(&call, code, operation, interface)


def query(interface):
    """The XDP programs of an interface, given by name or index, as an XdpQuery; also of links. Source: bpf_xdp_query()."""
    cdef int ifindex = interface_index(interface)
    cdef libbpf.bpf_xdp_query_opts opts
    cdef Call call
    cdef int code
    cdef char name[IF_NAMESIZE]
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    enter(&call, NULL)
    with nogil:
        code = libbpf.bpf_xdp_query(ifindex, 0, &opts)
    finish(&call, code, "query XDP programs of", interface)
    if opts.attach_mode == 0 and if_indextoname(ifindex, name) == NULL:     # older libbpfs do not tell
        fail(ENODEV if errno == ENXIO else errno, "query XDP programs of", interface)
    return XdpQuery(opts.prog_id, opts.drv_prog_id, opts.hw_prog_id, opts.skb_prog_id, opts.attach_mode, opts.feature_flags,
                    opts.xdp_zc_max_segs)
