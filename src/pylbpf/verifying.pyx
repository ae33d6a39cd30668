"""Programs loaded each by itself, for what the kernel's verifier says of them; nothing of them stays.

First all objects are read, to know which are costly and what types of the kernel they ask for. Then each is opened anew
for each of its programs, because libbpf loads an object only once. Workers take the next program of an object that was
begun, before they begin another: so one object alone keeps all of them busy. The GIL is taken only for callbacks that
are written in Python.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
cimport cython
from libc.errno cimport ENOMEM, ENOSPC
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strlen, strstr
from posix.signal cimport sigset_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from .c cimport bpf, libbpf, uapi
from .call cimport Call, clear_text, enter, leave, note_missing
from .corebtf cimport SharedBtf, add_names, covers, free_names, free_scan, pylbpf_names, pylbpf_scan, scan, share
from .errors cimport message_of
from .handle cimport CLOSED, Handle, OPEN, OPENING, Rules
from .opening cimport Job, Request, begin_load, conclude_load, load_object, open_job, read_job
from .overrides cimport reap, stop_pointing
from .program cimport make_program
from .registry cimport end_open
from .workers cimport Crew, Toil, tell, thread_count

libbpf.pylbpf_on_missing = note_missing

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, const void *attributes)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    int pthread_cond_broadcast(pthread_cond_t *condition)
    int pthread_cond_destroy(pthread_cond_t *condition)

cdef extern from "<errno.h>" nogil:
    int ECANCELED

cdef extern from "<string.h>" nogil:
    char *strdup(const char *text)

cdef enum:
    STATISTICS = 4              # BPF_LOG_STATS: what the verifier counted, and why it refused, but not its way
    WAY = 1                     # BPF_LOG_LEVEL1: the way to a failure
    ALL_WAYS = 2                # BPF_LOG_LEVEL2: every way, of an accepted program too
    FIXED = 8                   # BPF_LOG_FIXED
    USUAL_LOG = 64 << 10        # bytes; statistics take some hundred,
    LARGEST_LOG = 16 << 20      # and this is for kernels that keep the begin of a log instead of its end
    KEPT = 256 << 20            # bytes of objects in memory; others are read a second time

cdef size_t NOWHERE = <size_t>-1

cdef enum Verdict:
    REFUSED, FAILED, REJECTED, ACCEPTED

VERDICTS = ("refused", "failed", "rejected", "accepted")

# How libbpf announces that the kernel did not take a program; what goes wrong later has other words.
cdef const char *NOT_LOADED = b"BPF program load failed"
# How the verifier ends its log.
cdef const char *LOG_END = b"processed "


cdef struct Source:
    # An object. What it points to is kept by the crew.
    const char *path            # or NULL,
    const unsigned char *data   # and then the bytes are here
    size_t size
    const char *name            # for libbpf, or NULL
    int code                    # what is wrong with it, 0 or -errno,
    char *problem               # in words, or NULL
    size_t cost
    const char *btf             # the shared types, if they are enough for it, or NULL
    unsigned char *own          # what was read of the path, until its last program is done
    size_t *chosen              # which of its programs are to be verified,
    size_t programs             # so many
    size_t begun, ended
    Source *below               # on the pile of those that have programs left


cdef struct Finding:
    Finding *next
    size_t source
    size_t program              # its place in the object; NOWHERE: this is about the object
    char *name
    char *section
    const char *type            # as libbpf calls it
    Verdict verdict
    int code                    # 0 or a positive number
    double seconds              # of the load
    size_t insns
    uapi.__u32 xlated, jited    # bytes
    char *statistics            # the log of the load,
    char *log                   # and the end of a longer one, if there was one
    char *said                  # what libbpf said
    PyObject *error             # owned: what a callback raised


cdef struct Work:
    # What the workers share.
    pthread_mutex_t lock
    pthread_cond_t news
    bint cancelled
    bint memory_gone
    Source *sources
    size_t *order               # in which they are begun
    PyObject **handles          # one of each worker
    size_t kept                 # bytes of objects in memory
    pylbpf_names names          # types of the kernel that they ask for, all together
    PyObject *shared            # a SharedBtf for these, or NULL
    const char *btf             # and where it is
    size_t count
    size_t next
    size_t looking              # workers that are about to know what programs a source has
    size_t unknown              # sources of which nobody knows that yet,
    size_t known                # and what there is to tell of all the others
    Source *pile
    Finding *first              # what the waiting thread was not told yet
    Finding *last
    libbpf.bpf_object_open_opts opts
    const Rules *rules
    bint python                 # some callback is written in Python: each open has a handle of its own
    bint choosy                 # not all programs may be wanted
    unsigned int level          # of logs beside statistics: 0, WAY or ALL_WAYS
    unsigned int flags          # of all logs
    size_t keep                 # bytes of a log
    Toil *toil
    sigset_t *signals
    sigset_t *blocked
    PyObject *crew


cdef struct Worker:
    Work *work
    size_t place
    PyObject *handle            # of the open in progress, kept by the crew
    Job job
    Call call                   # of the last load
    PyObject *error             # owned: the first that a callback raised
    char *log
    size_t room


# What is to be done

cdef bint take(Work *work, Source **source, size_t *program) noexcept nogil:
    """The next program; NOWHERE with an object that nobody has looked into. False if nothing is left."""
    cdef bint found = False
    pthread_mutex_lock(&work.lock)
    while not (found or work.cancelled):
        if work.pile != NULL:
            source[0] = work.pile
            program[0] = work.pile.chosen[work.pile.begun]
            work.pile.begun += 1
            if work.pile.begun == work.pile.programs:
                work.pile = work.pile.below
            found = True
        elif work.next < work.count:
            source[0] = &work.sources[work.order[work.next]]
            program[0] = NOWHERE
            work.next += 1
            work.looking += 1
            found = True
        elif work.looking:
            pthread_cond_wait(&work.news, &work.lock)
        else:
            break
    pthread_mutex_unlock(&work.lock)
    return found


cdef void publish(Work *work, Source *source, size_t known) noexcept nogil:
    """Its programs are known. Whoever looked does the first, others may take the rest."""
    pthread_mutex_lock(&work.lock)
    source.begun = 1
    if source.programs > 1:
        source.below = work.pile
        work.pile = source
    work.looking -= 1
    work.unknown -= 1
    work.known += known
    pthread_cond_broadcast(&work.news)
    pthread_mutex_unlock(&work.lock)


cdef void end_program(Work *work, Source *source) noexcept nogil:
    cdef bint last
    pthread_mutex_lock(&work.lock)
    source.ended += 1
    last = source.ended >= source.programs
    pthread_mutex_unlock(&work.lock)
    if last:
        free_source(source)


cdef void free_source(Source *source) noexcept nogil:
    free(source.problem)
    free(source.own)
    source.problem = NULL
    free(source.chosen)
    source.own = NULL
    source.chosen = NULL
    if source.path != NULL:
        source.data = NULL


cdef void cancel_work(Work *work, bint memory_gone) noexcept nogil:
    pthread_mutex_lock(&work.lock)
    work.cancelled = True
    work.memory_gone = work.memory_gone or memory_gone
    pthread_cond_broadcast(&work.news)
    pthread_mutex_unlock(&work.lock)


# The first round: what there is

cdef void read_source(Source *source) noexcept nogil:
    """The bytes, found to be sound; or what is wrong with them."""
    cdef Job job
    memset(&job, 0, sizeof(Job))
    job.path = source.path
    job.data = source.data
    job.size = source.size
    read_job(&job)
    source.own = job.own
    source.data = job.data
    source.size = job.size
    source.code = job.code
    if job.problem[0]:
        source.problem = strdup(job.problem)


cdef void survey_source(void *context, size_t at) noexcept nogil:
    cdef Work *work = <Work *>context
    cdef Source *source = &work.sources[at]
    cdef pylbpf_scan found
    read_source(source)
    if source.code:
        return
    scan(source.data, source.size, &found)
    source.cost = found.insns
    pthread_mutex_lock(&work.lock)
    if found.plain == NULL and found.relocations and add_names(&work.names, &found) < 0:
        work.memory_gone = True
    if source.own != NULL:
        work.kept += source.size
    if source.own != NULL and work.kept > KEPT:
        work.kept -= source.size
        free_source(source)
    pthread_mutex_unlock(&work.lock)
    free_scan(&found)


cdef bint (*covers_borrowed)(PyObject *, const pylbpf_scan *) noexcept nogil
covers_borrowed = <bint (*)(PyObject *, const pylbpf_scan *) noexcept nogil>covers


cdef void choose_types(Work *work, Source *source) noexcept nogil:
    """Asked of the bytes that are going to be opened."""
    cdef pylbpf_scan found
    scan(source.data, source.size, &found)
    if found.relocations and covers_borrowed(work.shared, &found):
        source.btf = work.btf
    free_scan(&found)


# What was found

cdef Finding *make_finding(Work *work, Source *source, size_t program) noexcept nogil:
    cdef Finding *finding = <Finding *>calloc(1, sizeof(Finding))
    if finding == NULL:
        cancel_work(work, True)
        return NULL
    finding.source = source - work.sources
    finding.program = program
    finding.verdict = FAILED
    return finding


cdef void add_finding(Worker *worker, Finding *finding) noexcept nogil:
    cdef Work *work = worker.work
    finding.error = worker.error
    worker.error = NULL
    pthread_mutex_lock(&work.lock)
    if work.first == NULL:
        work.first = finding
    else:
        work.last.next = finding
    work.last = finding
    pthread_mutex_unlock(&work.lock)
    tell(work.toil)


cdef Finding *next_finding(Work *work) noexcept nogil:
    cdef Finding *finding
    pthread_mutex_lock(&work.lock)
    finding = work.first
    if finding != NULL:
        work.first = finding.next
    pthread_mutex_unlock(&work.lock)
    return finding


cdef void free_finding(Finding *finding) noexcept:
    free(finding.name)
    free(finding.section)
    free(finding.statistics)
    free(finding.log)
    free(finding.said)
    Py_XDECREF(finding.error)
    free(finding)


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


cdef void drop(PyObject *error) noexcept with gil:
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


# Open and close. Without callbacks in Python one handle of a worker serves for all its opens, and the GIL is not
# needed; what Python code keeps of an object needs a handle that is closed with it.

cdef void renew_plain(Worker *worker, Handle handle) noexcept nogil:
    handle.phase = OPENING
    handle.bound = handle.hint = 0
    handle.registered = False
    handle.rules = worker.work.rules


cdef bint renew_python(Worker *worker, Source *source) noexcept with gil:
    cdef Verification crew = <Verification>worker.work.crew
    cdef Handle handle
    worker.handle = NULL
    try:
        handle = Handle.__new__(Handle)
        handle.name = crew.labels[source - worker.work.sources]
        handle.table = crew.request.handle.table
        handle.rules = worker.work.rules
        handle.acquire("open")
        crew.handles[worker.place] = handle
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
        (<Verification>worker.work.crew).handles[worker.place] = None
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
    if place != NOWHERE:
        program = libbpf.bpf_object__next_program(object, NULL)
        while place and program != NULL:
            place -= 1
            program = libbpf.bpf_object__next_program(object, program)
    return program


# One program

cdef void describe(Finding *finding, libbpf.bpf_program *program) noexcept nogil:
    cdef uapi.bpf_prog_info info
    cdef uapi.__u32 size = sizeof(info)
    cdef int fd = libbpf.bpf_program__fd(program)
    finding.name = strdup(libbpf.bpf_program__name(program))
    finding.section = strdup(libbpf.bpf_program__section_name(program))
    finding.type = libbpf.libbpf_bpf_prog_type_str(libbpf.bpf_program__type(program))
    finding.insns = libbpf.bpf_program__insn_cnt(program)
    memset(&info, 0, sizeof(info))
    if fd >= 0 and bpf.bpf_obj_get_info_by_fd(fd, &info, &size) == 0:
        finding.xlated = info.xlated_prog_len
        finding.jited = info.jited_prog_len


cdef Verdict judge(int code, const char *said, const char *log) noexcept nogil:
    if code == 0:
        return ACCEPTED
    if not log[0]:
        return FAILED
    # Beyond the verifier an object may fail for what it lacks, as other programs in its maps.
    return REJECTED if said != NULL and strstr(said, NOT_LOADED) != NULL else ACCEPTED


cdef void verify_program(Worker *worker, Source *source, size_t place, bint opened) noexcept nogil:
    cdef Work *work = worker.work
    cdef Finding *finding = make_finding(work, source, place)
    cdef libbpf.bpf_program *program = NULL
    cdef PyObject *error
    cdef double ignored = 0
    cdef int code
    if finding == NULL:
        if opened:
            close_source(worker)
        return
    code = attempt(worker, source, place, STATISTICS, opened, &finding.seconds)
    finding.code = -code
    if worker.job.object == NULL:
        take_words(worker, &worker.job.call, finding)
    else:
        program = program_at(worker.job.object, place)
        if program != NULL:
            describe(finding, program)
        take_words(worker, &worker.call, finding)
        finding.verdict = judge(code, finding.said, worker.log)
        finding.statistics = end_of(worker.log, work.keep)
    close_source(worker)
    if program != NULL and ((finding.verdict == REJECTED and work.level >= <unsigned int>WAY)
                            or (finding.verdict == ACCEPTED and work.level >= <unsigned int>ALL_WAYS)):
        error = worker.error
        worker.error = NULL
        worker.log[0] = 0
        attempt(worker, source, place, STATISTICS | work.level, False, &ignored)
        if worker.log != NULL and worker.log[0]:
            finding.log = end_of(worker.log, work.keep)
        forget_call(worker, &worker.call)
        close_source(worker)
        if worker.error != NULL:
            drop(worker.error)      # it had nothing to say the first time
        worker.error = error
    add_finding(worker, finding)


cdef void refuse(Worker *worker, Source *source) noexcept nogil:
    """The object cannot even be opened."""
    cdef Finding *finding = make_finding(worker.work, source, NOWHERE)
    if finding != NULL:
        finding.verdict = REFUSED
        finding.code = -(source.code or worker.job.code)
        finding.said = source.problem
        source.problem = NULL
    if source.code == 0:
        if finding != NULL:
            take_words(worker, &worker.job.call, finding)
        close_source(worker)
    if finding != NULL:
        add_finding(worker, finding)


cdef bint wants(Worker *worker, libbpf.bpf_program *program) noexcept with gil:
    cdef Verification crew = <Verification>worker.work.crew
    try:
        if isinstance(crew.select, frozenset):
            return libbpf.bpf_program__name(program).decode("utf-8", "surrogateescape") in crew.select
        return bool(crew.select(make_program(<Handle>worker.handle, program)))
    except BaseException as error:
        if crew.failure is None:
            crew.failure = error
        cancel_work(worker.work, False)
        return False


cdef void look_into(Worker *worker, Source *source) noexcept nogil:
    """Learn what programs an object has, and do the first."""
    cdef Work *work = worker.work
    cdef libbpf.bpf_program *program
    cdef size_t total = 0
    cdef size_t place = 0
    if source.code == 0 and source.data == NULL:
        read_source(source)
    if source.code == 0 and work.shared != NULL:
        choose_types(work, source)
    if source.code or not open_source(worker, source):
        publish(work, source, 1)
        refuse(worker, source)
        end_program(work, source)
        return
    program = libbpf.bpf_object__next_program(worker.job.object, NULL)
    while program != NULL:
        total += 1
        program = libbpf.bpf_object__next_program(worker.job.object, program)
    source.chosen = <size_t *>malloc(max(total, <size_t>1) * sizeof(size_t))
    if source.chosen == NULL:
        cancel_work(work, True)
    else:
        source.chosen[0] = NOWHERE      # an object without programs is loaded for its maps
        program = libbpf.bpf_object__next_program(worker.job.object, NULL)
        while program != NULL:
            if not work.choosy or wants(worker, program):
                source.chosen[source.programs] = place
                source.programs += 1
            place += 1
            program = libbpf.bpf_object__next_program(worker.job.object, program)
    place = source.chosen[0] if source.chosen != NULL else NOWHERE
    publish(work, source, source.programs if total else 1)
    if source.chosen == NULL or (total and not source.programs):
        close_source(worker)
    else:
        verify_program(worker, source, place, True)
    end_program(work, source)


cdef void be_verifier(void *context, size_t place) noexcept nogil:
    """All that one worker does."""
    cdef Work *work = <Work *>context
    cdef Worker worker
    cdef Source *source = NULL
    cdef size_t program = 0
    memset(&worker, 0, sizeof(Worker))
    worker.work = work
    worker.place = place
    worker.handle = work.handles[place]
    if not make_room(&worker, max(<size_t>USUAL_LOG, work.keep + 1)):
        return
    while take(work, &source, &program):
        if program == NOWHERE:
            look_into(&worker, source)
        else:
            verify_program(&worker, source, program, False)
            end_program(work, source)
    free(worker.log)
    if worker.error != NULL:
        drop(worker.error)


# Whoever waits

@cython.final
cdef class Survey(Crew):
    """The first round."""


@cython.final
cdef class Verification(Crew):
    """The second one, and what both need."""

    cdef Work work
    cdef Request request            # with the options that all opens share
    cdef list labels
    cdef list sources               # what the Sources point to
    cdef list handles               # in use
    cdef SharedBtf shared
    cdef object select, hear, progress, failure
    cdef bint ending

    def __cinit__(self):
        pthread_mutex_init(&self.work.lock, NULL)
        pthread_cond_init(&self.work.news, NULL)

    def __dealloc__(self):
        cdef Finding *finding = next_finding(&self.work)
        cdef size_t at
        while finding != NULL:
            free_finding(finding)
            finding = next_finding(&self.work)
        if self.work.sources != NULL:
            for at in range(self.work.count):
                free_source(&self.work.sources[at])
        free_names(&self.work.names)
        free(self.work.sources)
        free(self.work.order)
        free(self.work.handles)
        pthread_cond_destroy(&self.work.news)
        pthread_mutex_destroy(&self.work.lock)

    cdef int note(self, int threads) except -1:
        """Put down what the workers need, in the form that C needs."""
        cdef Work *work = &self.work
        cdef const Rules *rules = self.request.handle.rules
        cdef Source *source
        cdef bytes path, data, name
        cdef size_t at = 0
        work.count = work.unknown = len(self.sources)
        work.sources = <Source *>calloc(work.count + 1, sizeof(Source))
        work.order = <size_t *>calloc(work.count + 1, sizeof(size_t))
        work.handles = <PyObject **>calloc(threads, sizeof(PyObject *))
        if work.sources == NULL or work.order == NULL or work.handles == NULL:
            raise MemoryError()
        for path, data, name in self.sources:
            source = &work.sources[at]
            if data is None:
                source.path = path
            else:
                source.data = data
                source.size = len(data)
            if name is not None:
                source.name = name
            at += 1
        work.opts = self.request.job.opts
        work.rules = rules
        work.choosy = work.python = self.select is not None
        for at in range(rules.count):
            if rules.records[at].python_setup or rules.records[at].python_prepare_load:
                work.python = True
        self.handles = [None if work.python else Handle.__new__(Handle) for _ in range(threads)]
        for at in range(<size_t>threads):
            work.handles[at] = NULL if work.python else <PyObject *>self.handles[at]
        work.toil = &self.toil
        work.signals = &self.signals
        work.blocked = &self.blocked
        work.crew = <PyObject *>self
        self.toil.work = be_verifier
        self.toil.context = work
        self.toil.count = threads
        self.toil.python = work.python
        return 0

    cdef int survey(self, int threads, bint sharing) except -1:
        cdef Work *work = &self.work
        cdef Survey crew = Survey.__new__(Survey)
        cdef size_t at
        crew.toil.work = survey_source
        crew.toil.context = work
        crew.toil.count = work.count
        crew.run(threads)
        if work.memory_gone:
            raise MemoryError()
        order = sorted(range(work.count), key=self.cost, reverse=True)
        for at in range(work.count):
            work.order[at] = order[at]
        if sharing and work.names.count:
            self.shared = share(&work.names)
            if self.shared is not None:
                work.shared = <PyObject *>self.shared
                work.btf = self.shared.path
        return 0

    def cost(self, size_t at):
        return self.work.sources[at].cost

    cdef void stop(self) noexcept nogil:
        Crew.stop(self)
        cancel_work(&self.work, False)

    cdef int listen(self) except -1:
        cdef Finding *finding = next_finding(&self.work)
        while finding != NULL:
            try:
                result = self.hear(*self.values(finding))
            finally:
                free_finding(finding)
            if self.progress is not None and not self.ending:
                self.progress(self.work.known + self.work.unknown, result)
            finding = next_finding(&self.work)
        if self.ending:
            return 0
        if self.failure is not None:
            raise self.failure
        if self.work.memory_gone:
            raise MemoryError()
        return 0

    cdef tuple values(self, Finding *finding):
        return (
            finding.source,
            None if finding.program == NOWHERE else finding.program,
            text_of(finding.name), text_of(finding.section), text_of(finding.type),
            VERDICTS[finding.verdict],
            finding.code, message_of(finding.code) if finding.code else "",
            finding.seconds, finding.insns, finding.xlated, finding.jited,
            text_of(finding.statistics), text_of(finding.log), text_of(finding.said),
            None if finding.error == NULL else <object>finding.error,
        )


cdef str text_of(const char *text):
    return "" if text == NULL else text.decode("utf-8", "replace")


def verify(list sources, hear, *, progress=None, threads=None, handlers=(), select=None, int log_level=1,
           size_t log_limit=1 << 14, bint share_kernel_btf=True, bint fixed_log=False, dict options={}):
    """Verify each program of each source by itself, or those that ``select`` wants: a frozenset of names, or a function
    that gets a Program.

    A source is (label, path, data, name), of which either path or data is None. ``hear`` is called with what was found
    about each program, on the calling thread, and also with what was found before an exception; ``progress(total,
    result)`` with what it returned, but then no more. ``fixed_log`` has the kernel keep the begin of a log, as it did
    before 6.4.
    """
    cdef int workers = thread_count(threads)
    cdef Verification crew = Verification.__new__(Verification)
    crew.request = Request(b"", handlers=handlers, **options)
    crew.labels = [source[0] for source in sources]
    crew.sources = [source[1:] for source in sources]
    crew.select = select
    crew.hear = hear
    crew.progress = progress
    crew.work.level = log_level
    crew.work.keep = log_limit
    crew.work.flags = FIXED if fixed_log else 0
    crew.note(workers)
    try:
        crew.survey(workers, share_kernel_btf and options.get("btf_custom_path") is None)
        crew.run(workers)
    finally:
        crew.ending = True
        crew.listen()
        crew.request = None
        reap()          # what nobody could remove while programs pointed there
