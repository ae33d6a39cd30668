"""Every program of many objects verified: what each worker does, and who waits for them and passes on what was found.

The GIL is taken only for callbacks that are written in Python. Nothing stays loaded.
"""
from cpython.object cimport PyObject
cimport cython
from libc.errno cimport EMFILE, ENFILE, ENOMEM
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset, strstr

from .alone cimport (
    Worker, attempt, close_source, drop, end_of, forget_call, make_room, open_source, program_at, take_words,
)
from .backlog cimport (
    ACCEPTED, FAILED, Finding, NO_PLACE, REFUSED, REJECTED, Source, Verdict, Work, add_finding, begin_work, cancel_work,
    choose_types, end_program, free_finding, free_work, make_finding, next_finding, publish, read_source,
    survey_source, take,
)
from .c cimport bpf, libbpf, uapi
from .call cimport note_missing
from .corebtf cimport SharedBtf, share
from .errors cimport message_of
from .handle cimport CLOSED, Handle, Rules
from .opening cimport Request
from .overrides cimport reap
from .program cimport make_program
from .workers cimport Crew, check_process, thread_count

libbpf.pylbpf_on_missing = note_missing

cdef extern from "<string.h>" nogil:
    char *strdup(const char *text)

cdef extern from * nogil:
    """
    #include <stdlib.h>

    /* What malloc has to give back at once it will ask for again with the next open, page by page. glibc keeps as much
       as twice the largest block that it has given back so far. */
    static void pylbpf_keep_memory(void)
    {
        void *volatile block = malloc(16 << 20);

        free(block);
    }
    """
    void keep_memory "pylbpf_keep_memory"()

cdef enum:
    STATISTICS = 4              # BPF_LOG_STATS: what the verifier counted, and why it refused, but not its way
    WAY = 1                     # BPF_LOG_LEVEL1: the way to a failure
    ALL_WAYS = 2                # BPF_LOG_LEVEL2: every way, of an accepted program too
    FIXED = 8                   # BPF_LOG_FIXED
    USUAL_LOG = 64 << 10        # bytes; statistics take some hundred

VERDICTS = ("refused", "failed", "rejected", "accepted")

# How libbpf announces that the kernel did not take a program; what goes wrong later has other words.
cdef const char *NOT_LOADED = b"BPF program load failed"


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
    if not log[0] or code == -EMFILE or code == -ENFILE or code == -ENOMEM:    # which is not the verifier's word
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
    finding.error = worker.error
    worker.error = NULL
    add_finding(work, finding)


cdef void refuse(Worker *worker, Source *source) noexcept nogil:
    """The object cannot even be opened."""
    cdef Finding *finding = make_finding(worker.work, source, NO_PLACE)
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
        finding.error = worker.error
        worker.error = NULL
        add_finding(worker.work, finding)


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
        source.chosen[0] = NO_PLACE      # an object without programs is loaded for its maps
        program = libbpf.bpf_object__next_program(worker.job.object, NULL)
        while program != NULL:
            if not work.choosy or wants(worker, program):
                source.chosen[source.programs] = place
                source.programs += 1
            place += 1
            program = libbpf.bpf_object__next_program(worker.job.object, program)
    place = source.chosen[0] if source.chosen != NULL else NO_PLACE
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
        if program == NO_PLACE:
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
    cdef bint ending, abandoned

    def __cinit__(self):
        begin_work(&self.work)

    def __dealloc__(self):
        if not self.abandoned:
            free_work(&self.work)

    cdef void abandon(self) noexcept:
        """In a forked child: let go of what the threads were in the middle of in the parent."""
        cdef Handle handle
        self.abandoned = True
        for each in self.handles:
            if each is not None:
                handle = each
                handle.ptr = NULL
                handle.phase = CLOSED

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
        work.table = <PyObject *>self.request.handle.table
        work.labels = <PyObject *>self.labels
        work.holders = <PyObject *>self.handles
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
        costs = [work.sources[at].cost for at in range(work.count)]
        order = sorted(range(work.count), key=costs.__getitem__, reverse=True)
        for at in range(work.count):
            work.order[at] = order[at]
        if sharing and work.names.count:
            self.shared = share(&work.names)
            if self.shared is not None:
                work.shared = <PyObject *>self.shared
                work.btf = self.shared.path
        return 0

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
                check_process(self.toil.generation)
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
            None if finding.program == NO_PLACE else finding.program,
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
    keep_memory()
    try:
        crew.survey(workers, share_kernel_btf and options.get("btf_custom_path") is None)
        crew.run(workers)
    finally:
        crew.ending = True
        if crew.forked():
            crew.abandon()
        else:
            crew.listen()
        crew.request = None
        reap()          # what nobody could remove while programs pointed there
