"""struct_ops: maps of functions that the kernel calls, as links and programs meet them."""
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident

from .attach cimport Attachable
from .c cimport bpf, libbpf
from .call cimport Call, enter, note_missing
from .errors cimport finish
from .handle cimport enter_all, release_all
from .link cimport Link, STRUCT_OPS_LINK
from .map cimport Map
from .targets cimport Target, held


libbpf.pylbpf_on_missing = note_missing

cdef enum:
    STRUCT_OPS = 9      # enum bpf_link_type


cdef Map as_map(object map):
    if not isinstance(map, Map):
        raise TypeError(f"a struct_ops Map is needed, not {type(map).__name__}")
    return map


def update_map(Link link not None, map, old_map, unsigned int flags):
    """What Link.update_map() does."""
    cdef Map new = as_map(map)
    cdef Call call
    cdef int code
    cdef int old = -1
    cdef unsigned int type = 0
    cdef unsigned int id = 0
    cdef Target kept
    cdef libbpf.bpf_link *ptr
    cdef list locked = []
    if old_map is not None:
        kept = held(old_map, "old_map")
        old = kept.fd
    link.fd
    if new.handle is not None:
        locked = enter_all([new.handle], "update")
    try:
        new.descriptor()
        if new.handle is None or link.kind != STRUCT_OPS_LINK or old >= 0 or flags:
            link.put("update", new.descriptor(), old, flags, (STRUCT_OPS,))
        else:
            link.wait_idle("update")
            ptr = link.live()
            if not link.identify(&type, &id):
                link.refuse(type, "such a link cannot be updated: its map is not of section '.struct_ops.link'", "update")
            enter(&call, <PyObject *>new.handle)
            with nogil:
                code = libbpf.bpf_link__update_map(ptr, new.ptr)
            link.done(&call, code, "update", link)
        link.belong_to(new, new.handle)
    finally:
        release_all(locked)


def assoc_struct_ops(Attachable program not None, map):
    """What Program.assoc_struct_ops() does."""
    cdef Map of = as_map(map)
    cdef Call call
    cdef int code, fd, map_fd
    cdef list locked = enter_all([handle for handle in (program.handle, of.handle) if handle is not None], "associate")
    try:
        program.fileno()    # which is an error if it is not loaded
        map_fd = of.descriptor()
        fd = libbpf.bpf_program__fd(program.live())
        title = f"associate {map} with"
        enter(&call, <PyObject *>program.handle)
        with nogil:
            if of.ptr != NULL:
                code = libbpf.bpf_program__assoc_struct_ops(program.ptr, of.ptr, NULL)
            else:
                code = bpf.bpf_prog_assoc_struct_ops(fd, map_fd, NULL)
        finish(&call, code, title, program)
    finally:
        release_all(locked)
