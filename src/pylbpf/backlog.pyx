"""What there is to verify, and what was found: shared by the workers of one call.

First all objects are read, to know which are costly and what types of the kernel they ask for. Then workers take the
next program of an object that was begun, before they begin another: so one object alone keeps all of them busy.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from .corebtf cimport add_names, covers, free_names, free_scan, pylbpf_scan, scan
from .handle cimport fork_generation
from .opening cimport Job, read_job
from .workers cimport tell

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, const void *attributes)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    int pthread_cond_broadcast(pthread_cond_t *condition)
    int pthread_cond_destroy(pthread_cond_t *condition)

cdef extern from "<string.h>" nogil:
    char *strdup(const char *text)

cdef enum:
    KEPT = 256 << 20            # bytes of objects in memory; others are read a second time


cdef void begin_work(Work *work) noexcept:
    work.generation = fork_generation()
    pthread_mutex_init(&work.lock, NULL)
    pthread_cond_init(&work.news, NULL)


cdef void free_work(Work *work) noexcept:
    cdef Finding *finding = next_finding(work)
    cdef size_t at
    while finding != NULL:
        free_finding(finding)
        finding = next_finding(work)
    if work.sources != NULL:
        for at in range(work.count):
            free_source(&work.sources[at])
    free_names(&work.names)
    free(work.sources)
    free(work.order)
    free(work.handles)
    pthread_cond_destroy(&work.news)
    pthread_mutex_destroy(&work.lock)


cdef bint forked(const Work *work) noexcept nogil:
    """In a child nobody else is at work, while a thread of its parent may have had the lock."""
    return work.generation != fork_generation()


cdef void lock(Work *work) noexcept nogil:
    if not forked(work):
        pthread_mutex_lock(&work.lock)


cdef void unlock(Work *work) noexcept nogil:
    if not forked(work):
        pthread_mutex_unlock(&work.lock)


# What is to be done

cdef bint take(Work *work, Source **source, size_t *program) noexcept nogil:
    """The next program; NO_PLACE with an object that nobody has looked into. False if nothing is left."""
    cdef bint found = False
    lock(work)
    while not (found or work.cancelled or forked(work)):
        if work.pile != NULL:
            source[0] = work.pile
            program[0] = work.pile.chosen[work.pile.begun]
            work.pile.begun += 1
            if work.pile.begun == work.pile.programs:
                work.pile = work.pile.below
            found = True
        elif work.next < work.count:
            source[0] = &work.sources[work.order[work.next]]
            program[0] = NO_PLACE
            work.next += 1
            work.looking += 1
            found = True
        elif work.looking:
            pthread_cond_wait(&work.news, &work.lock)
        else:
            break
    unlock(work)
    return found


cdef void publish(Work *work, Source *source, size_t known) noexcept nogil:
    """Its programs are known. Whoever looked does the first, others may take the rest."""
    lock(work)
    source.begun = 1
    if source.programs > 1:
        source.below = work.pile
        work.pile = source
    work.looking -= 1
    work.unknown -= 1
    work.known += known
    pthread_cond_broadcast(&work.news)
    unlock(work)


cdef void end_program(Work *work, Source *source) noexcept nogil:
    cdef bint last
    lock(work)
    source.ended += 1
    last = source.ended >= source.programs
    unlock(work)
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
    lock(work)
    work.cancelled = True
    work.memory_gone = work.memory_gone or memory_gone
    pthread_cond_broadcast(&work.news)
    unlock(work)


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
    lock(work)
    if found.plain == NULL and found.relocations and add_names(&work.names, &found) < 0:
        work.memory_gone = True
    if source.own != NULL:
        work.kept += source.size
    if source.own != NULL and work.kept > KEPT:
        work.kept -= source.size
        free_source(source)
    unlock(work)
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


cdef void add_finding(Work *work, Finding *finding) noexcept nogil:
    lock(work)
    if work.first == NULL:
        work.first = finding
    else:
        work.last.next = finding
    work.last = finding
    unlock(work)
    tell(work.toil)


cdef Finding *next_finding(Work *work) noexcept nogil:
    cdef Finding *finding
    lock(work)
    finding = work.first
    if finding != NULL:
        work.first = finding.next
    unlock(work)
    return finding


cdef void free_finding(Finding *finding) noexcept:
    free(finding.name)
    free(finding.section)
    free(finding.statistics)
    free(finding.log)
    free(finding.said)
    Py_XDECREF(finding.error)
    free(finding)
