"""What the kernel holds, whoever put it there: programs, maps, links, types; and what is attached where."""
from collections import namedtuple as _namedtuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport ENOENT, ENOSPC, errno
from libc.string cimport memcpy, memset

from .attach_hook cimport hook_target
from .c cimport bpf, libbpf, uapi
from .errors cimport fail
from .info cimport BtfInfo, MapInfo, ProgramInfo, info_by_id
from .listing cimport Item, Kind, LINKS, Listing, MAPS, NO_TEXT, PROGRAMS, TYPES, free_listing, list_all
from .paths cimport number_of
from .targets cimport Target

__all__ = ["programs", "maps", "links", "btfs", "program", "map", "link", "btf", "attached", "Attached", "AttachedProgram",
           "owners", "Owner"]

cdef enum:
    BPF_F_QUERY_EFFECTIVE = 1
    XDP = 37
    TCX_INGRESS = 46
    TCX_EGRESS = 47
    NETKIT_PRIMARY = 54
    NETKIT_PEER = 55


cdef list all_of(Kind kind, str words, object make):
    """All things of a kind, each as what `make` makes of its bytes and its text."""
    cdef Listing found
    cdef Item *item
    cdef ProgramInfo program
    cdef MapInfo map
    cdef BtfInfo types
    cdef list infos = []
    cdef size_t at
    cdef int code
    try:
        with nogil:
            code = list_all(kind, &found)
        if code < 0:
            fail(-code, "list", f"{words} of the system")
        for at in range(found.count):
            item = &found.items[at]
            if kind == PROGRAMS:
                program = ProgramInfo.__new__(ProgramInfo)
                memcpy(program.raw, item.raw, min(sizeof(program.raw[0]), sizeof(item.raw)))
                infos.append(program)
            elif kind == MAPS:
                map = MapInfo.__new__(MapInfo)
                memcpy(map.raw, item.raw, min(sizeof(map.raw[0]), sizeof(item.raw)))
                infos.append(map)
            elif kind == TYPES:
                types = BtfInfo.__new__(BtfInfo)
                memcpy(types.raw, item.raw, min(sizeof(types.raw[0]), sizeof(item.raw)))
                types.name = (found.texts + item.text).decode("utf-8", "surrogateescape")
                infos.append(types)
            elif item.late:
                info = info_by_id("link", (<unsigned int *>item.raw)[1])
                if info is not None:        # else it went away meanwhile
                    infos.append(info)
            else:
                infos.append(make((<char *>item.raw)[:sizeof(item.raw)], "" if item.text == NO_TEXT else
                                  (found.texts + item.text).decode("utf-8", "surrogateescape"), []))
    finally:
        free_listing(&found)
    return infos


def programs():
    """All programs that the kernel has, as a list of ProgramInfo, in the order of their numbers.

    What goes away meanwhile is left out. Raises PermissionError without CAP_SYS_ADMIN. Minimum kernel 4.13.
    Source: bpf_prog_get_next_id(), bpf_obj_get_info_by_fd().
    """
    return all_of(PROGRAMS, "programs", None)


def maps():
    """All maps that the kernel has, as a list of MapInfo; otherwise as programs().

    Source: bpf_map_get_next_id(), bpf_obj_get_info_by_fd().
    """
    return all_of(MAPS, "maps", None)


def links():
    """All links that the kernel has, as a list of LinkInfo; otherwise as programs(). Minimum kernel 5.8.

    Source: bpf_link_get_next_id(), bpf_link_get_info_by_fd().
    """
    from .linkinfo import make_link_info
    return all_of(LINKS, "links", make_link_info)


def btfs():
    """All sets of types that the kernel has, its own, modules' and programs', as a list of BtfInfo; otherwise as programs().

    Source: bpf_btf_get_next_id(), bpf_btf_get_info_by_fd().
    """
    return all_of(TYPES, "types", None)


cdef object one(str kind, object id):
    cdef object info = info_by_id(kind, number_of(id, f"{kind} id"))
    if info is None:
        fail(ENOENT, f"open {kind}", f"id {id}")
    return info


def program(id):
    """The ProgramInfo of a number; FileNotFoundError if there is none. Source: bpf_prog_get_fd_by_id()."""
    return one("program", id)


def map(id):
    """The MapInfo of a number; FileNotFoundError if there is none. Source: bpf_map_get_fd_by_id()."""
    return one("map", id)


def link(id):
    """The LinkInfo of a number; FileNotFoundError if there is none. Source: bpf_link_get_fd_by_id()."""
    return one("link", id)


def btf(id):
    """The BtfInfo of a number; FileNotFoundError if there is none. Source: bpf_btf_get_fd_by_id()."""
    return one("btf", id)


Attached = _namedtuple("Attached", "revision flags programs", module=__name__)
Attached.__doc__ = """What is attached to one hook, in the order in which it runs.

``revision`` counts changes of tcx, netkit and (from kernel 6.17 on) cgroup hooks; None elsewhere, and before libbpf 1.3,
which does not tell it. ``flags`` (AttachFlags) of the hook, ``programs`` a tuple of AttachedProgram."""
AttachedProgram = _namedtuple("AttachedProgram", "prog_id link_id flags", module=__name__)
AttachedProgram.__doc__ = """One of the programs of a hook: the numbers of program and link, and its AttachFlags.

``link_id`` is None where the kernel or libbpf (before 1.3) does not tell it, and for what was attached without a link."""


def attached(target, attach_type, *, bint effective=False):
    """What is attached to a hook, as an Attached.

    ``target`` is an interface for TCX, NETKIT and XDP, a path or descriptor of a cgroup, of a network name space
    (FLOW_DISSECTOR, SK_LOOKUP), of a lirc device (LIRC_MODE2), or a sockmap (a Map or descriptor). ``effective``: of a
    cgroup also what it has from those above. Minimum kernel 4.15, tcx 6.6. Source: bpf_prog_query_opts(), for XDP
    bpf_xdp_query().
    """
    from .enums import AttachFlags
    cdef unsigned int type = number_of(attach_type, "attach_type")
    cdef bpf.struct_bpf_prog_query_opts opts
    cdef Target opened
    cdef bint ordered = type in (TCX_INGRESS, TCX_EGRESS, NETKIT_PRIMARY, NETKIT_PEER)
    cdef bint newer = libbpf.libbpf_major_version() > 1 or libbpf.libbpf_minor_version() >= 3
    cdef unsigned int room = 0
    cdef unsigned int at
    cdef bytes arrays
    cdef uapi.__u32 *numbers
    cdef int where, code
    if type == XDP:
        # Which the kernel tells by netlink only.
        from . import xdp
        found = xdp.query(target)
        return Attached(None, AttachFlags(0), tuple([
            AttachedProgram(id, None, AttachFlags(0))
            for id in dict.fromkeys((found.prog_id, found.drv_prog_id, found.hw_prog_id, found.skb_prog_id)) if id]))
    opened = hook_target(target, type)
    where = opened.fd
    while True:
        arrays = PyBytes_FromStringAndSize(NULL, (room + 1) * 4 * sizeof(uapi.__u32))
        numbers = <uapi.__u32 *>PyBytes_AS_STRING(arrays)
        memset(numbers, 0, len(arrays))
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.query_flags = BPF_F_QUERY_EFFECTIVE if effective else 0
        if room:
            opts.count = room
            opts.prog_ids = numbers
            if not effective:
                opts.prog_attach_flags = numbers + room
            if newer and ordered:
                opts.link_ids = numbers + 2 * room
                opts.link_attach_flags = numbers + 3 * room
        with nogil:
            code = bpf.bpf_prog_query_opts(where, <uapi.bpf_attach_type>type, &opts)
            if code < 0:
                code = errno        # before code of others runs, as for words
        if code > 0 and code != ENOSPC:
            fail(code, "query", f"{attach_type!r} of {target}")
        if opts.count <= room:
            break
        room = opts.count
    return Attached(
        opts.revision if newer and opts.revision else None, AttachFlags(opts.attach_flags),
        tuple([AttachedProgram(numbers[at], numbers[2 * room + at] or None,
                               AttachFlags(numbers[room + at] | numbers[3 * room + at])) for at in range(opts.count)]))


Owner = _namedtuple("Owner", "pid name", module=__name__)
Owner.__doc__ = """A process that holds a descriptor of something: ``pid``, and the process's ``name``."""


def owners():
    """Who holds what: a dictionary from ("program" | "map" | "link" | "btf", number) to a list of Owner.

    Found in /proc, so only of processes that this one may look into; what is held by pins and attachments alone has none.
    """
    from ._owners import find
    return find(Owner)
