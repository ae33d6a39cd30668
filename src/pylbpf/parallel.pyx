"""One object loaded by several threads, in parts; what comes of it is what a plain load would have made.

The object itself makes the maps, and loads the programs that it cannot give away. The others are dealt out to parts.
At the end Handle.target() leads from a program to the one that was loaded for it.
"""
import errno as _errno
import os as _os

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from libc.errno cimport errno
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, strcmp, strlen
from posix.fcntl cimport O_CLOEXEC, O_RDWR, open as open_fd
from posix.unistd cimport F_OK, access, close

from .c cimport btf, libbpf, uapi
from .call cimport Call, Stand, Verdict, add_line, clear, enter, keep_error, leave
from .corebtf cimport covers, free_scan, pylbpf_scan, scan, share
from .elf cimport hide_slots, slot
from .errors cimport fail
from .handle cimport Binding, Handle, OPEN, PREPARED
from .object cimport Object
from .opening cimport Job, Request, begin_load, conclude_load, load_object, read_job
from .overrides cimport overridden, reap, start_pointing, stop_pointing
from .part cimport Part, Plan, Share, empty, failing, load_own, load_part, place_of
from .paths cimport is_of_kind
from .workers cimport Crew

from .errors import StateError

cdef extern from "<errno.h>" nogil:
    int ECANCELED

cdef enum:
    PIECES = 12             # parts for each thread at most: who is done early takes another one,
    SMALLEST = 32           # that is smaller, down to this fraction of a thread's work,
    MANY_SECTIONS = 128     # if opening them is cheap, as it is below so many: libbpf's time grows with the square
    # enum bpf_map_type
    STRUCT_OPS = 26
    ARENA = 33
    # enum bpf_prog_type
    KPROBE = 2
    SCHED_CLS = 3
    XDP = 6
    TRACING = 26
    EXT = 28
    LSM = 29

cdef size_t NEVER = <size_t>-1


cdef bint is_whole(Handle handle) except -1:
    """Whether several threads cannot load it as one would: it is prepared, or has maps that cannot be shared."""
    cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(handle.ptr, NULL)
    cdef int type
    handle.require(1 << OPEN | 1 << PREPARED, "load")
    if handle.phase == PREPARED:
        return True
    while map != NULL:
        # Programs are part of struct_ops maps, and the address of an arena is of one object.
        type = <int>libbpf.bpf_map__type(map)
        if type == STRUCT_OPS or type == ARENA or libbpf.bpf_map__exclusive_program(map) != NULL:
            if libbpf.bpf_map__autocreate(map):
                return True
        map = libbpf.bpf_object__next_map(handle.ptr, map)
    return False


cdef bint has_several(Handle handle) noexcept:
    """Whether more than one program is to be loaded."""
    cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(handle.ptr, NULL)
    cdef size_t count = 0
    while program != NULL and count < 2:
        count += libbpf.bpf_program__autoload(program)
        program = libbpf.bpf_object__next_program(handle.ptr, program)
    return count == 2


def load_parts(Object object not None, int threads):
    """Object.load() by several threads; return whether it was done, for if it gains nothing it is left to a plain load."""
    cdef Handle handle = object.handle
    cdef Parallel parallel
    cdef Call call
    cdef int code
    handle.acquire("load")
    try:
        parallel = divide(handle, object.source, object.options, threads)
        if parallel is None:
            return False
        begin_load(handle, "load", False)
        enter(&call, <PyObject *>handle)
        call.verbose = handle.verbose
        code = parallel.load(&call)
        conclude_load(handle, &call, code, False)
    finally:
        handle.release()
    object.finish_run(&call, code, "load")
    return True


cdef Parallel divide(Handle handle, object source, dict options, int threads):
    """Deal out the programs of an object that is locked; None if that gains nothing, and a plain load does the same."""
    cdef Parallel parallel
    if is_whole(handle) or not has_several(handle):
        return None         # also without its file
    parallel = Parallel.__new__(Parallel)
    parallel.handle = handle
    parallel.threads = threads
    name = options["name"]
    if name is None and isinstance(source, bytes):
        name = libbpf.bpf_object__name(handle.ptr).decode("utf-8", "surrogateescape")
    parallel.request = Request(source, **{**options, "name": name, "handlers": ()})
    with nogil:
        read_job(&parallel.request.job)
    if parallel.request.job.code < 0:
        parallel.request.conclude_open()
    if parallel.request.job.checksum != handle.checksum:
        raise StateError(_errno.ESTALE, "the file has changed since it was opened: reopen(), or load it without threads",
                         "load", handle.name)
    with nogil:
        start_pointing()
    parallel.pointing = True
    parallel.choose()
    if parallel.given < 2:
        return None
    if options["btf_custom_path"] is None:
        parallel.share_types()
    parallel.parts = parallel.number()
    if parallel.parts < 2:
        return None
    parallel.deal()
    parallel.note_reused()
    return parallel


cdef int by_weight(const void *one, const void *other) noexcept nogil:
    """The heaviest first; weight 0 is what the object keeps."""
    cdef const Share *left = <const Share *>one
    cdef const Share *right = <const Share *>other
    if left.weight != right.weight:
        return -1 if left.weight > right.weight else 1
    return -1 if left.place < right.place else 1


cdef int by_part(const void *one, const void *other) noexcept nogil:
    cdef const Share *left = <const Share *>one
    cdef const Share *right = <const Share *>other
    if left.part != right.part:
        return -1 if left.part < right.part else 1
    return -1 if left.place < right.place else 1


cdef int hide(Job *job) except -1:
    """Hide all slots from the parts: libbpf would fill them again, with programs that are not there."""
    if job.own == NULL:
        job.own = <unsigned char *>malloc(job.size)
        if job.own == NULL:
            raise MemoryError()
        memcpy(job.own, job.data, job.size)
        job.data = job.own
    hide_slots(job.own, job.size)
    return 0


cdef class Parallel(Crew):
    def __init__(self):
        raise TypeError("made by Object.load()")

    def __cinit__(self):
        self.null = -1
        self.reused = set()
        self.kept = []

    def __dealloc__(self):
        cdef size_t at
        if self.plan.parts != NULL:
            for at in range(self.parts + 1):
                clear(&self.plan.parts[at].call)
        free(self.plan.parts)
        free(self.shares)
        free(self.stands)
        free(self.all_stands)
        free(self.objects)
        if self.null >= 0:
            close(self.null)
        if self.pointing:
            stop_pointing()
            reap()

    # Who loads what

    cdef int choose(self) except -1:
        """Make a share of each program to be loaded, with a weight if it can be given away."""
        cdef Job *job = &self.request.job
        cdef libbpf.bpf_object *object = self.handle.ptr
        cdef libbpf.bpf_program *program
        cdef bint usdt = libbpf.bpf_object__find_map_by_name(object, b"__bpf_usdt_specs") != NULL
        cdef set slots = set()
        cdef size_t place = 0
        cdef size_t sections = 0
        cdef const char *section = b""
        cdef const char *name = slot(job.data, job.size, 0)
        cdef Share *share
        while name != NULL:
            slots.add(<bytes>name)
            place += 1
            name = slot(job.data, job.size, place)
        if slots:
            hide(job)
        place = 0
        program = libbpf.bpf_object__next_program(object, NULL)
        while program != NULL:
            place += 1
            if strcmp(section, libbpf.bpf_program__section_name(program)) != 0:
                section = libbpf.bpf_program__section_name(program)
                sections += 1
            program = libbpf.bpf_object__next_program(object, program)
        self.dear = sections > MANY_SECTIONS or self.types_are_read()
        self.shares = <Share *>calloc(place + 1, sizeof(Share))
        if self.shares == NULL:
            raise MemoryError()
        place = 0
        program = libbpf.bpf_object__next_program(object, NULL)
        while program != NULL:
            if libbpf.bpf_program__autoload(program):
                share = &self.shares[self.count]
                share.own = program
                share.place = place
                if not self.stays(program, slots, usdt):
                    share.weight = libbpf.bpf_program__insn_cnt(program) + 1
                    self.dear = self.dear or <int>libbpf.bpf_program__type(program) in (TRACING, LSM, EXT)
                    self.remember(share)
                    self.given += 1
                self.count += 1
            place += 1
            program = libbpf.bpf_object__next_program(object, program)
        return 0

    cdef bint stays(self, libbpf.bpf_program *program, set slots, bint usdt) except -1:
        """Whether only the object itself can load a program."""
        cdef const Binding *binding = self.handle.binding_of(program)
        cdef int type = <int>libbpf.bpf_program__type(program)
        if slots and <bytes>libbpf.bpf_program__name(program) in slots:
            return True         # libbpf fills the slot at the end of the object's load
        if usdt and type == KPROBE:
            return True         # an object numbers its USDT probes, in maps
        if binding == NULL or binding.record == NULL or not binding.record.override:
            if overridden(libbpf.bpf_program__section_name(program)):
                return True     # by a handler that came after the open: libbpf would send the part's program there
        if binding == NULL:
            return False
        # What C code sets may be what libbpf does not tell: targets of these, devices of those.
        return binding.record == NULL or (
            binding.native and type in (TRACING, LSM, EXT, XDP, SCHED_CLS))

    cdef int remember(self, Share *share) except -1:
        """Note what libbpf does not tell of a program."""
        cdef Handle handle = self.handle
        cdef bytes target
        share.record = handle.record_of(share.own)
        if handle.ifindexes is None and handle.targets is None and handle.retyped is None:
            return 0
        name = libbpf.bpf_program__name(share.own).decode("utf-8", "surrogateescape")
        share.retyped = name in (handle.retyped or ())
        share.ifindex = (handle.ifindexes or {}).get(name, 0)
        target, share.target_fd = (handle.targets or {}).get(name, (None, 0))
        if target is not None:
            self.kept.append(target)
            share.target = target
        return 0

    cdef bint types_are_read(self) except -1:
        """Whether each open reads the kernel's symbols, its configuration or all of its types."""
        cdef btf.btf *types = libbpf.bpf_object__btf(self.handle.ptr)
        if types == NULL:
            return False
        return (btf.btf__find_by_name_kind(types, b".ksyms", uapi.BTF_KIND_DATASEC) > 0 or
                btf.btf__find_by_name_kind(types, b".kconfig", uapi.BTF_KIND_DATASEC) > 0)

    cdef int share_types(self) except -1:
        """Spare each part the reading of all the kernel's types, if a few of them do."""
        cdef Job *job = &self.request.job
        cdef pylbpf_scan found
        with nogil:
            scan(job.data, job.size, &found)
        try:
            if found.relocations:
                if found.plain == NULL:
                    self.types = share(&found.names)
                if self.types is not None and covers(self.types, &found):
                    job.opts.btf_custom_path = self.types.path
                else:
                    self.dear = True
        finally:
            free_scan(&found)
        return 0

    cdef size_t number(self) except? 0:
        """How many parts: one for each thread, or several; no more than there are descriptors for."""
        import resource
        cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(self.handle.ptr, NULL)
        cdef size_t maps = 0
        while map != NULL:
            maps += 1
            map = libbpf.bpf_object__next_map(self.handle.ptr, map)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            limit = 1 << 30
        spare = max(0, limit - len(_os.listdir("/proc/self/fd")) - self.count - maps - 64)
        return min(self.given, <size_t>(self.threads * (1 if self.dear else PIECES)), <size_t>(spare // (maps + 4)))

    cdef void deal_evenly(self, size_t *weights) noexcept:
        """Give each part about as many instructions."""
        cdef size_t at, number, least
        for at in range(self.given):
            least = 0
            for number in range(1, self.parts):
                if weights[number] < weights[least]:
                    least = number
            self.shares[at].part = least
            weights[least] += self.shares[at].weight

    cdef void deal_less_and_less(self) noexcept:
        """Give each part less than the one before: all threads come to an end at about the same time, whatever they are
        held up by and however well instructions tell the time that the verifier takes."""
        cdef size_t total = 0
        cdef size_t at = 0
        cdef size_t number = 0
        cdef size_t weight, wanted, left
        for at in range(self.given):
            total += self.shares[at].weight
        left = total
        at = 0
        while at < self.given:
            wanted = max(left // (2 * self.threads), total // (SMALLEST * self.threads)) if number + 1 < self.parts else left
            weight = 0
            while at < self.given and (weight == 0 or weight + self.shares[at].weight <= wanted):
                weight += self.shares[at].weight
                self.shares[at].part = number
                at += 1
            left -= weight
            number += 1
        self.parts = number

    cdef int deal(self) except -1:
        """Decide which part loads which program: first come those with most instructions."""
        cdef size_t *weights = <size_t *>calloc(self.parts, sizeof(size_t))
        cdef Part *part
        cdef size_t at, number
        cdef size_t given = 0
        self.plan.parts = <Part *>calloc(self.parts + 1, sizeof(Part))
        self.objects = <libbpf.bpf_object **>calloc(self.parts, sizeof(void *))
        self.stands = <Stand *>calloc(self.given, sizeof(Stand))
        self.all_stands = <Stand *>calloc(self.given, sizeof(Stand))
        if weights == NULL or self.plan.parts == NULL or self.objects == NULL or self.stands == NULL or self.all_stands == NULL:
            free(weights)
            raise MemoryError()
        for at in range(self.count):
            if self.shares[at].weight:
                self.all_stands[given].own = self.shares[at].own
                given += 1
        qsort(self.shares, self.count, sizeof(Share), by_weight)
        if self.parts < min(self.given, <size_t>(self.threads * PIECES)):
            self.deal_evenly(weights)
        else:
            self.deal_less_and_less()
        free(weights)
        for at in range(self.given, self.count):
            self.shares[at].part = self.parts
        qsort(self.shares, self.count, sizeof(Share), by_part)
        at = 0
        for number in range(self.parts + 1):
            part = &self.plan.parts[number]
            part.shares = &self.shares[at]
            part.stands = &self.stands[at] if number < self.parts else NULL
            while at < self.count and self.shares[at].part == number:
                at += 1
                part.count += 1
        self.plan.parts[self.parts].object = self.handle.ptr
        return 0

    cdef int note_reused(self) except -1:
        """Which maps are there already: a load that fails leaves their pins alone."""
        cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(self.handle.ptr, NULL)
        cdef const char *path
        cdef int fd
        while map != NULL:
            path = libbpf.bpf_map__pin_path(map)
            fd = libbpf.bpf_map__fd(map)
            if (path != NULL and access(path, F_OK) == 0) or (fd >= 0 and is_of_kind(fd, "bpf-map")):
                self.reused.add(<size_t>map)
            map = libbpf.bpf_object__next_map(self.handle.ptr, map)
        self.null = open_fd(b"/dev/null", O_RDWR | O_CLOEXEC)
        if self.null < 0:
            fail(errno, "open", "/dev/null")
        return 0

    # The load

    cdef int load(self, Call *call) except? -1:
        """As load_object() in this call, which is over afterwards."""
        cdef Handle handle = self.handle
        cdef Part *own = &self.plan.parts[self.parts]
        cdef Part *failed
        cdef size_t place, at
        cdef bint late
        cdef int code
        handle.stands, self.all_stands = self.all_stands, NULL
        handle.stand_count = self.given
        for at in range(self.given):
            libbpf.bpf_program__set_autoload(handle.stands[at].own, False)
        self.plan.handle = call.handle
        self.plan.object = handle.ptr
        self.plan.job = &self.request.job
        self.plan.failed = NEVER
        self.plan.verbose = call.verbose
        self.plan.signals = &self.signals
        self.plan.blocked = &self.blocked
        # Programs that the object keeps are loaded after the others where that is possible: of several that fail the
        # first one is to be reported.
        late = (self.given < self.count
                and (libbpf.libbpf_major_version(), libbpf.libbpf_minor_version()) >= (1, 6))
        with nogil:
            code = load_object(handle.ptr, call, late)
        leave(call)
        if code < 0:
            return code
        self.toil.work = load_part
        self.toil.context = &self.plan
        self.toil.count = self.parts
        self.toil.python = handle.bound > 0
        handle.parallel = True
        try:
            PyErr_CheckSignals()
            self.run(self.threads)
        except BaseException as error:
            keep_error(call, error)
            code = -ECANCELED
        handle.parallel = False
        self.install()
        failed = self.earliest(&place)
        if code >= 0 and late and own.shares[0].place < place:
            with nogil:
                load_own(&self.plan, own)
            failed = self.earliest(&place)
        self.report(call, failed, place)
        if code >= 0 and failed != NULL:
            code = failed.code
        if code < 0:
            self.give_up()
        return code

    cdef void install(self) noexcept:
        """Give the handle its parts, and lead its programs there."""
        cdef Handle handle = self.handle
        cdef Part *part
        cdef size_t number, at
        handle.parts, self.objects = self.objects, NULL
        for number in range(self.parts):
            part = &self.plan.parts[number]
            if part.object != NULL:
                handle.parts[handle.part_count] = part.object
                handle.part_count += 1
            for at in range(part.count):
                handle.stand_of(part.shares[at].own).part = part.stands[at].part

    cdef Part *earliest(self, size_t *place) noexcept:
        """The part whose failure a plain load would have met first, and the place of the program; NULL and NEVER."""
        cdef Part *found = NULL
        cdef Part *part
        cdef bint found_before, before
        cdef size_t number, at
        place[0] = NEVER
        for number in range(self.parts + 1):
            part = &self.plan.parts[number]
            if part.begun and part.code < 0:
                at = failing(part, &before)
                if found == NULL or (before and not found_before) or (before == found_before and at < place[0]):
                    found, found_before, place[0] = part, before, at
        return found

    cdef void report(self, Call *call, Part *failed, size_t place) noexcept:
        """Bring together in one call what its parts have said, up to the failure that is reported."""
        cdef Part *own = &self.plan.parts[self.parts]
        cdef Part *part
        cdef size_t number
        if call.verdicts != NULL:
            own.call.verdicts, own.call.last = call.verdicts, call.last
            call.verdicts = call.last = NULL
        for number in range(self.parts + 1):
            part = &self.plan.parts[number]
            if part != failed:
                take_verdicts(call, part, place, False)
            if part.code >= 0 and call.error == NULL:
                # A listener's, as there was no failure.
                call.error, part.call.error = part.call.error, NULL
        if failed == NULL:
            return
        take_verdicts(call, failed, place, True)
        if failed.call.lines != NULL:
            add_line(call, failed.call.lines, failed.call.length)
        if call.error == NULL:
            call.error, failed.call.error = failed.call.error, NULL
        call.missing, call.since = failed.call.missing, failed.call.since

    cdef void give_up(self) noexcept:
        """What libbpf does when a load has failed, for an object and parts that it has loaded."""
        cdef Handle handle = self.handle
        cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(handle.ptr, NULL)
        cdef size_t at
        while map != NULL:
            if libbpf.bpf_map__is_pinned(map) and <size_t>map not in self.reused:
                libbpf.bpf_map__unpin(map, NULL)
            map = libbpf.bpf_object__next_map(handle.ptr, map)
        with nogil:
            for at in range(handle.part_count):
                empty(handle.parts[at], self.null)
            empty(handle.ptr, self.null)


cdef void take_verdicts(Call *call, Part *part, size_t place, bint rejected) noexcept:
    """Move a part's verdicts on programs before a place to a call, and the one that rejects."""
    cdef Verdict *verdict = part.call.verdicts
    cdef Verdict *following
    part.call.verdicts = part.call.last = NULL
    while verdict != NULL:
        following = verdict.next
        if (rejected if verdict.rejected else place_of(part, verdict.program, strlen(verdict.program)) < place):
            verdict.next = NULL
            if call.last == NULL:
                call.verdicts = verdict
            else:
                call.last.next = verdict
            call.last = verdict
        else:
            verdict.next = part.call.verdicts
            part.call.verdicts = verdict
        verdict = following
