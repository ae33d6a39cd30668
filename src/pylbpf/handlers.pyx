"""Handlers: what to do with the programs of a custom section."""
import errno as _errno

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_CheckExact, PyCapsule_GetName, PyCapsule_GetPointer
cimport cython

from .c cimport bpf, libbpf
from .handle cimport PASS, Record
from .paths cimport index_of, name_bytes, number_of
from .trampolines cimport attach_in_python

from .errors import StateError

cdef enum:
    HEAP_TYPE = 1 << 9      # Py_TPFLAGS_HEAPTYPE: what a class statement of Python makes, and a cdef class is not


cdef class ProgramHandler:
    """What to do with programs of a custom section: subclass it and override what you need.

    Class attributes (or arguments of the constructor):

    - ``section``: "abc" is that name; "abc/" any name that begins so; "abc+" is "abc" or "abc/..."; None is every
      section that nothing else matches. Matching is libbpf's.
    - ``program_type``: a ProgramType; UNSPEC leaves it to setup(), or to libbpf for sections that it knows.
    - ``expected_attach_type``: an AttachType, 0 for none.
    - ``program_flags``: ProgramFlags that are added.
    - ``autoload``: True or False sets it, None leaves it as the section says ("?abc" is not loaded).
    - ``priority``: where several handlers match, the highest wins, then the object's own, then the earliest.
    - ``cookie``: anything; pylbpf does not look at it.

    They are read when the handler is registered. A handler that overrides no method is declarative: it runs entirely
    in C, without the GIL. Handlers may be called from several threads at once.

    A section that libbpf itself knows ("xdp", "kprobe/") can be overridden. What such a handler does not say stays as
    libbpf does it: type, attach type, sleepable and XDP frags flags, BTF target, automatic attach.

    Cython code can override ``setup_nogil``, ``prepare_load_nogil`` and ``attach_nogil`` of pylbpf/handlers.pxd, which
    run before the Python methods. Source: libbpf_register_prog_handler(), struct libbpf_prog_handler_opts.
    """

    section = None
    program_type = 0
    expected_attach_type = 0
    program_flags = 0
    autoload = None
    priority = 0
    cookie = None

    def __init__(self, **declared):
        for name, value in declared.items():
            if name not in DECLARABLE:
                raise TypeError(f"{type(self).__name__}() got an unexpected argument '{name}'")
            setattr(self, name, value)

    def setup(self, program):
        """Called once for each matching program while its object is opened; also for those with autoload off.

        All maps are defined by then, relocations are not yet done. Return None; an exception makes the open fail.
        """

    def prepare_load(self, program, opts):
        """Called right before a program is loaded, when its instructions are final.

        ``opts`` is a LoadOpts. Return None; an exception makes the load of the object fail.
        """

    def attach(self, program):
        """Called by Program.attach() and Object.attach(); return a Link, several, or None for no automatic attach.

        ``program.attach()`` in here attaches as libbpf would without the handler. If it raises, the links that it
        made are destroyed.
        """

    def __repr__(self):
        return f"<{type(self).__name__}: section {self.section!r}>"

    cdef int setup_nogil(self, libbpf.bpf_program *program) noexcept nogil:
        return PASS

    cdef int prepare_load_nogil(self, libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts) noexcept nogil:
        return PASS

    cdef int attach_nogil(self, const libbpf.bpf_program *program, libbpf.bpf_link **link) noexcept nogil:
        return PASS


DECLARABLE = ("section", "program_type", "expected_attach_type", "program_flags", "autoload", "priority", "cookie")


# The virtual methods as plain functions: the cookie is the handler, which outlives its records.

cdef int call_setup(ProgramHandler handler, libbpf.bpf_program *program) noexcept nogil:
    return handler.setup_nogil(program)


cdef int call_prepare_load(ProgramHandler handler, libbpf.bpf_program *program,
                           bpf.bpf_prog_load_opts *opts) noexcept nogil:
    return handler.prepare_load_nogil(program, opts)


cdef int call_attach(ProgramHandler handler, const libbpf.bpf_program *program, libbpf.bpf_link **link) noexcept nogil:
    return handler.attach_nogil(program, link)


# Cython has no borrowed references without the GIL, but a cookie is one.
cdef int (*setup_borrowed)(long, libbpf.bpf_program *) noexcept nogil
cdef int (*prepare_load_borrowed)(long, libbpf.bpf_program *, bpf.bpf_prog_load_opts *) noexcept nogil
cdef int (*attach_borrowed)(long, const libbpf.bpf_program *, libbpf.bpf_link **) noexcept nogil
setup_borrowed = <int (*)(long, libbpf.bpf_program *) noexcept nogil>call_setup
prepare_load_borrowed = <int (*)(long, libbpf.bpf_program *, bpf.bpf_prog_load_opts *) noexcept nogil>call_prepare_load
attach_borrowed = <int (*)(long, const libbpf.bpf_program *, libbpf.bpf_link **) noexcept nogil>call_attach


cdef int virtual_setup(libbpf.bpf_program *program, long cookie) noexcept nogil:
    return setup_borrowed(cookie, program)


cdef int virtual_prepare_load(libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts, long cookie) noexcept nogil:
    return prepare_load_borrowed(cookie, program, opts)


cdef int virtual_attach(const libbpf.bpf_program *program, long cookie, libbpf.bpf_link **link) noexcept nogil:
    return attach_borrowed(cookie, program, link)


cdef size_t address_of(object function, str kind) except? 0:
    """Address of a C function given in any of the usual ways; 0 for None."""
    cdef size_t address
    if function is None:
        return 0
    if isinstance(function, bool):
        raise TypeError(f"{kind} must be a C function, not bool")
    if isinstance(function, int):
        address = function
    elif PyCapsule_CheckExact(function):
        address = <size_t>PyCapsule_GetPointer(function, PyCapsule_GetName(function))
    elif isinstance(getattr(function, "address", None), int):       # numba
        address = function.address
    elif type(function).__module__ == "_cffi_backend":
        import _cffi_backend
        address = int(_cffi_backend.FFI().cast("uintptr_t", function))
    else:
        import ctypes
        if not isinstance(function, ctypes._CFuncPtr):
            raise TypeError(f"{kind} must be a PyCapsule, a ctypes or cffi function pointer, a numba cfunc or an "
                            f"address, not {type(function).__name__}")
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
    if address == 0:
        raise ValueError(f"{kind} is a NULL pointer")
    return address


@cython.final
cdef class NativeHandler(ProgramHandler):
    """A handler whose callbacks are C functions with libbpf's own signatures, called without the GIL.

    ``setup``, ``prepare_load`` and ``attach`` are given as PyCapsule, ctypes or cffi function pointer, numba cfunc or
    address, and are kept alive in ``functions``; ``cookie`` is the C ``long`` they get. The rest is as for
    ProgramHandler. Signatures and rules are in pylbpf/handler.h. A pointer to anything but such a function crashes the
    process, as in C.
    """

    cdef readonly object functions

    def __init__(self, section=None, *, program_type=0, expected_attach_type=0, cookie=0, program_flags=0,
                 autoload=None, priority=0, setup=None, prepare_load=None, attach=None):
        cdef long whole = index_of(cookie, "cookie")
        if self.functions is not None:
            raise StateError(_errno.EINVAL, "made already, and its functions may be in use", None, "NativeHandler")
        self.section = section
        self.program_type = program_type
        self.expected_attach_type = expected_attach_type
        self.cookie = whole
        self.program_flags = program_flags
        self.autoload = autoload
        self.priority = priority
        self.functions = (setup, prepare_load, attach)
        for kind, function in zip(("setup", "prepare_load", "attach"), self.functions):
            address_of(function, kind)


# A handler as C data

cdef str check_section(object section):
    if section is None:
        return None
    name_bytes(section, "section")
    if section.startswith("?"):
        raise ValueError(f"section {section!r}: the leading '?' belongs to the ELF file and is not part of the name")
    if section in ("/", "+"):
        raise ValueError(f"section {section!r} has no name before the {section!r}")
    return section


cdef bint overrides(object handler, str method):
    """Whether a method of ProgramHandler is replaced, in a class or on the instance."""
    if method in getattr(handler, "__dict__", ()):
        return True
    return getattr(type(handler), method) is not getattr(ProgramHandler, method)


cdef unsigned int type_of(object value, str what) except? 0xffffffff:
    cdef unsigned int number = number_of(value, what)
    if number >= 1 << 16:
        raise ValueError(f"{what} {value} is not in its enum")
    return number


cdef tuple describe(object handler, Record *record):
    section = check_section(handler.section)
    priority = handler.priority
    autoload = handler.autoload
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be an int, not {priority!r}")
    if not -1 << 31 <= priority < 1 << 31:
        raise ValueError(f"priority {priority} does not fit 32 bits")
    if autoload is not None and not isinstance(autoload, bool):
        raise TypeError(f"autoload must be True, False or None, not {autoload!r}")
    record.handler = <PyObject *>handler
    record.program_type = type_of(handler.program_type, "program_type")
    record.expected_attach_type = type_of(handler.expected_attach_type, "expected_attach_type")
    record.program_flags = number_of(handler.program_flags, "program_flags")
    record.autoload = -1 if autoload is None else <int>autoload
    record.catch_all = section is None
    if isinstance(handler, NativeHandler):
        setup, prepare_load, attach = (<NativeHandler>handler).functions
        record.setup = <libbpf.libbpf_prog_setup_fn_t>address_of(setup, "setup")
        record.prepare_load = <libbpf.libbpf_prog_prepare_load_fn_t>address_of(prepare_load, "prepare_load")
        record.attach = <libbpf.libbpf_prog_attach_fn_t>address_of(attach, "attach")
        record.cookie = handler.cookie
    else:
        record.setup = virtual_setup
        record.prepare_load = virtual_prepare_load
        record.attach = virtual_attach
        record.cookie = <long><PyObject *>handler
        record.passes = True
        record.python_setup = overrides(handler, "setup")
        record.python_prepare_load = overrides(handler, "prepare_load")
        if overrides(handler, "attach"):
            record.python_attach = attach_in_python
    record.prepares = record.python_prepare_load or record.prepare_load not in (NULL, virtual_prepare_load) or any(
        not base.__flags__ & HEAP_TYPE and base not in (NativeHandler, ProgramHandler, object)
        for base in type(handler).__mro__)
    return section, priority
