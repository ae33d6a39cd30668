"""One program of an object, loaded by itself: an open of its own, for libbpf loads an object only once.

Without callbacks in Python one handle of a worker serves for all its opens, and the GIL is not needed. What Python code
may keep of an object needs a handle that is closed with it.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.errno cimport ENOMEM, ENOSPC
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strlen, strstr
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from .backlog cimport Finding, NO_PLACE, Source, Work, cancel_work
from .c cimport libbpf
from .call cimport Call, clear_text, enter, leave, note_missing
from .handle cimport CLOSED, Handle, OPEN, OPENING
from .opening cimport Job, begin_load, conclude_load, load_object, open_job
from .overrides cimport stop_pointing
from .registry cimport end_open

libbpf.pylbpf_on_missing = note_missing

cdef extern from "<errno.h>" nogil:
    int ECANCELED

cdef extern from "<string.h>" nogil:
    char *strdup(const char *text)

cdef enum:
    LARGEST_LOG = 16 << 20      # for kernels that keep the begin of a log instead of its end

# How the verifier ends its log.
cdef const char *LOG_END = b"processed "


# What was said

cdef void take_words(Worker *worker, Call *call, Finding *finding) noexcept nogil:
    """What libbpf said, and what a callback raised."""
    if finding.said == NULL and call.length:
        finding.said = <char *>malloc(call.length + 1)
        if finding.said != NULL:
            memcpy(finding.said, call.lines, call.length)
            finding.said[call.length] = 0
    forget_call(worker, call)


cdef void forget_call(Worker *worker, Call *call) noexcept nogil:
    clear_text(call)
    if worker.error == NULL:
        worker.error = call.error
    elif call.error != NULL:
        drop(call.error)
    call.error = NULL


cdef void drop(PyObject *error) noexcept nogil:
    with gil:
        Py_XDECREF(error)


cdef void keep(Worker *worker, object error) noexcept:
    if worker.error == NULL:
        Py_INCREF(error)
        worker.error = <PyObject *>error


# Logs: one buffer of each worker

cdef bint make_room(Worker *worker, size_t room) noexcept nogil:
    free(worker.log)
    worker.log = <char *>malloc(room)
    worker.room = room if worker.log != NULL else 0
    if worker.log == NULL:
        cancel_work(worker.work, True)
    return worker.log != NULL


cdef bint has_end(const char *log) noexcept nogil:
    cdef size_t length = strlen(log)
    return strstr(log + (length - 1024 if length > 1024 else 0), LOG_END) != NULL


cdef char *end_of(const char *log, size_t limit) noexcept nogil:
    """The last whole lines of a log."""
    cdef size_t length = strlen(log)
    cdef const char *line
    if length > limit:
        log += length - limit
        line = strstr(log, b"\n")
        if line != NULL:
            log = line + 1
    return strdup(log)


# Open and close

cdef void renew_plain(Worker *worker, Handle handle) noexcept nogil:
    handle.phase = OPENING
    handle.bound = handle.hint = 0
    handle.registered = False
    handle.rules = worker.work.rules


cdef bint renew_python(Worker *worker, Source *source) noexcept with gil:
    cdef Work *work = worker.work
    cdef Handle handle
    worker.handle = NULL
    try:
        handle = Handle.__new__(Handle)
        handle.name = (<list>work.labels)[source - work.sources]
        handle.table = <object>work.table
        handle.rules = work.rules
        handle.acquire("open")
        (<list>work.holders)[worker.place] = handle
        worker.handle = <PyObject *>handle
        return True
    except BaseException as error:
        keep(worker, error)
        return False


cdef void settle_plain(Worker *worker, Handle handle) noexcept nogil:
    handle.rules = NULL
    handle.ptr = worker.job.object
    handle.phase = OPEN if handle.ptr != NULL else CLOSED


cdef void settle_python(Worker *worker) noexcept with gil:
    cdef Handle handle = <Handle>worker.handle
    try:
        handle.release()
        end_open(handle)
    except BaseException as error:
        keep(worker, error)
    settle_plain(worker, handle)


cdef void close_plain(Worker *worker, Handle handle) noexcept nogil:
    cdef Call call
    if handle.ptr != NULL:
        enter(&call, NULL)
        libbpf.bpf_object__close(handle.ptr)
        leave(&call)
        clear_text(&call)
    handle.ptr = NULL
    handle.phase = CLOSED
    if handle.registered:
        stop_pointing()
        handle.registered = False


cdef void close_python(Worker *worker) noexcept with gil:
    cdef Handle handle = <Handle>worker.handle
    worker.handle = NULL
    try:
        (<list>worker.work.holders)[worker.place] = None
        if handle.phase != CLOSED:
            handle.acquire("close")
            try:
                handle.check_views("close")     # the last of them will close it
                handle.free_object()
            finally:
                handle.release()
        handle.guard = handle.kept = handle.table = None
        handle.bound = 0
    except BaseException as error:
        keep(worker, error)


# The handle is kept by the crew; Cython has no borrowed references without the GIL.
cdef void (*renew_borrowed)(Worker *, PyObject *) noexcept nogil
cdef void (*open_borrowed)(Job *, PyObject *) noexcept nogil
cdef void (*settle_borrowed)(Worker *, PyObject *) noexcept nogil
cdef void (*close_borrowed)(Worker *, PyObject *) noexcept nogil
renew_borrowed = <void (*)(Worker *, PyObject *) noexcept nogil>renew_plain
open_borrowed = <void (*)(Job *, PyObject *) noexcept nogil>open_job
settle_borrowed = <void (*)(Worker *, PyObject *) noexcept nogil>settle_plain
close_borrowed = <void (*)(Worker *, PyObject *) noexcept nogil>close_plain


cdef void enter_call(Worker *worker, Call *call) noexcept nogil:
    enter(call, worker.handle)
    call.signals = worker.work.signals
    call.blocked = worker.work.blocked


cdef bint open_source(Worker *worker, Source *source) noexcept nogil:
    """job.object, or job.code."""
    cdef Work *work = worker.work
    cdef Job *job = &worker.job
    memset(job, 0, sizeof(Job))
    job.data = source.data
    job.size = source.size
    job.opts = work.opts
    job.opts.object_name = source.name
    if source.btf != NULL:
        job.opts.btf_custom_path = source.btf
    if not work.python:
        renew_borrowed(worker, worker.handle)
    elif not renew_python(worker, source):
        job.code = -ECANCELED
        return False
    enter_call(worker, &job.call)
    open_borrowed(job, worker.handle)
    leave(&job.call)
    if work.python:
        settle_python(worker)
    else:
        settle_borrowed(worker, worker.handle)
    return job.object != NULL


cdef void close_source(Worker *worker) noexcept nogil:
    forget_call(worker, &worker.job.call)
    worker.job.object = NULL
    if not worker.work.python:
        close_borrowed(worker, worker.handle)
    elif worker.handle != NULL:
        close_python(worker)


# Load

cdef bint begin_python(Worker *worker) noexcept with gil:
    cdef Handle handle = <Handle>worker.handle
    try:
        handle.acquire("load")
        try:
            begin_load(handle, "load", False)
        except BaseException:
            handle.release()
            raise
        return True
    except BaseException as error:
        keep(worker, error)
        return False


cdef void conclude_python(Worker *worker, int code) noexcept with gil:
    cdef Handle handle = <Handle>worker.handle
    try:
        conclude_load(handle, &worker.call, code, False)
        handle.release()
    except BaseException as error:
        keep(worker, error)


cdef int load_alone(Worker *worker, libbpf.bpf_program *wanted, unsigned int level, double *seconds) noexcept nogil:
    """Load the object with this program only; the log is in the worker's buffer."""
    cdef libbpf.bpf_object *object = worker.job.object
    cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(object, NULL)
    cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(object, NULL)
    cdef timespec before, after
    cdef int code
    while program != NULL:
        libbpf.bpf_program__set_autoload(program, program == wanted)
        program = libbpf.bpf_object__next_program(object, program)
    while map != NULL:
        libbpf.bpf_map__set_pin_path(map, NULL)     # nothing stays
        map = libbpf.bpf_object__next_map(object, map)
    worker.log[0] = 0
    if wanted != NULL:
        libbpf.bpf_program__set_log_level(wanted, level | worker.work.flags)
        libbpf.bpf_program__set_log_buf(wanted, worker.log, worker.room)
    enter_call(worker, &worker.call)
    if worker.work.python and not begin_python(worker):
        leave(&worker.call)
        return -ECANCELED
    clock_gettime(CLOCK_MONOTONIC, &before)
    code = load_object(object, &worker.call, False)
    clock_gettime(CLOCK_MONOTONIC, &after)
    leave(&worker.call)
    seconds[0] = (after.tv_sec - before.tv_sec) + (after.tv_nsec - before.tv_nsec) * 1e-9
    if worker.work.python:
        conclude_python(worker, code)
    return code


cdef int attempt(Worker *worker, Source *source, size_t place, unsigned int level, bint opened,
                 double *seconds) noexcept nogil:
    """Open and load, and leave open. What the buffer was too small for is loaded again."""
    cdef libbpf.bpf_program *program
    cdef int code
    while True:
        if not opened and not open_source(worker, source):
            enter_call(worker, &worker.call)        # so that it is empty
            leave(&worker.call)
            return worker.job.code
        opened = False
        code = load_alone(worker, program_at(worker.job.object, place), level, seconds)
        if code != -ENOSPC or worker.room >= LARGEST_LOG or not worker.log[0] or has_end(worker.log):
            return code
        forget_call(worker, &worker.call)
        close_source(worker)
        if not make_room(worker, worker.room * 4):
            return -ENOMEM


cdef libbpf.bpf_program *program_at(libbpf.bpf_object *object, size_t place) noexcept nogil:
    cdef libbpf.bpf_program *program = NULL
    if place != NO_PLACE:
        program = libbpf.bpf_object__next_program(object, NULL)
        while place and program != NULL:
            place -= 1
            program = libbpf.bpf_object__next_program(object, program)
    return program
