"""The functions that libbpf calls for programs of custom sections.

They run wherever open or load was called from, without the GIL, and take it only for a method that is written in
Python. Which object a program belongs to is known from the call in progress on this thread; a program of anybody
else's object passes through as if pylbpf were not there. They return 0 or -1..-4095, nothing else: libbpf takes
positive numbers for success here and for results there.
"""
import atexit as _atexit

from cpython.object cimport PyObject
from libc.errno cimport EBUSY, EINVAL, ENOMEM, EOPNOTSUPP
from libc.string cimport strlen

from .c cimport bpf, libbpf, uapi
from .call cimport Call, Stand, add_line, count, current, keep_error, let_signals_through, statistics
from .handle cimport Handle, OPENING, PASS, Record
from .insns cimport Insns
from .link cimport Link
from .loadopts cimport LoadOpts, make_load_opts
from .program cimport Program, make_program
from .autoattach cimport builtin_attach
from .builtin cimport builtin_prepare_load, builtin_setup
from .sections cimport builtin_type, match
from .strangers cimport note_stranger

from .errors import StateError

cdef extern from "<errno.h>" nogil:
    int ECANCELED

cdef extern from *:
    """
    #include "per_thread.h"
    PYLBPF_PER_THREAD int pylbpf_callbacks;
    """
    int pylbpf_callbacks

cdef const char *LOST_HOOK = (
    b"another handler overrides the same section with another program type, or setup changed it: libbpf would not "
    b"call prepare_load\n")

cdef bint _finalizing = False
# What a program of an overridden built-in section is bound to when no handler of ours wants it.
cdef Record _untouched
_untouched.override = True
_untouched.autoload = -1


def _finalize():
    global _finalizing
    _finalizing = True


_atexit.register(_finalize)


cdef bint in_callback() noexcept nogil:
    """Whether this thread is inside a callback of a handler."""
    return pylbpf_callbacks > 0


cdef int errno_of(int code) noexcept nogil:
    """The result of somebody's function as 0 or -1..-4095."""
    if code >= 0:
        return 0
    return code if code >= -4095 else -EINVAL


cdef object annotate(object error, str kind, Program program, object handler):
    """Add to an exception where it came from, as add_note() does since Python 3.11. Nothing comes of it if that fails."""
    try:
        text = f"in {kind} of {type(handler).__name__} for {program}, section '{program.section}'"
        if hasattr(error, "add_note"):
            error.add_note(text)
        else:
            error.__notes__ = [*getattr(error, "__notes__", ()), text]
    except BaseException:
        pass
    return error


cdef object nothing(object result, str kind):
    if result is not None:
        raise TypeError(f"{kind} must return None, not {type(result).__name__}")


# Setup, during open

cdef const Record *find_record(Handle handle, const char *section) noexcept nogil:
    cdef size_t at
    if handle.rules == NULL:
        return NULL
    for at in range(handle.rules.count):
        if match(handle.rules.patterns[at], section):
            return handle.rules.records[at]
    return NULL


cdef int setup_in_python(Handle handle, libbpf.bpf_program *ptr, const Record *record, Call *call) noexcept with gil:
    cdef object handler = <object>record.handler
    cdef Program program
    count(&statistics().gil_acquired)
    if _finalizing:
        return -ECANCELED
    try:
        program = make_program(handle, ptr)
        try:
            nothing(handler.setup(program), "setup")
        except BaseException as error:
            keep_error(call, annotate(error, "setup", program, handler))
            return -ECANCELED
    except BaseException as error:
        keep_error(call, error)
        return -ECANCELED
    return 0


cdef int declare(libbpf.bpf_program *program, const Record *record, bint overriding) noexcept nogil:
    """Apply what the handler declares: type, attach type, flags, autoload."""
    cdef int type = 0
    cdef int attach_type = 0
    cdef int code = 0
    cdef bint as_builtin = False
    if overriding:
        builtin_type(libbpf.bpf_program__section_name(program), &type, &attach_type)
        as_builtin = record.program_type == 0 or record.program_type == type
    if record.autoload >= 0:
        code = libbpf.bpf_program__set_autoload(program, record.autoload)
    if code == 0 and as_builtin:
        code = builtin_setup(program)
    if code == 0 and record.program_type:
        code = libbpf.bpf_program__set_type(program, <uapi.bpf_prog_type>record.program_type)
    if code == 0 and (record.expected_attach_type or not as_builtin):
        code = libbpf.bpf_program__set_expected_attach_type(program, <uapi.bpf_attach_type>record.expected_attach_type)
    if code == 0 and record.program_flags:
        code = libbpf.bpf_program__set_flags(program, libbpf.bpf_program__flags(program) | record.program_flags)
    return errno_of(code)


cdef int setup_program(Handle handle, libbpf.bpf_program *program, bint overriding, Call *call) noexcept nogil:
    cdef const Record *record = NULL
    cdef int routed = <int>libbpf.bpf_program__type(program)
    cdef int code
    if call.part:
        return 0                # declare_again() follows
    if handle.phase != OPENING:
        return builtin_setup(program) if overriding else 0
    if overriding:
        handle.registered = True
    record = find_record(handle, libbpf.bpf_program__section_name(program))
    if record == NULL or (overriding and record.catch_all):
        if overriding:
            # libbpf asked us because of a handler that is gone, or of another object's.
            if handle.bind(program, &_untouched) < 0:
                return -ENOMEM
            return builtin_setup(program)
        return 0
    if handle.bind(program, record) < 0:
        return -ENOMEM
    code = declare(program, record, overriding)
    if code == 0 and record.setup != NULL:
        code = record.setup(program, record.cookie)
        if code == PASS and record.passes:
            code = 0
        else:
            count(&statistics().setup)
            code = errno_of(code)
            handle.bindings[handle.bound - 1].native = True
    if code == 0 and record.python_setup:
        count(&statistics().setup)
        let_signals_through(call, True)
        code = setup_in_python(handle, program, record, call)
        let_signals_through(call, False)
    if (code == 0 and overriding and record.prepares and <int>libbpf.bpf_program__type(program) != routed
            and handle.bindings[handle.bound - 1].record == record):    # nor did setup drop it
        # libbpf has dropped the callback along with the type.
        add_line(call, LOST_HOOK, strlen(LOST_HOOK))
        return -EBUSY
    return code


cdef int declare_again(libbpf.bpf_program *program, const Record *record) noexcept nogil:
    """Do to a program of a part what open did to the object's own, short of what setup callbacks did. In other sections
    than overridden ones that shows in what libbpf tells of the program."""
    if record == NULL or not record.override:
        return 0
    return builtin_setup(program) if record == &_untouched else declare(program, record, True)


# The handle is kept by whoever made the call; Cython has no borrowed references without the GIL.
cdef int (*setup_borrowed)(PyObject *, libbpf.bpf_program *, bint, Call *) noexcept nogil
setup_borrowed = <int (*)(PyObject *, libbpf.bpf_program *, bint, Call *) noexcept nogil>setup_program


cdef int on_setup(libbpf.bpf_program *program, long cookie) noexcept nogil:
    global pylbpf_callbacks
    cdef Call *call = current()
    cdef int code
    if call == NULL or call.handle == NULL or call.suspended:
        if cookie == 0:
            return 0
        note_stranger(program)
        return builtin_setup(program)
    pylbpf_callbacks += 1
    call.suspended = True
    code = setup_borrowed(call.handle, program, cookie != 0, call)
    call.suspended = False
    pylbpf_callbacks -= 1
    return code


# Right before BPF_PROG_LOAD

cdef libbpf.bpf_program *own_of(const Call *call, libbpf.bpf_program *program) noexcept nogil:
    """The object's own program; what libbpf loads may be the one of a part, which stands for it."""
    cdef size_t low = 0
    cdef size_t high = call.stand_count
    cdef size_t middle
    while low < high:
        middle = (low + high) // 2
        if call.stands[middle].part < program:
            low = middle + 1
        else:
            high = middle
    return call.stands[low].own if low < call.stand_count and call.stands[low].part == program else program


cdef int prepare_in_python(Handle handle, libbpf.bpf_program *own, libbpf.bpf_program *ptr,
                           bpf.bpf_prog_load_opts *opts, const Record *record, Call *call) noexcept with gil:
    cdef object handler = <object>record.handler
    cdef Program program
    cdef LoadOpts view
    cdef Insns lent
    cdef list loan = []
    cdef bint failed = False
    count(&statistics().gil_acquired)
    if _finalizing:
        return -ECANCELED
    try:
        program = make_program(handle, own)
        view = make_load_opts(handle, opts)
        call.preparing = own
        call.prepared = ptr
        call.opts = opts
        call.loan = <PyObject *>loan
        handle.preparing += 1
        try:
            nothing(handler.prepare_load(program, view), "prepare_load")
        except BaseException as error:
            keep_error(call, annotate(error, "prepare_load", program, handler))
            failed = True
        finally:
            view.ptr = NULL
            call.preparing = call.prepared = NULL
            call.opts = NULL
            call.loan = NULL
            handle.preparing -= 1
        for lent in loan:
            try:
                lent.revoke()
            except BufferError as error:
                keep_error(call, annotate(error, "prepare_load", program, handler))
                failed = True
        loan.clear()        # they hold it, too
    except BaseException as error:
        keep_error(call, error)
        failed = True
    return -ECANCELED if failed else 0


cdef int prepare_program(Handle handle, libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts, bint overriding,
                         Call *call) noexcept nogil:
    cdef libbpf.bpf_program *own = own_of(call, program)
    cdef const Record *record = handle.record_of(own)
    cdef int type = 0
    cdef int attach_type = 0
    cdef int code = 0
    if record == NULL:
        return 0
    if overriding:
        builtin_type(libbpf.bpf_program__section_name(program), &type, &attach_type)
        if <int>libbpf.bpf_program__type(program) == type:
            code = errno_of(builtin_prepare_load(program, opts))
    if code == 0 and record.prepare_load != NULL:
        code = record.prepare_load(program, opts, record.cookie)
        if code == PASS and record.passes:
            code = 0
        else:
            count(&statistics().prepare_load)
            code = errno_of(code)
    if code == 0 and record.python_prepare_load:
        count(&statistics().prepare_load)
        let_signals_through(call, True)
        code = prepare_in_python(handle, own, program, opts, record, call)
        let_signals_through(call, False)
    return code


cdef int (*prepare_borrowed)(PyObject *, libbpf.bpf_program *, bpf.bpf_prog_load_opts *, bint, Call *) noexcept nogil
prepare_borrowed = <int (*)(PyObject *, libbpf.bpf_program *, bpf.bpf_prog_load_opts *, bint, Call *) noexcept nogil>prepare_program


cdef int on_prepare_load(libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts, long cookie) noexcept nogil:
    global pylbpf_callbacks
    cdef Call *call = current()
    cdef int code
    if call == NULL or call.handle == NULL or call.suspended:
        return builtin_prepare_load(program, opts) if cookie else 0
    pylbpf_callbacks += 1
    call.suspended = True
    code = prepare_borrowed(call.handle, program, opts, cookie != 0, call)
    call.suspended = False
    pylbpf_callbacks -= 1
    return code


# Attach

cdef tuple as_links(object result):
    """What an attach method returned, as a tuple of links."""
    if result is None:
        return ()
    if isinstance(result, Link):
        links = (result,)
    else:
        try:
            items = iter(result)
        except TypeError:
            raise TypeError(f"attach must return a Link, several, or None, not {type(result).__name__}") from None
        links = tuple(items)    # which may be code of the handler's, with errors of its own
    for link in links:
        if not isinstance(link, Link):
            raise TypeError(f"attach must return links, not {type(link).__name__}")
        if (<Link>link).ptr == NULL:
            raise ValueError(f"attach returned a link that is closed: {link!r}")
    return tuple(dict.fromkeys(links))      # each once


cdef object attach_in_python(const Record *record, Handle handle, object program):
    """Call a handler's attach; return a tuple of links. If it fails, no link that it made is left."""
    global pylbpf_callbacks
    cdef list before = handle.made
    cdef libbpf.bpf_program *attaching = handle.attaching
    cdef list made = []
    handle.made = made
    handle.attaching = (<Program>program).own
    pylbpf_callbacks += 1
    count(&statistics().attach)
    try:
        links = as_links((<object>record.handler).attach(program))
        for link in links:
            if (<Link>link).handle is None:     # of a pin, a number, a descriptor: it ends with the object like the others
                (<Link>link).belong_to((<Link>link).subject, handle)
        if before is not None:
            # Made for another handler's attach, which may still fail.
            before.extend(made)
        return links
    except BaseException as error:
        for link in reversed(made):
            try:
                link.destroy()
            except OSError:
                pass    # the first error is the one to tell
        annotate(error, "attach", program, <object>record.handler)
        raise
    finally:
        pylbpf_callbacks -= 1
        handle.made = before
        handle.attaching = attaching


cdef int on_attach(const libbpf.bpf_program *program, long cookie, libbpf.bpf_link **link) noexcept nogil:
    """For code outside pylbpf that calls bpf_program__attach(): our own objects call handlers directly."""
    cdef int event
    link[0] = NULL
    return builtin_attach(program, link, &event) if cookie else -EOPNOTSUPP
