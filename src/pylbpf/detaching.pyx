"""Many links released in one go: what sleeps in the kernel sleeps at the same time.

Releasing the link of a perf event on a tracepoint or a probe takes two sleeps of some 35 ms. The first one, after the
program has stopped firing, is for the link, and any number of threads can be in it at once. The second one is for the
perf event, one at a time in the whole kernel. A duplicate of the event's descriptor keeps the second from being part
of the first; closer has it closed behind everybody's back.

All other links gain nothing from threads, or lose: these are released by the calling thread, one after the other.
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
cimport cython
from libc.stdlib cimport calloc, free, malloc
from posix.time cimport clock_gettime, timespec
from posix.unistd cimport access, F_OK

from .c cimport libbpf
from .call cimport Call, clear, enter, keep_call, leave
from .closer cimport close_later, wait_closed
from .errors cimport finish_kept
from .expedite cimport begin_expedite, end_expedite
from .handle cimport Handle, enter_all, fork_generation, leave_place, release_all
from .link cimport (
    BARE_LINK, HIDDEN_EVENT, Kind, Link, NO_EVENT, PLAIN_LINK, destroy_link, program_on_event, programs_of_events,
)
from .workers cimport Crew, check_process, thread_count

from .errors import BpfError, StateError

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...)
    int F_DUPFD_CLOEXEC

cdef enum:
    # As many as may sleep at once: of 120 tracepoints on two processors the links take 4250 ms on one thread, 550 on
    # 8, 170 on 32 and 58 on 120.
    SLEEPERS = 128

cdef extern from "<time.h>" nogil:
    int CLOCK_MONOTONIC_COARSE

PATIENCE = 50000000


cdef long long now() noexcept nogil:
    """To the next tick, some milliseconds: asked after each link, an exact time would cost more than all else."""
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time)
    return time.tv_sec * 1000000000LL + time.tv_nsec


cdef struct Release:
    # One link. What is called here belongs to nobody else any more.
    PyObject *link          # borrowed
    libbpf.bpf_link *ptr
    Kind kind
    int event               # to be held, or NO_EVENT
    int held                # its duplicate
    int code
    Call *said              # what libbpf had to tell, or NULL


cdef void release(Release *each) noexcept nogil:
    cdef Call call
    enter(&call, NULL)
    # Without a descriptor to spare it takes a little longer.
    each.held = fcntl(each.event, F_DUPFD_CLOEXEC, <int>3) if each.event >= 0 else NO_EVENT
    each.code = destroy_link(each.ptr, each.kind)
    each.ptr = NULL
    leave(&call)
    each.said = keep_call(&call)


cdef void release_item(void *context, size_t item) noexcept nogil:
    release(&(<Release *>context)[item])


cdef size_t release_some(Release *releases, size_t at, size_t end) noexcept nogil:
    """Release those from `at` on until the time is up; return where to go on."""
    cdef long long until = now() + PATIENCE
    while at < end:
        release(&releases[at])
        at += 1
        if now() >= until:
            break
    return at


@cython.final
cdef class Detaching(Crew):
    """The links of one call: first those that are released in order, from `sleepers` on those that sleep together."""

    cdef Release *releases
    cdef size_t count, sleepers
    cdef list links             # keeps them
    cdef list entered           # objects whose locks are held: links of USDT and struct_ops share something with theirs
    cdef object on_progress
    cdef list failures          # exceptions, in order
    cdef bint hushed            # on_progress has raised
    cdef size_t done
    cdef int *hidden            # duplicates of events that libbpf opened
    cdef size_t hidden_count

    def __cinit__(self):
        self.entered = []
        self.failures = []
        self.toil.generation = fork_generation()

    def __dealloc__(self):
        cdef size_t at
        for at in range(self.count):
            if self.releases[at].said != NULL:
                clear(self.releases[at].said)
                free(self.releases[at].said)
        free(self.releases)
        free(self.hidden)

    cdef int take(self, list links) except -1:
        """Make the links ours: from here on nobody else releases them."""
        cdef Link link
        cdef list plain = []
        cdef list sleepers = []
        cdef list sharing = []
        cdef bint hiding = False
        self.links = links
        for link in links:
            if link.generation != fork_generation():
                link.release("close")
            elif link.ptr == NULL:
                pass
            elif link.kind == PLAIN_LINK and link.event != NO_EVENT:
                sleepers.append(link)
                hiding |= link.event == HIDDEN_EVENT
            else:
                plain.append(link)
                if link.kind != PLAIN_LINK and link.kind != BARE_LINK and link.handle is not None:
                    sharing.append(link.handle)
        self.releases = <Release *>calloc(len(plain) + len(sleepers) + 1, sizeof(Release))
        if self.releases == NULL:
            raise MemoryError()
        self.entered = enter_all(sharing, "close")
        if hiding:
            self.hold_hidden(sleepers)
        for link in plain:
            self.take_one(link)
        self.sleepers = self.count
        for link in sleepers:
            self.take_one(link)
        return 0

    cdef int take_one(self, Link link) except -1:
        cdef Release *each = &self.releases[self.count]
        if link.worker:
            try:
                link.wait_idle("close")
            except StateError as error:
                self.failures.append(error)
                return 0
        if link.ptr == NULL:        # another thread was faster
            return 0
        each.link = <PyObject *>link
        each.event = each.held = NO_EVENT
        # A program that hangs on the event without a link would go on firing while that is held.
        if link.event >= 0 and link.kind == PLAIN_LINK and link.event != libbpf.bpf_link__fd(link.ptr):
            each.event = link.event
        each.ptr = link.ptr
        each.kind = link.kind
        link.ptr = NULL
        self.count += 1
        leave_place(&link.place)
        return 0

    cdef int hold_hidden(self, list links) except -1:
        """Duplicate the events that libbpf opened: all that run the programs of these links."""
        cdef Link link
        cdef set programs = set()
        cdef set known = set()
        cdef list found
        cdef int held
        # Where the kernel has no such events libbpf writes probes to tracefs, which it can remove only when nobody
        # holds the event any more.
        if access(b"/sys/bus/event_source/devices/uprobe/type", F_OK) < 0:
            return 0
        for link in links:
            if link.ptr != NULL:
                if link.event == HIDDEN_EVENT:
                    programs.add(program_on_event(libbpf.bpf_link__fd(link.ptr)))
                else:
                    known.add(link.event)
        try:
            found = [event for program, events in programs_of_events().items() if program in programs
                     for event in events if event not in known]
        except OSError:     # without a descriptor to spare it takes a little longer
            return 0
        self.hidden = <int *>malloc((len(found) + 1) * sizeof(int))
        if self.hidden == NULL:
            return 0
        for event in found:
            held = fcntl(<int>event, F_DUPFD_CLOEXEC, <int>3)
            if held < 0:
                break
            self.hidden[self.hidden_count] = held
            self.hidden_count += 1
        return 0

    cdef void stop(self) noexcept nogil:
        """Whatever the caller is interrupted by, all links are released."""

    cdef int finish_item(self, size_t item) except -1:
        self.done += 1
        if self.on_progress is not None and not self.hushed:
            try:
                self.on_progress(self.done, self.count)
            except BaseException as error:
                self.hushed = True
                self.failures.append(error)     # the rest is released all the same
            self.check_forked()
        return 0

    cdef int check_forked(self) except -1:
        """Raise in a forked child, and let go of what is the parent's."""
        cdef size_t at
        if self.toil.generation != fork_generation():
            for at in range(self.count):
                self.releases[at].ptr = NULL
                self.releases[at].said = NULL
                self.releases[at].code = 0
                self.releases[at].held = NO_EVENT
            self.hidden_count = 0
        return check_process(self.toil.generation)

    cdef int release_all(self, int threads) except -1:
        """Raises nothing: what signal handlers and callbacks raise waits until all is released."""
        cdef size_t at = 0
        cdef size_t end
        while at < self.sleepers:
            end = self.sleepers if self.on_progress is None else at + 1
            with nogil:
                at = release_some(self.releases, at, end)
            try:
                PyErr_CheckSignals()
            except BaseException as error:
                self.failures.append(error)
            if self.on_progress is not None:
                try:
                    self.finish_item(at - 1)
                except StateError as error:
                    self.failures.insert(0, error)
                    return 0
        self.toil.work = release_item
        self.toil.context = self.releases + self.sleepers
        self.toil.count = self.count - self.sleepers
        try:
            self.run(threads)
        except BaseException as error:
            if self.forked():
                self.failures.insert(0, error)
                return 0
            self.failures.append(error)
        with nogil:
            for at in range(self.count):        # what there was no memory to have done by threads
                if self.releases[at].ptr != NULL:
                    release(&self.releases[at])
        return 0

    cdef unsigned long long close_events(self) except? 0:
        """Have the events closed that were held until now."""
        cdef int *events = <int *>malloc((self.count + 1) * sizeof(int))
        cdef size_t count = 0
        cdef size_t at
        cdef unsigned long long number = 0
        for at in range(self.count):
            if self.releases[at].held >= 0:
                if events != NULL:
                    events[count] = self.releases[at].held
                    count += 1
                else:
                    close_later(&self.releases[at].held, 1)
        if count:
            with nogil:
                number = close_later(events, count)
        free(events)
        if self.hidden_count:
            with nogil:
                number = close_later(self.hidden, self.hidden_count)
        return number

    cdef int conclude(self) except -1:
        """Raise the first of the failures, with the others as its `errors`."""
        cdef Release *each
        cdef size_t at
        for at in range(self.count):
            each = &self.releases[at]
            if each.code < 0 or (each.said != NULL and each.said.error != NULL):
                try:
                    finish_kept(each.said, each.code, "close", <object>each.link)
                except BaseException as error:
                    self.failures.append(error)
        if self.failures:
            if isinstance(self.failures[0], BpfError):
                self.failures[0].errors = tuple(self.failures[1:])
            raise self.failures[0]
        return 0


cdef unsigned long long detach(list links, object threads=None, bint wait=True, bint expedite=False,
                               object on_progress=None) except? 0:
    cdef Detaching work = Detaching.__new__(Detaching)
    cdef int most = SLEEPERS if threads is None else thread_count(threads)
    cdef unsigned long long number = 0
    work.on_progress = on_progress
    if expedite:
        begin_expedite()
    try:
        try:
            work.take(links)
        finally:
            work.release_all(most)
            release_all(work.entered)
            number = work.close_events()
        if wait:
            try:
                wait_closed(number)
            except BaseException as error:
                work.failures.append(error)
    finally:
        if expedite:
            end_expedite()
    work.conclude()
    return number


def detach_object(Handle handle):
    """Release all links of an object, the newest first."""
    detach(handle.open_links()[::-1])
