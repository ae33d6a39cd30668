"""Handlers of custom SEC() names, and the registry that lets them come and go at any time.

libbpf keeps named handlers in one array that moves whenever one is added or removed, while every open program points
into it. Only its fallback slot, for sections that nothing else matches, never moves. So pylbpf registers itself there
once, for ever, and finds the handler for a section in a table of its own. The table is immutable: registering makes a
new one, an open that is under way goes on with the one it began with.

Sections that libbpf knows never reach the fallback. To override those, an entry in libbpf's array is needed after all;
it is made and removed only while no program points into the array, and serves only to bring the program here.
"""
import errno as _errno

from cpython.object cimport PyObject
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_release_lock, PyThread_type_lock, WAIT_LOCK,
)
from cpython.pycapsule cimport PyCapsule_CheckExact, PyCapsule_GetName, PyCapsule_GetPointer
cimport cython
from libc.errno cimport EAGAIN, EBUSY
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from .c cimport bpf, libbpf, uapi
from .call cimport Call, Stats, clear, enter, leave, note_missing, statistics
from .errors cimport fail
from .handle cimport Handle, PASS, Record, Rules
from .paths cimport name_bytes
from .sections cimport builtin_type, match, overlaps_builtin, pattern_type
from .trampolines cimport attach_in_python, in_callback, on_attach, on_prepare_load, on_setup

from .errors import HandlerBusyError, HandlerExistsError

libbpf.pylbpf_on_missing = note_missing

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_rwlock_t:
        pass
    int pthread_rwlock_init(pthread_rwlock_t *lock, const void *attributes)
    int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
    int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
    int pthread_rwlock_trywrlock(pthread_rwlock_t *lock)
    int pthread_rwlock_unlock(pthread_rwlock_t *lock)
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)

cdef extern from *:
    """
    #define pylbpf_change(counter, by) __atomic_add_fetch(counter, by, __ATOMIC_SEQ_CST)
    """
    int pylbpf_change(int *counter, int by) nogil


# Handlers

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

        If it raises, the links that it made are destroyed.
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
    address, and are kept alive; ``cookie`` is the C ``long`` they get. The rest is as for ProgramHandler. Signatures
    and rules are in pylbpf/handler.h. A pointer to anything but such a function crashes the process, as in C.
    """

    cdef readonly object functions

    def __init__(self, section=None, *, program_type=0, expected_attach_type=0, long cookie=0, program_flags=0,
                 autoload=None, int priority=0, setup=None, prepare_load=None, attach=None):
        self.section = section
        self.program_type = program_type
        self.expected_attach_type = expected_attach_type
        self.cookie = cookie
        self.program_flags = program_flags
        self.autoload = autoload
        self.priority = priority
        self.functions = (setup, prepare_load, attach)
        for kind, function in zip(("setup", "prepare_load", "attach"), self.functions):
            address_of(function, kind)


# Entries: handlers as C data

@cython.final
cdef class Entry:
    """A handler as it was when it was registered."""

    def __cinit__(self):
        memset(&self.record, 0, sizeof(Record))


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
    return getattr(type_type(handler), method) is not getattr(ProgramHandler, method)


cdef unsigned int number_of(object value, str what) except? 0xffffffff:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a number or a member of its enum, not {type(value).__name__}")
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{what} {value} does not fit 32 bits")
    return value


cdef Entry make_entry(object handler, bint own, long number):
    cdef Entry entry
    cdef Record *record
    cdef const char *pattern
    cdef int type = 0
    cdef int attach_type = 0
    if not isinstance(handler, ProgramHandler):
        hint = "; pass an instance, not the class" if isinstance(handler, type_type) else ""
        raise TypeError(f"a handler must be a ProgramHandler, not {handler!r}{hint}")
    entry = Entry.__new__(Entry)
    entry.handler = handler
    entry.own = own
    entry.number = number
    section = check_section(handler.section)
    entry.pattern = None if section is None else name_bytes(section, "section")
    if isinstance(handler.priority, bool) or not isinstance(handler.priority, int):
        raise TypeError(f"priority must be an int, not {handler.priority!r}")
    entry.priority = handler.priority
    record = &entry.record
    record.handler = <PyObject *>handler
    record.program_type = number_of(handler.program_type, "program_type")
    record.expected_attach_type = number_of(handler.expected_attach_type, "expected_attach_type")
    record.program_flags = number_of(handler.program_flags, "program_flags")
    if handler.autoload is not None and not isinstance(handler.autoload, bool):
        raise TypeError(f"autoload must be True, False or None, not {handler.autoload!r}")
    record.autoload = -1 if handler.autoload is None else <int>handler.autoload
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
        record.python_setup = overrides(handler, "setup")
        record.python_prepare_load = overrides(handler, "prepare_load")
        if overrides(handler, "attach"):
            record.python_attach = attach_in_python
    record.catch_all = entry.pattern is None
    record.prepares = record.python_prepare_load or record.prepare_load not in (NULL, virtual_prepare_load) or any(
        not base.__flags__ & HEAP_TYPE and base not in (NativeHandler, ProgramHandler, object)
        for base in type_type(handler).__mro__)
    if entry.pattern is not None:
        pattern = entry.pattern
        record.override = overlaps_builtin(pattern) or running_knows(entry.pattern)
    if record.override and record.program_type == 0 and record.prepares:
        pattern_type(entry.pattern, &type, &attach_type)
        if type == 0:
            raise ValueError(f"section {section!r} covers sections of several program types: a handler with "
                             f"prepare_load must give its program_type")
    return entry


type_type = type
HEAP_TYPE = 1 << 9      # Py_TPFLAGS_HEAPTYPE: what a class statement of Python makes, and a cdef class is not


cdef bint running_knows(bytes pattern) except -1:
    """Whether the libbpf that runs, newer than our table, knows such a section. UNSPEC is our own fallback's answer."""
    cdef uapi.bpf_prog_type type = <uapi.bpf_prog_type>0
    cdef uapi.bpf_attach_type attach_type
    cdef const char *name
    cdef bint known = False
    cdef Call call
    for sample in ((pattern, pattern + b"x") if pattern.endswith(b"/") else
                   (pattern[:-1], pattern[:-1] + b"/x") if pattern.endswith(b"+") else (pattern,)):
        if in_physicals(sample):
            continue
        name = sample
        enter(&call, NULL)
        with nogil:
            pthread_rwlock_rdlock(&_gate)
            if libbpf.libbpf_prog_type_by_name(name, &type, &attach_type) == 0 and <int>type != 0:
                known = True
            pthread_rwlock_unlock(&_gate)
        leave(&call)
        clear(&call)
    return known


# Tables: what an open looks handlers up in

@cython.final
cdef class Table:
    """Entries in order of precedence, for people and as C arrays. Never changed."""

    cdef tuple entries
    cdef Rules rules

    def __cinit__(self, entries=()):
        cdef size_t at
        cdef Entry entry
        self.entries = tuple(sorted(entries, key=precedence))
        self.rules.count = len(self.entries)
        self.rules.patterns = <const char **>malloc(max(1, len(self.entries)) * sizeof(char *))
        self.rules.records = <const Record **>malloc(max(1, len(self.entries)) * sizeof(Record *))
        if self.rules.patterns == NULL or self.rules.records == NULL:
            raise MemoryError()
        for at in range(self.rules.count):
            entry = self.entries[at]
            if entry.pattern is None:
                self.rules.patterns[at] = NULL
            else:
                self.rules.patterns[at] = entry.pattern
            self.rules.records[at] = &entry.record

    def __dealloc__(self):
        free(self.rules.patterns)
        free(self.rules.records)


def precedence(Entry entry):
    """None comes last whatever its priority: it is for what nothing else matches."""
    return entry.pattern is None, -entry.priority, not entry.own, entry.number


cdef check_duplicates(entries, Entry new):
    for entry in entries:
        if ((<Entry>entry).pattern == new.pattern and (<Entry>entry).priority == new.priority
                and (<Entry>entry).own == new.own):
            raise HandlerExistsError(
                _errno.EEXIST, f"section {new.handler.section!r} has {(<Entry>entry).handler!r} already; unregister "
                f"that, or give one of them another priority", "register", repr(new.handler))


cdef Table _current = Table()
cdef long _number = 0
cdef bint _installed = False


# libbpf's own array

cdef pthread_rwlock_t _gate
pthread_rwlock_init(&_gate, NULL)


cdef void reset_gate() noexcept nogil:
    # A thread that held it was not forked along.
    pthread_rwlock_init(&_gate, NULL)


pthread_atfork(NULL, NULL, reset_gate)


cdef void enter_gate() noexcept nogil:
    """Opens read libbpf's array, which must not change under them."""
    pthread_rwlock_rdlock(&_gate)


cdef void leave_gate(Handle handle) noexcept nogil:
    # Counted before a writer can come in, who must find that the array is pointed into.
    if handle.registered:
        pylbpf_change(&_pointed_to, 1)
    pthread_rwlock_unlock(&_gate)


# One at a time changes libbpf's array. Callbacks never come here, so whoever waits in here is not waited for.
cdef PyThread_type_lock _writers = PyThread_allocate_lock()


cdef void lock_writers() noexcept:
    with nogil:
        PyThread_acquire_lock(_writers, WAIT_LOCK)


cdef int add_to_libbpf(const char *section, int type, int attach_type, long cookie) except -1:
    cdef libbpf.libbpf_prog_handler_opts opts
    cdef Call call
    cdef int id
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.cookie = cookie
    opts.prog_setup_fn = on_setup
    opts.prog_prepare_load_fn = on_prepare_load
    opts.prog_attach_fn = on_attach
    enter(&call, NULL)
    with nogil:
        pthread_rwlock_wrlock(&_gate)
        if section != NULL and pylbpf_change(&_pointed_to, 0):
            id = -EAGAIN
        else:
            id = libbpf.libbpf_register_prog_handler(section, <uapi.bpf_prog_type>type,
                                                     <uapi.bpf_attach_type>attach_type, &opts)
        pthread_rwlock_unlock(&_gate)
    leave(&call)
    clear(&call)
    if id == -EAGAIN:
        raise HandlerBusyError(
            _errno.EBUSY, f"{_pointed_to} opened objects with overridden sections are not yet loaded, and libbpf "
            f"cannot take another override meanwhile; load or close them first", "register override of", section.decode())
    if id == -EBUSY:
        raise HandlerBusyError(_errno.EBUSY, "something else in this process holds libbpf's only fallback handler",
                               "register", "pylbpf's trampolines")
    if id < 0:
        fail(-id, "register handler for", "all sections" if section == NULL else section.decode())
    return id


cdef int install() except -1:
    """Take the fallback slot, at the first handler and for ever."""
    global _installed
    if _installed:
        return 0
    lock_writers()
    try:
        if not _installed:
            add_to_libbpf(NULL, 0, 0, 0)
            _installed = True
    finally:
        PyThread_release_lock(_writers)
    return 0


@cython.final
cdef class Physical:
    """An entry of libbpf's array, shared by all handlers that override the same pattern with the same type."""

    cdef bytes pattern
    cdef int id
    cdef int users


# All entries that libbpf has, also those that wait for their removal.
cdef dict _physicals = {}
# How many opened, not yet loaded objects have programs that point into the array.
cdef int _pointed_to = 0


cdef bint in_physicals(bytes name) except -1:
    cdef const char *c_name = name
    cdef const char *pattern
    for physical in _physicals.values():
        pattern = (<Physical>physical).pattern
        if match(pattern, c_name):
            return True
    return False


cdef int reap() except -1:
    """Remove from libbpf's array what nobody uses, if nothing points into it. Never waits: it runs in deallocation."""
    cdef Physical physical
    cdef int busy
    if _pointed_to:
        return 0
    for key in [key for key, physical in _physicals.items() if physical.users == 0]:
        busy = pthread_rwlock_trywrlock(&_gate)
        if busy:
            return 0
        physical = _physicals.pop(key)
        libbpf.libbpf_unregister_prog_handler(physical.id)
        pthread_rwlock_unlock(&_gate)
    return 0


cdef Physical acquire_physical(Entry entry):
    """Have libbpf send an override's sections here."""
    cdef Physical physical
    cdef int type = entry.record.program_type
    cdef int attach_type = entry.record.expected_attach_type
    if type == 0:
        pattern_type(entry.pattern, &type, &attach_type)
    key = (entry.pattern, type)
    physical = _physicals.get(key)
    if physical is not None and physical.id:
        physical.users += 1
        return physical
    if in_callback():
        raise HandlerBusyError(_errno.EBUSY, "a handler that overrides a built-in section cannot be registered from "
                               "inside a callback", "register", repr(entry.handler))
    lock_writers()
    try:
        physical = _physicals.get(key)
        if physical is None:
            reap()
            physical = Physical.__new__(Physical)
            physical.pattern = entry.pattern
            physical.id = add_to_libbpf(entry.pattern, type, attach_type, 1)
            _physicals[key] = physical
        physical.users += 1
    finally:
        PyThread_release_lock(_writers)
    return physical


# Open objects

@cython.final
cdef class Guard:
    """Held by an object that is open and not yet loaded: keeps libbpf's array as it is."""

    cdef list physicals
    cdef bint pointing

    def __dealloc__(self):
        if self.pointing:
            pylbpf_change(&_pointed_to, -1)
        for physical in self.physicals:
            (<Physical>physical).users -= 1
        reap()


cdef int begin_open(Handle handle, object handlers) except -1:
    """Give an object its table: the global handlers, and its own before them."""
    cdef Table table = _current
    cdef Guard guard
    cdef Entry entry
    global _number
    handlers = tuple(handlers)
    if handlers:
        own = []
        for handler in handlers:
            _number += 1
            entry = make_entry(handler, True, _number)
            check_duplicates(own, entry)
            own.append(entry)
        install()
        guard = Guard.__new__(Guard)
        guard.physicals = []
        for entry in own:
            if entry.record.override:
                guard.physicals.append(acquire_physical(entry))
        handle.guard = guard
        table = Table((*own, *table.entries))
    handle.table = table
    handle.rules = &table.rules
    return 0


cdef int end_open(Handle handle) except -1:
    """After leave_gate(): from now on, until handle.guard is dropped, libbpf's array stays as it is."""
    cdef Guard guard = handle.guard
    handle.rules = NULL
    if not handle.bound:
        handle.table = None
    if handle.registered:
        if guard is None:
            guard = Guard.__new__(Guard)
            guard.physicals = []
            handle.guard = guard
        guard.pointing = True
    elif guard is not None and not guard.physicals:
        handle.guard = None
    return 0


# The public registry

@cython.final
cdef class Registration:
    """A handler that is registered. ``unregister()`` it, or use it as a ``with`` block."""

    cdef Entry entry
    cdef Physical physical
    cdef readonly bint active

    def __init__(self):
        raise TypeError("registrations are made by register()")

    @property
    def handler(self):
        """The handler."""
        return self.entry.handler

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unregister()

    def __repr__(self):
        return f"<Registration: {self.handler!r}, {'active' if self.active else 'unregistered'}>"

    def unregister(self):
        """End the registration for objects opened from now on; a second time does nothing.

        Objects that are open keep their handler until they are closed.
        """
        global _current
        cdef Table before, after
        if self.active:
            self.active = False
            while True:
                before = _current
                after = Table([entry for entry in before.entries if entry is not self.entry])
                if _current is before:      # making a table may have let another thread in
                    _current = after
                    break
            if self.physical is not None:
                self.physical.users -= 1
                reap()


def register(handler):
    """Register a handler for all objects opened from now on; return its Registration.

    May be called at any time, from any thread, whatever objects are alive. Raises HandlerExistsError if the same
    section is registered at the same priority, and HandlerBusyError if the handler overrides a section that libbpf
    knows while other such objects are open and not yet loaded, or if something else in the process holds libbpf's
    fallback handler. Minimum libbpf 0.8. Source: libbpf_register_prog_handler().
    """
    global _current, _number
    cdef Registration registration
    cdef Entry entry
    cdef Table before, after
    _number += 1
    entry = make_entry(handler, False, _number)
    check_duplicates(_current.entries, entry)
    install()
    registration = Registration.__new__(Registration)
    registration.entry = entry
    if entry.record.override:
        registration.physical = acquire_physical(entry)
    try:
        while True:
            before = _current
            check_duplicates(before.entries, entry)
            after = Table((*before.entries, entry))
            if _current is before:          # making a table may have let another thread in
                _current = after
                break
    except BaseException:
        if registration.physical is not None:
            registration.physical.users -= 1
            reap()
        raise
    registration.active = True
    return registration


def handlers():
    """The handlers that are registered for all objects, in order of precedence."""
    return tuple([(<Entry>entry).handler for entry in _current.entries])


class SectionInfo:
    """What a section name would become: ``name``, ``program_type``, ``expected_attach_type``, ``handler`` (the
    registered one, or None) and ``builtin`` (whether libbpf knows it by itself)."""

    def __init__(self, name, program_type, expected_attach_type, handler, builtin):
        self.name = name
        self.program_type = program_type
        self.expected_attach_type = expected_attach_type
        self.handler = handler
        self.builtin = builtin

    def __repr__(self):
        return (f"SectionInfo(name={self.name!r}, program_type={self.program_type!r}, "
                f"expected_attach_type={self.expected_attach_type!r}, handler={self.handler!r}, builtin={self.builtin})")


def section_info(name):
    """What a program in a section of this name would become, as SectionInfo, or None if nothing matches.

    Answers from the global handlers first, then from what libbpf knows. Source: libbpf_prog_type_by_name().
    """
    from .enums import AttachType, ProgramType
    cdef bytes raw = name_bytes(name, "section")
    cdef const char *section = raw
    cdef const char *pattern
    cdef int type = 0
    cdef int attach_type = 0
    cdef Entry entry
    cdef uapi.bpf_prog_type running = <uapi.bpf_prog_type>0
    cdef uapi.bpf_attach_type running_attach = <uapi.bpf_attach_type>0
    cdef Call call
    if raw.startswith(b"?"):
        section += 1
    builtin = builtin_type(section, &type, &attach_type) == 0
    if not builtin and not in_physicals(raw):
        # A newer libbpf may know more. UNSPEC is the answer of the fallback, which is ours.
        enter(&call, NULL)
        with nogil:
            pthread_rwlock_rdlock(&_gate)
            libbpf.libbpf_prog_type_by_name(section, &running, &running_attach)
            pthread_rwlock_unlock(&_gate)
        leave(&call)
        clear(&call)
        if <int>running != 0:
            type, attach_type, builtin = <int>running, <int>running_attach, True
    for entry in _current.entries:
        pattern = NULL if entry.pattern is None else <const char *><bytes>entry.pattern
        if (entry.pattern is not None or not builtin) and match(pattern, section):
            if entry.record.program_type or not builtin:
                type, attach_type = entry.record.program_type, entry.record.expected_attach_type
            return SectionInfo(name, ProgramType(type), AttachType(attach_type), entry.handler, builtin)
    return SectionInfo(name, ProgramType(type), AttachType(attach_type), None, True) if builtin else None


class HandlerStats:
    """Counts since import, over all threads: calls of ``setup``, ``prepare_load`` and ``attach`` callbacks of any kind,
    and ``gil_acquired``, how often a trampoline took the GIL to run one."""

    def __init__(self, setup, prepare_load, attach, gil_acquired):
        self.setup = setup
        self.prepare_load = prepare_load
        self.attach = attach
        self.gil_acquired = gil_acquired

    def __sub__(self, other):
        return HandlerStats(self.setup - other.setup, self.prepare_load - other.prepare_load,
                            self.attach - other.attach, self.gil_acquired - other.gil_acquired)

    def __eq__(self, other):
        return isinstance(other, HandlerStats) and vars(self) == vars(other)

    __hash__ = None

    def __repr__(self):
        return (f"HandlerStats(setup={self.setup}, prepare_load={self.prepare_load}, attach={self.attach}, "
                f"gil_acquired={self.gil_acquired})")


def handler_stats():
    """How often handlers were called, and the GIL was taken for them: HandlerStats, which can be subtracted."""
    cdef Stats *stats = statistics()
    return HandlerStats(stats.setup, stats.prepare_load, stats.attach, stats.gil_acquired)
