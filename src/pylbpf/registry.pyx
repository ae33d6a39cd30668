"""The registry: handlers come and go at any time, from any thread, whatever objects are alive.

libbpf keeps named handlers in one array that moves whenever one is added or removed, while every open program points
into it. Only its fallback slot, for sections that nothing else matches, never moves. So pylbpf registers itself there
once, for ever, and finds the handler for a section in a table of its own. The table is immutable: registering makes a
new one, an open that is under way goes on with the one it began with.

Sections that libbpf knows never reach the fallback. To override those, an entry in libbpf's array is needed after all;
it is made and removed only while no program points into the array, and serves only to bring the program here.
"""
import errno as _errno

cimport cython
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from .call cimport Stats, statistics
from .handle cimport Handle, Record, Rules
from .handlers cimport ProgramHandler, describe
from .overrides cimport (
    Physical, acquire_physical, ask_libbpf, has_overrides, install, reap, start_pointing, release_physical, stop_pointing,
)
from .paths cimport name_bytes
from .sections cimport builtin_type, match, overlaps_builtin, pattern_type

from .errors import HandlerExistsError


# Entries: handlers as they were when they were registered

@cython.final
cdef class Entry:
    def __cinit__(self):
        memset(&self.record, 0, sizeof(Record))


cdef bint can_match_builtin(bytes pattern) except -1:
    cdef const char *c_pattern = pattern
    cdef int type, attach_type
    if overlaps_builtin(c_pattern):
        return True
    samples = (pattern, pattern + b"x") if pattern.endswith(b"/") else (
        (pattern[:-1], pattern[:-1] + b"/x") if pattern.endswith(b"+") else (pattern,))
    for sample in samples:
        if ask_libbpf(sample, &type, &attach_type):
            return True
    return False


cdef Entry make_entry(object handler, bint own, long number):
    cdef Entry entry
    cdef int type = 0
    cdef int attach_type = 0
    if not isinstance(handler, ProgramHandler):
        hint = "; pass an instance, not the class" if isinstance(handler, type_of_types) else ""
        raise TypeError(f"a handler must be a ProgramHandler, not {handler!r}{hint}")
    entry = Entry.__new__(Entry)
    entry.handler = handler
    entry.own = own
    entry.number = number
    section, entry.priority = describe(handler, &entry.record)
    if section is not None:
        entry.pattern = name_bytes(section, "section")
        entry.record.override = can_match_builtin(entry.pattern)
    if entry.record.override and entry.record.program_type == 0 and entry.record.prepares:
        pattern_type(entry.pattern, &type, &attach_type)
        if type == 0:
            raise ValueError(f"section {section!r} covers sections of several program types: a handler with "
                             f"prepare_load must give its program_type")
    return entry


type_of_types = type


cdef Physical entry_physical(Entry entry):
    """Have libbpf send the sections of an override here."""
    cdef int type = entry.record.program_type
    cdef int attach_type = entry.record.expected_attach_type
    if type == 0:
        pattern_type(entry.pattern, &type, &attach_type)
    return acquire_physical(entry.pattern, type, attach_type, entry.handler)


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
# Open objects

@cython.final
@cython.no_gc_clear     # what is released when it goes is not for the collector to take; of a tuple it takes nothing
cdef class Guard:
    """Held by an object that is open and not yet loaded: keeps libbpf's array as it is."""

    cdef tuple physicals
    cdef bint pointing

    def __dealloc__(self):
        if self.pointing:
            stop_pointing()
        for physical in self.physicals or ():
            release_physical(physical)
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
        guard.physicals = ()
        for entry in own:
            if entry.record.override:
                guard.physicals += (entry_physical(entry),)
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
            guard.physicals = ()
            handle.guard = guard
        guard.pointing = True
    elif guard is not None and not guard.physicals:
        handle.guard = None
    return 0


cdef int guard_stranger(Handle handle) except -1:
    """C code has opened this object: nobody knows whether its programs point into libbpf's array, which they do to the end."""
    cdef Guard guard
    if not has_overrides():
        return 0
    guard = Guard.__new__(Guard)
    guard.physicals = ()
    start_pointing()
    guard.pointing = True
    handle.table = guard        # unlike `guard` it stays until the object is closed
    return 0


# The public registry

@cython.final
cdef class Registration:
    """A handler that is registered, as long as it is ``active``; end it by ``unregister()`` or a ``with`` block."""

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
                release_physical(self.physical)


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
        registration.physical = entry_physical(entry)
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
            release_physical(registration.physical)
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
    if raw.startswith(b"?"):
        section += 1
    builtin = builtin_type(section, &type, &attach_type) == 0
    if not builtin and ask_libbpf(section, &type, &attach_type):
        builtin = True
    for entry in _current.entries:
        pattern = NULL
        if entry.pattern is not None:
            pattern = entry.pattern
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
