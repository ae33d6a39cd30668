"""What pylbpf/pylbpf.h offers to C: one capsule of functions."""
from _weakref import ref as _ref

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from libc.string cimport memcpy, memset

from .c cimport libbpf
from .handle cimport Handle, LOADED, OPEN, leave_place
from .link cimport BARE_LINK, HIDDEN_EVENT, Link, USDT_LINK, make_link, make_map_link
from .map cimport Map, make_map
from .object cimport Object
from .paths cimport is_of_kind
from .program cimport Program, make_program
from .registry cimport guard_stranger
from .strangers cimport claim_strangers

from .handlers import NativeHandler
from .registry import register

cdef enum:
    LARGEST = 4096      # no handler of the future is: a size beyond was never set
    STRUCT_OPS = 26     # enum bpf_map_type

cdef str HOOK = "a hook that C has chosen"

cdef extern from "Python.h":
    bint PyObject_TypeCheck(object thing, type kind)

cdef extern from "pylbpf/pylbpf.h":
    struct pylbpf_handler:
        size_t size
        const char *section
        int program_type
        int expected_attach_type
        unsigned int program_flags
        int autoload
        int priority
        int reserved
        long cookie
        void *setup
        void *prepare_load
        void *attach

    struct pylbpf_api:
        size_t size
        libbpf.bpf_object *(*get_object "object")(PyObject *thing) except NULL
        libbpf.bpf_program *(*get_program "program")(PyObject *thing) except NULL
        libbpf.bpf_map *(*get_map "map")(PyObject *thing) except NULL
        libbpf.bpf_link *(*get_link "link")(PyObject *thing) except NULL
        object (*wrap_object)(libbpf.bpf_object *ptr, int loaded)
        object (*wrap_program)(PyObject *owner, libbpf.bpf_program *ptr)
        object (*wrap_map)(PyObject *owner, libbpf.bpf_map *ptr)
        object (*wrap_link)(libbpf.bpf_link *ptr, PyObject *subject)
        object (*register_handler)(const pylbpf_handler *handler)
        const char *(*libbpf_version_string)() noexcept nogil


# What C gives may be NULL, as what a call that failed has returned: so it is no `object` before it was looked at.

cdef object check(PyObject *thing, type kind):
    """A pointer is read from it."""
    if thing == NULL:
        raise TypeError(f"a pylbpf.{kind.__name__} is needed, not NULL")
    if not PyObject_TypeCheck(<object>thing, kind):     # which asks no __class__ of Python
        raise TypeError(f"a pylbpf.{kind.__name__} is needed, not {type(<object>thing).__name__}")
    return <object>thing


cdef object owners = None       # pointer that C has had -> the Handle or Link that will free it


cdef object owners_by_pointer():
    global owners
    if owners is None:
        from weakref import WeakValueDictionary
        owners = WeakValueDictionary()
    return owners


cdef int check_unowned(void *ptr, str kind) except -1:
    """What pylbpf is going to free already must not be freed twice."""
    cdef object owner = owners_by_pointer().get(<size_t>ptr)
    cdef void *held = NULL
    if type(owner) is Handle:
        held = (<Handle>owner).ptr
    elif type(owner) is Link:
        held = (<Link>owner).ptr
    if held == ptr:
        raise ValueError(f"this {kind} is pylbpf's already: {owner}")
    return 0


cdef libbpf.bpf_object *get_object(PyObject *thing) except NULL:
    cdef Handle handle = (<Object>check(thing, Object)).handle
    cdef libbpf.bpf_object *ptr = handle.live()
    owners_by_pointer()[<size_t>ptr] = handle
    return ptr


cdef libbpf.bpf_program *get_program(PyObject *thing) except NULL:
    return (<Program>check(thing, Program)).live()


cdef libbpf.bpf_map *get_map(PyObject *thing) except NULL:
    cdef Map map = <Map>check(thing, Map)
    if map.handle is None:
        raise TypeError("a map without an object has no bpf_map, only a descriptor")
    return map.live()


cdef libbpf.bpf_link *get_link(PyObject *thing) except NULL:
    cdef Link link = <Link>check(thing, Link)
    cdef libbpf.bpf_link *ptr
    if link.kind == BARE_LINK:
        raise TypeError(f"the link {link.name} has no bpf_link, only a descriptor")
    ptr = link.live()
    owners_by_pointer()[<size_t>ptr] = link
    return ptr


cdef object wrap_object(libbpf.bpf_object *ptr, int loaded):
    cdef Handle handle
    cdef Object made
    cdef libbpf.bpf_program *program
    if ptr == NULL:
        raise ValueError("object is NULL")
    check_unowned(ptr, "object")
    if not loaded:
        program = libbpf.bpf_object__next_program(ptr, NULL)
        while program != NULL:
            if libbpf.bpf_program__fd(program) >= 0:
                raise ValueError("this object is loaded: say so")
            program = libbpf.bpf_object__next_program(ptr, program)
    name = libbpf.bpf_object__name(ptr).decode("utf-8", "surrogateescape")
    handle = Handle.__new__(Handle)
    made = Object.__new__(Object)
    made.handle = handle
    made.options = {}
    handle.name = name
    handle.owner = _ref(made)
    handle.phase = LOADED if loaded else OPEN
    guard_stranger(handle)
    owners_by_pointer()[<size_t>ptr] = handle
    claim_strangers(ptr)
    handle.ptr = ptr        # nothing can fail from here on: it is ours
    return made


cdef object wrap_program(PyObject *owner, libbpf.bpf_program *ptr):
    cdef libbpf.bpf_program *known = NULL
    cdef libbpf.bpf_object *ours = get_object(owner)
    cdef Handle handle = (<Object><object>owner).handle
    if ptr != NULL:
        known = libbpf.bpf_object__next_program(ours, NULL)
        # Of an object that several threads have loaded C may have either of two.
        while known != NULL and known != ptr and handle.target(known) != ptr:
            known = libbpf.bpf_object__next_program(ours, known)
    if known == NULL:
        raise ValueError(f"no program of {<object>owner}")
    return make_program(handle, known)


cdef object wrap_map(PyObject *owner, libbpf.bpf_map *ptr):
    cdef libbpf.bpf_map *known = NULL
    cdef libbpf.bpf_object *ours = get_object(owner)
    if ptr != NULL:
        known = libbpf.bpf_object__next_map(ours, NULL)
        while known != NULL and known != ptr:
            known = libbpf.bpf_object__next_map(ours, known)
    if known == NULL:
        raise ValueError(f"no map of {<object>owner}")
    return make_map((<Object><object>owner).handle, ptr)


cdef object wrap_link(libbpf.bpf_link *ptr, PyObject *of):
    cdef object subject = None if of == NULL else <object>of
    cdef Handle handle = None
    cdef Link made
    cdef int fd, map_fd = -1
    if ptr == NULL:
        raise ValueError("link is NULL")
    check_unowned(ptr, "link")
    if isinstance(subject, Program):
        handle = (<Program>subject).handle
    elif isinstance(subject, Map):
        if (<Map>subject).kind() != STRUCT_OPS:
            raise ValueError(f"a link is of a program or of a struct_ops map, not of {subject}")
        handle = (<Map>subject).handle
    elif subject is not None:
        raise TypeError(f"a link is of a pylbpf.Program or Map, not of {type(subject).__name__}")
    if handle is not None:
        handle.live()
    fd = libbpf.bpf_link__fd(ptr)
    if handle is not None and isinstance(subject, Map):
        map_fd = (<Map>subject).descriptor()
    if fd > 0 and fd != map_fd and is_of_kind(fd, "bpf-map") and not is_of_kind(fd, "link"):    # both where there is no /proc
        raise ValueError("a link of a struct_ops map without BPF_F_LINK ends before its object does: say whose it is, by its map")
    if map_fd >= 0:
        made = make_map_link(ptr, handle, subject, map_fd, HOOK)
    else:
        made = make_link(ptr, handle, subject, HOOK)
    if made.kind == USDT_LINK and handle is None:
        made.ptr = NULL
        raise ValueError("a USDT link ends before its object does: say whose it is, by its program")
    made.event = HIDDEN_EVENT       # libbpf may have opened one
    try:
        owners_by_pointer()[<size_t>ptr] = made
    except BaseException:
        leave_place(&made.place)
        made.ptr = NULL         # the caller's, as it was
        raise
    return made


cdef object register_handler(const pylbpf_handler *given):
    cdef pylbpf_handler handler
    cdef size_t at
    if given == NULL:
        raise ValueError("handler is NULL")
    if given.size < sizeof(size_t) or given.size % sizeof(size_t) or given.size > LARGEST:
        raise ValueError("the size of struct pylbpf_handler is not set")
    # One from an older header is shorter, one from a newer header may be longer if it asks for nothing new.
    memset(&handler, 0, sizeof(handler))
    memcpy(&handler, given, min(given.size, sizeof(handler)))
    for at in range(sizeof(handler), given.size):
        if (<const char *>given)[at]:
            raise ValueError("struct pylbpf_handler asks for what this pylbpf does not know")
    if handler.reserved:
        raise ValueError("the reserved field of struct pylbpf_handler is not zero")
    if not -1 <= handler.autoload <= 1:
        raise ValueError(f"autoload is 1, 0 or -1, not {handler.autoload}")
    return register(NativeHandler(
        None if handler.section == NULL else handler.section.decode("utf-8", "surrogateescape"),
        program_type=handler.program_type,
        expected_attach_type=handler.expected_attach_type,
        program_flags=handler.program_flags,
        autoload=None if handler.autoload == 0 else handler.autoload > 0,
        priority=handler.priority,
        cookie=handler.cookie,
        setup=<size_t>handler.setup or None,
        prepare_load=<size_t>handler.prepare_load or None,
        attach=<size_t>handler.attach or None,
    ))


cdef pylbpf_api api
api.size = sizeof(api)
api.get_object = get_object
api.get_program = get_program
api.get_map = get_map
api.get_link = get_link
api.wrap_object = wrap_object
api.wrap_program = wrap_program
api.wrap_map = wrap_map
api.wrap_link = wrap_link
api.register_handler = register_handler
api.libbpf_version_string = libbpf.libbpf_version_string
_C_API = PyCapsule_New(&api, "pylbpf.capi._C_API", NULL)
