"""libbpf's own table of handlers: what pylbpf puts there, and when it may be changed.

It is one array that moves when it changes, while programs of open objects point into it and opens search it.
"""
import errno as _errno

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_acquire_lock, PyThread_release_lock, PyThread_type_lock, WAIT_LOCK
cimport cython
from libc.errno cimport EAGAIN, EBUSY
from libc.string cimport memset
from posix.time cimport timespec

from .c cimport libbpf, uapi
from .call cimport Call, clear, enter, leave, note_missing
from .deadline cimport a_while_from_now
from .errors cimport fail
from .handle cimport Handle
from .sections cimport match
from .strangers cimport any_strangers
from .trampolines cimport in_callback, on_attach, on_prepare_load, on_setup

from .errors import HandlerBusyError

libbpf.pylbpf_on_missing = note_missing

cdef extern from "Python.h" nogil:
    PyThread_type_lock PyThread_allocate_lock()

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_rwlock_t:
        pass
    int pthread_rwlock_init(pthread_rwlock_t *lock, const void *attributes)
    int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
    int pthread_rwlock_trywrlock(pthread_rwlock_t *lock)
    int pthread_rwlock_timedwrlock(pthread_rwlock_t *lock, const timespec *until)
    int pthread_rwlock_unlock(pthread_rwlock_t *lock)
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)

cdef extern from *:
    """
    #include "per_thread.h"
    PYLBPF_PER_THREAD int pylbpf_inside;
    #define pylbpf_change(counter, by) __atomic_add_fetch(counter, by, __ATOMIC_SEQ_CST)
    """
    int pylbpf_inside           # how often this thread is behind the gate: a print callback may come from there
    int pylbpf_change(int *counter, int by) nogil

cdef bint _installed = False


# One at a time changes libbpf's array. Callbacks never come here, so whoever waits in here is not waited for.
cdef PyThread_type_lock _writers = PyThread_allocate_lock()


cdef pthread_rwlock_t _gate
pthread_rwlock_init(&_gate, NULL)


cdef void reset_gate() noexcept nogil:
    # Threads that held a lock were not forked along; what this one holds it will give back.
    global _writers
    cdef int at
    pthread_rwlock_init(&_gate, NULL)
    for at in range(pylbpf_inside):
        pthread_rwlock_rdlock(&_gate)
    _writers = PyThread_allocate_lock()


pthread_atfork(NULL, NULL, reset_gate)


cdef void enter_gate() noexcept nogil:
    """Opens read libbpf's array, which must not change under them."""
    global pylbpf_inside
    pthread_rwlock_rdlock(&_gate)
    pylbpf_inside += 1


cdef void unlock_gate() noexcept nogil:
    global pylbpf_inside
    pylbpf_inside -= 1
    pthread_rwlock_unlock(&_gate)


cdef void leave_gate(Handle handle) noexcept nogil:
    # Counted before a writer can come in, who must find that the array is pointed into.
    if handle.registered:
        pylbpf_change(&_pointed_to, 1)
    unlock_gate()


cdef void start_pointing() noexcept nogil:
    """Keep libbpf's array as it is until stop_pointing()."""
    enter_gate()
    pylbpf_change(&_pointed_to, 1)
    unlock_gate()


cdef void lock_writers() noexcept:
    with nogil:
        PyThread_acquire_lock(_writers, WAIT_LOCK)


cdef int wait_a_while() noexcept nogil:
    """For the gate; 0 if it is ours."""
    cdef timespec until
    a_while_from_now(&until)
    return pthread_rwlock_timedwrlock(&_gate, &until)


cdef int add_to_libbpf(const char *section, int type, int attach_type, long cookie) except -1:
    cdef libbpf.libbpf_prog_handler_opts opts
    cdef Call call
    cdef int id, busy
    if pylbpf_inside:
        raise HandlerBusyError(_errno.EBUSY, "libbpf's table cannot change while it is searched, as by the call that "
                               "prints this", "register", "handler")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.cookie = cookie
    opts.prog_setup_fn = on_setup
    opts.prog_prepare_load_fn = on_prepare_load
    opts.prog_attach_fn = on_attach
    # Opens are waited for as long as they take; but a signal handler may raise.
    while True:
        with nogil:
            busy = wait_a_while()
        if not busy:
            break
        PyErr_CheckSignals()
    enter(&call, NULL)
    with nogil:
        if section != NULL and pointed_into():
            id = -EAGAIN
        else:
            id = libbpf.libbpf_register_prog_handler(section, <uapi.bpf_prog_type>type,
                                                     <uapi.bpf_attach_type>attach_type, &opts)
        pthread_rwlock_unlock(&_gate)
    leave(&call)
    clear(&call)
    if id == -EAGAIN:
        raise HandlerBusyError(
            _errno.EBUSY, "objects with overridden sections are open and not yet loaded, or were made by C, and libbpf "
            "cannot take another override meanwhile; load or close them first", "register override of", section.decode())
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


# All entries that libbpf has, also those that wait for their removal.
cdef dict _physicals = {}
cdef bint _anchored = False
cdef const char *ANCHOR = b"\x01pylbpf"        # no section has such a name
# How many opened, not yet loaded objects have programs that point into the array.
cdef int _pointed_to = 0


cdef bint pointed_into() noexcept nogil:
    return pylbpf_change(&_pointed_to, 0) > 0 or any_strangers()


cdef int reap() except -1:
    """Remove from libbpf's array what nobody uses, if nothing points into it. Never waits: it runs in deallocation."""
    cdef Physical physical
    cdef int busy
    if pointed_into():
        return 0
    for key in [key for key, physical in _physicals.items() if physical.users == 0]:
        busy = pthread_rwlock_trywrlock(&_gate)
        if busy:
            return 0
        # Again, now that no open is under way: making the list may have let other threads in.
        physical = _physicals.get(key)
        if physical is not None and physical.users == 0 and not pointed_into():
            del _physicals[key]
            libbpf.libbpf_unregister_prog_handler(physical.id)
        pthread_rwlock_unlock(&_gate)
    return 0


cdef Physical acquire_physical(bytes pattern, int type, int attach_type, object handler):
    """Have libbpf send the sections of an override here."""
    cdef Physical physical
    global _anchored
    key = (pattern, type)
    physical = _physicals.get(key)
    if physical is not None:
        physical.users += 1
        return physical
    if in_callback():
        raise HandlerBusyError(_errno.EBUSY, "a handler that overrides a built-in section cannot be registered from "
                               "inside a callback", "register", repr(handler))
    lock_writers()
    try:
        physical = _physicals.get(key)
        if physical is None:
            if not _anchored:
                # Up to 1.2 libbpf frees the array with its last entry, and uses it again: so one stays for ever.
                add_to_libbpf(ANCHOR, 0, 0, 1)
                _anchored = True
            reap()
            physical = Physical.__new__(Physical)
            physical.pattern = pattern
            physical.id = add_to_libbpf(pattern, type, attach_type, 1)
            _physicals[key] = physical
        physical.users += 1
    finally:
        PyThread_release_lock(_writers)
    return physical


cdef int release_physical(Physical physical) except -1:
    physical.users -= 1
    return reap()


cdef void stop_pointing() noexcept nogil:
    pylbpf_change(&_pointed_to, -1)


cdef bint has_overrides() noexcept:
    return _anchored


cdef bint overridden(const char *section) except -1:
    """Whether an override in libbpf's array stands before a section now."""
    cdef Physical physical
    cdef const char *pattern
    for physical in _physicals.values():
        pattern = physical.pattern
        if match(pattern, section):
            return True
    return False


cdef bint ask_libbpf(bytes section, int *program_type, int *attach_type) except -1:
    """Whether the libbpf that runs knows a section by itself, and what as: it may be newer than our table.

    UNSPEC is the answer of the fallback, which is ours; so are the overrides, about which nothing can be asked.
    """
    cdef uapi.bpf_prog_type type = <uapi.bpf_prog_type>0
    cdef uapi.bpf_attach_type expected = <uapi.bpf_attach_type>0
    cdef const char *name = section
    cdef Call call
    if overridden(name):
        return False
    enter(&call, NULL)
    with nogil:
        enter_gate()
        libbpf.libbpf_prog_type_by_name(name, &type, &expected)
        unlock_gate()
    leave(&call)
    clear(&call)
    program_type[0] = <int>type
    attach_type[0] = <int>expected
    return <int>type != 0
