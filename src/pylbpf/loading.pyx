"""One object of many, opened and loaded on a worker's thread, without the GIL but for callbacks written in Python."""
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_acquire_lock, PyThread_release_lock, WAIT_LOCK
from libc.errno cimport EBUSY
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strcmp, strdup, strlen
from posix.signal cimport sigset_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter, keep_error, leave, let_signals_through, note_missing, trim_verdicts
from .corebtf cimport SharedBtf, covers, free_scan, pylbpf_scan, scan
from .handle cimport CLOSED, FAILED, Handle, LOADED, OPEN, PREPARED
from .opening cimport Job, load_object, open_job, read_job
from .program cimport make_program
from .workers cimport cancel

libbpf.pylbpf_on_missing = note_missing

cdef extern from "Python.h" nogil:
    unsigned long PyThread_get_thread_ident()

cdef extern from "<errno.h>" nogil:
    int ECANCELED


cdef long long now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1000000000LL + time.tv_nsec


cdef int select_in_python(Handle handle, Task *task, Plan *plan) noexcept with gil:
    """Turn autoload on for the programs that are wanted, off for all others."""
    cdef libbpf.bpf_program *program
    cdef object select = <object>plan.select
    cdef set found = <set>plan.found
    try:
        handle.require(1 << OPEN, "select programs of")
        program = libbpf.bpf_object__next_program(handle.ptr, NULL)
        while program != NULL:
            if isinstance(select, frozenset):
                name = libbpf.bpf_program__name(program)
                wanted = <bytes>name in select
                if wanted:
                    found.add(<bytes>name)
            else:
                wanted = bool(select(make_program(handle, program)))
            libbpf.bpf_program__set_autoload(program, wanted)
            program = libbpf.bpf_object__next_program(handle.ptr, program)
    except BaseException as error:
        keep_error(&task.call, error)
        return -ECANCELED
    return 0


# Cython has no borrowed references without the GIL.
cdef int (*select_borrowed)(PyObject *, Task *, Plan *) noexcept nogil
select_borrowed = <int (*)(PyObject *, Task *, Plan *) noexcept nogil>select_in_python


cdef size_t write_programs(libbpf.bpf_object *object, bint loaded, const char *rejected, char *place) noexcept nogil:
    """Write each program's verdict and name, or with NULL only count the bytes."""
    cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(object, NULL)
    cdef const char *name
    cdef bint before = rejected != NULL      # libbpf goes through them in order
    cdef char letter
    cdef size_t size = 0
    while program != NULL:
        name = libbpf.bpf_program__name(program)
        if not libbpf.bpf_program__autoload(program):
            letter = c's'
        elif loaded:
            letter = c'a'
        elif before and strcmp(name, rejected) == 0:
            letter = c'r'
            before = False
        else:
            letter = c'a' if before else c'u'
        if place != NULL:
            place[size] = letter
            memcpy(place + size + 1, name, strlen(name) + 1)
        size += strlen(name) + 2
        program = libbpf.bpf_object__next_program(object, program)
    return size


cdef void note_programs(libbpf.bpf_object *object, Task *task) noexcept nogil:
    """What became of each program, for the time when the object is gone."""
    cdef libbpf.bpf_program *program
    cdef const char *rejected = NULL
    cdef uapi.bpf_prog_info info
    cdef uapi.__u32 length
    cdef size_t size
    if task.code < 0 and task.call.last != NULL and task.call.last.rejected:
        rejected = task.call.last.program
        program = libbpf.bpf_object__find_program_by_name(object, rejected)
        if program != NULL:
            task.section = strdup(libbpf.bpf_program__section_name(program))
    size = write_programs(object, task.code >= 0, rejected, NULL)
    task.programs = <char *>malloc(size + 1)
    if task.programs != NULL:
        task.programs_size = write_programs(object, task.code >= 0, rejected, task.programs)
    if task.code < 0:
        return
    program = libbpf.bpf_object__next_program(object, NULL)
    while program != NULL:
        if libbpf.bpf_program__fd(program) >= 0:
            memset(&info, 0, sizeof(info))
            length = sizeof(info)
            if bpf.bpf_obj_get_info_by_fd(libbpf.bpf_program__fd(program), &info, &length) == 0:
                task.instructions += info.verified_insns
        program = libbpf.bpf_object__next_program(object, program)


cdef void scan_item(void *context, size_t item) noexcept nogil:
    """Look at an object before all are opened. Its bytes are not kept: the batch may be larger than memory."""
    cdef Task *task = &(<Plan *>context).tasks[item]
    cdef Job job
    if task.job == NULL:
        return
    memset(&job, 0, sizeof(job))
    job.path, job.data, job.size = task.job.path, task.job.data, task.job.size
    read_job(&job)
    if job.code == 0:
        scan(job.data, job.size, &task.found)
        task.scanned = True
    free(job.own)


cdef const char *NOT_COVERED = b"it asks for types that may be in a module, or that the extract does not have"


cdef void choose_btf(SharedBtf shared, Task *task, Plan *plan) noexcept nogil:
    """Decide by the bytes that are going to be opened: a file may have changed."""
    cdef pylbpf_scan found
    memset(&found, 0, sizeof(found))
    scan(task.job.data, task.job.size, &found)
    if found.relocations and covers(shared, &found):
        task.shares = True
        task.job.opts.btf_custom_path = plan.shared_path
    elif found.relocations:
        task.plain = found.plain if found.plain != NULL else NOT_COVERED
    free_scan(&found)


cdef void (*choose_borrowed)(PyObject *, Task *, Plan *) noexcept nogil
choose_borrowed = <void (*)(PyObject *, Task *, Plan *) noexcept nogil>choose_btf


cdef void open_task(Handle handle, Task *task, Plan *plan) noexcept nogil:
    cdef Job *job = task.job
    cdef long long start = now()
    enter(&job.call, task.handle)
    job.call.signals = <sigset_t *>plan.signals
    job.call.blocked = <sigset_t *>plan.blocked
    task.opened = True
    read_job(job)
    if job.code == 0 and plan.shared != NULL:
        choose_borrowed(plan.shared, task, plan)
    open_job(job, handle)
    leave(&job.call)
    task.open_time = now() - start
    handle.rules = NULL
    handle.ptr = job.object
    handle.phase = CLOSED if job.object == NULL else OPEN


cdef bint begin_moving(Handle handle) noexcept with gil:
    """Unless somebody looks at what is going to move; who wants to look from now on is told. Both are asked with the GIL."""
    if handle.phase == OPEN:
        if handle.exports or handle.mapped:
            return False
        handle.moves += 1
    handle.loading = True
    return True


cdef bint (*begin_borrowed)(PyObject *) noexcept nogil
begin_borrowed = <bint (*)(PyObject *) noexcept nogil>begin_moving


cdef void load_task(Handle handle, Task *task, Plan *plan) noexcept nogil:
    cdef Call *call = &task.call
    cdef int code = 0
    cdef long long start
    enter(call, task.handle)
    call.verbose = handle.verbose
    call.signals = <sigset_t *>plan.signals
    call.blocked = <sigset_t *>plan.blocked
    task.begun = True
    if plan.select != NULL:
        let_signals_through(call, True)
        code = select_borrowed(task.handle, task, plan)
        let_signals_through(call, False)
    if code == 0 and not begin_borrowed(task.handle):
        task.trouble = VIEWS_IN_USE
        task.code = -EBUSY
        leave(call)
        return
    start = now()
    if code == 0 and plan.prepares and handle.phase == OPEN:
        code = load_object(handle.ptr, call, True)
        task.prepare_time = now() - start
    if code >= 0:
        code = load_object(handle.ptr, call, False)
    task.load_time = now() - start
    if code >= 0 and call.error != NULL:
        code = -ECANCELED       # a listener was interrupted
    task.code = code
    handle.phase = FAILED if code < 0 else LOADED
    handle.loading = False
    leave(call)
    note_programs(handle.ptr, task)
    trim_verdicts(call, plan.log_limit)


cdef void work_on(Handle handle, Task *task, Plan *plan) noexcept nogil:
    """Open and load one item. The object is locked like in any other call; callbacks of this thread may use it."""
    PyThread_acquire_lock(handle.lock, WAIT_LOCK)
    handle.holder = PyThread_get_thread_ident()
    if task.job != NULL:
        open_task(handle, task, plan)
    if task.job != NULL and (task.job.object == NULL or task.job.call.error != NULL):
        pass
    elif handle.phase != OPEN and handle.phase != PREPARED:
        task.trouble = WRONG_PHASE
        task.phase = handle.phase
    else:
        load_task(handle, task, plan)
    handle.holder = 0
    PyThread_release_lock(handle.lock)


cdef void (*work_borrowed)(PyObject *, Task *, Plan *) noexcept nogil
work_borrowed = <void (*)(PyObject *, Task *, Plan *) noexcept nogil>work_on


cdef void work_on_item(void *context, size_t item) noexcept nogil:
    cdef Plan *plan = <Plan *>context
    cdef Task *task = &plan.tasks[item]
    work_borrowed(task.handle, task, plan)
    if plan.cancelled != NULL and (not task.begun or task.code < 0):
        cancel(plan.cancelled)
