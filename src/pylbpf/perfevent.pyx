"""Perf events: opened for many CPUs or processes at once, counted, or sampled by a program."""
import errno as _errno

cimport cython
from libc.errno cimport errno
from libc.stdint cimport uint64_t
from libc.string cimport memset
from posix.unistd cimport close as close_fd, read as read_fd

from .attach cimport Attachable
from .errors cimport fail
from .handle cimport fork_generation
from .paths cimport number64_of, number_of

from .errors import StateError, error_class
from .linkset import LinkSet

cdef extern from *:
    """
    #include <sys/ioctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #include <linux/perf_event.h>

    static int pylbpf_perf_event_open(struct perf_event_attr *attr, int pid, int cpu)
    {
        return syscall(__NR_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    }
    """
    int perf_event_open "pylbpf_perf_event_open"(event_attr *attr, int pid, int cpu) nogil

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<linux/perf_event.h>" nogil:
    unsigned long PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_RESET
    uint64_t PERF_FORMAT_TOTAL_TIME_ENABLED, PERF_FORMAT_TOTAL_TIME_RUNNING

# enum perf_type_id
cdef enum:
    HARDWARE, SOFTWARE, TRACEPOINT, HW_CACHE, RAW

cdef dict EVENTS = {
    # enum perf_sw_ids
    **{name: (SOFTWARE, number) for number, name in enumerate((
        "cpu-clock", "task-clock", "page-faults", "context-switches", "cpu-migrations", "minor-faults", "major-faults",
        "alignment-faults", "emulation-faults", "dummy", "bpf-output", "cgroup-switches"))},
    # enum perf_hw_id
    **{name: (HARDWARE, number) for number, name in enumerate((
        "cpu-cycles", "instructions", "cache-references", "cache-misses", "branch-instructions", "branch-misses",
        "bus-cycles", "stalled-cycles-frontend", "stalled-cycles-backend", "ref-cycles"))},
    # enum perf_hw_cache_id, perf_hw_cache_op_id, perf_hw_cache_op_result_id: L1-dcache-load-misses
    **{f"{cache}-{operation}{result}": (HW_CACHE, which | what << 8 | how << 16)
       for which, cache in enumerate(("L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch", "node"))
       for what, operation in enumerate(("load", "store", "prefetch"))
       for how, result in enumerate(("s", "-misses"))},
}
EVENTS["cycles"] = EVENTS["cpu-cycles"]
EVENTS["branches"] = EVENTS["branch-instructions"]
EVENTS["faults"] = EVENTS["page-faults"]

cdef dict REASONS = {
    _errno.EACCES: "not allowed: it takes CAP_PERFMON, or a lower kernel.perf_event_paranoid",
    _errno.EPERM: "not allowed: it takes CAP_PERFMON, or a lower kernel.perf_event_paranoid",
    _errno.ENOENT: "this kernel or machine has no such event",
    _errno.EOPNOTSUPP: "this machine cannot sample it",
    _errno.ENODEV: "the CPU is offline, or has no such event",
    _errno.ESRCH: "no such process",
}


cdef list online_cpus():
    cdef list found = []
    with open("/sys/devices/system/cpu/online") as file:
        for part in file.read().split(","):
            first, _, last = part.strip().partition("-")
            found += range(int(first), int(last or first) + 1)
    return found


cdef tuple type_and_config(object event):
    """The two numbers that an event is known by in the kernel."""
    if isinstance(event, str):
        known = EVENTS.get(event)
        if known is None and event.startswith("r"):
            try:
                return RAW, number64_of(int(event[1:], 16), "the config of an event")
            except ValueError:
                pass
        if known is None:
            raise ValueError(f"no perf event has the name {event!r}: it is none of {', '.join(list(EVENTS)[:22])}, "
                             "an event of a cache as L1-dcache-load-misses, or r and a hexadecimal number")
        return known
    if not isinstance(event, tuple) or len(event) != 2:
        raise TypeError(f"event must be a name or a pair of numbers (type, config), not {event!r}")
    return number_of(event[0], "the type of an event"), number64_of(event[1], "the config of an event")


cdef list chosen(object given, str what, list default):
    if given is None:
        return default
    if isinstance(given, int):
        given = [given]
    cdef list found = [*given]
    for number in found:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{what} must be numbers, not {number!r}")
        if number < 0 or number > 0x7fffffff:
            raise ValueError(f"{what} cannot have {number}")
    if not found:
        raise ValueError(f"{what} is empty: there would be no event")
    return found


@cython.final
@cython.no_gc_clear     # the collector must not take the descriptors before they are closed
cdef class PerfEvent:
    """One kind of perf event, opened on CPUs, for processes, or both; close() or ``with`` closes it.

    ``event`` is a name of perf's (``cpu-clock``, ``page-faults``, ``cpu-cycles``, ``L1-dcache-load-misses``), ``r`` and a
    hexadecimal number, or a pair of numbers ``(type, config)`` of struct perf_event_attr. Without ``cpus`` and ``pids``
    there is one event for each CPU that is online; CPUs that come later have none. With ``cpus`` one for each of those;
    with ``pids`` (0: this thread) one for each process, on any CPU; with both, one for each pair. ``inherit`` includes
    children that they start later.

    With ``frequency``, in samples per second, or ``period``, in events per sample, it is for a program of the type
    PERF_EVENT, see attach(): it samples as long as one is attached. With neither, it counts from now on, see counts().
    ``exclude_kernel`` and ``exclude_user`` leave out what happens there; ``precise`` (0 to 3) asks the hardware for
    samples closer to the instruction.

    ``targets`` has for each event a pair (pid, cpu), where -1 stands for all. ``name`` is the event's. Links keep what
    they need: the PerfEvent may be closed before them. A forked child may only drop it. BpfError says what is
    missing where the kernel refuses. Source: perf_event_open(2), struct perf_event_attr.
    """

    cdef tuple numbers      # descriptors; not a list, which the collector empties
    cdef readonly str name
    cdef readonly tuple targets
    cdef bint sampling
    cdef unsigned int generation

    def __cinit__(self):
        self.numbers = ()
        self.targets = ()
        self.generation = fork_generation()

    def __init__(self, event="cpu-clock", *, frequency=None, period=None, cpus=None, pids=None, bint inherit=False,
                 bint exclude_kernel=False, bint exclude_user=False, precise=0):
        cdef event_attr attr
        cdef list fds = []
        cdef int fd, pid, cpu
        if self.targets:
            raise StateError(_errno.EINVAL, "the perf event is open already", None, str(self))
        if frequency is not None and period is not None:
            raise ValueError("give either a frequency or a period")
        for value, what in ((frequency, "frequency"), (period, "period")):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise TypeError(f"{what} must be a number, not {type(value).__name__}")
            if value is not None and value < 1:
                raise ValueError(f"{what} is 1 or more, not {value}")
            if value is not None:
                number64_of(value, what)
        if not 0 <= number_of(precise, "precise") <= 3:
            raise ValueError(f"precise is 0 to 3, not {precise}")
        memset(&attr, 0, sizeof(attr))
        attr.size = sizeof(attr)
        attr.type, attr.config = type_and_config(event)
        self.name = event if isinstance(event, str) else f"{event[0]}/{event[1]:#x}"
        self.sampling = frequency is not None or period is not None
        if frequency is not None:
            attr.freq = 1
            attr.sample_freq = frequency
        elif period is not None:
            attr.sample_period = period
        attr.disabled = self.sampling
        attr.inherit = inherit
        attr.exclude_kernel = exclude_kernel
        attr.exclude_user = exclude_user
        attr.precise_ip = precise
        attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING
        targets = [
            (process, place) for process in chosen(pids, "pids", [-1])
            for place in chosen(cpus, "cpus", online_cpus() if pids is None else [-1])]
        try:
            for pid, cpu in targets:
                with nogil:
                    fd = perf_event_open(&attr, pid, cpu)
                    if fd < 0:
                        fd = -errno
                if fd < 0:
                    self.refused(-fd, pid, cpu, frequency)
                fds.append(fd)
        except BaseException:
            for fd in fds:
                close_fd(fd)
            raise
        self.numbers = tuple(fds)
        self.targets = tuple(targets)

    cdef int refused(self, int code, int pid, int cpu, object frequency) except -1:
        where = ", ".join([f"CPU {cpu}"] * (cpu >= 0) + [f"process {pid}"] * (pid >= 0))
        reason = REASONS.get(code)
        if code == _errno.EINVAL and frequency is not None:
            with open("/proc/sys/kernel/perf_event_max_sample_rate") as file:
                limit = int(file.read())
            if frequency > limit:
                reason = f"the frequency is above kernel.perf_event_max_sample_rate, which is {limit}"
        if reason is None:
            fail(code, "open", f"perf event '{self.name}' on {where}")
        raise error_class(code)(code, reason, "open", f"perf event '{self.name}' on {where}")

    def __dealloc__(self):
        self.close_all()

    cdef void close_all(self) noexcept:
        cdef int fd
        for fd in self.numbers or ():
            close_fd(fd)
        self.numbers = ()

    def __repr__(self):
        if not self.numbers:
            return f"<PerfEvent: {self.name}, closed>"
        return f"<PerfEvent: {self.name}, {len(self.numbers)} events>"

    def __len__(self):
        """How many events there are; 0 after close()."""
        return len(self.numbers)

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *_):
        self.close()

    cdef int check(self) except -1:
        if not self.numbers:
            raise ValueError("the perf event is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child may only drop it", None,
                             f"perf event '{self.name}'")
        return 0

    @property
    def closed(self):
        """True after close()."""
        return not self.numbers

    @property
    def fds(self):
        """The descriptors, one for each of ``targets``. They stay the PerfEvent's. Source: perf_event_open()."""
        self.check()
        return self.numbers

    def close(self):
        """Close the descriptors; twice does nothing. Programs that are attached go on until their links are closed."""
        self.close_all()

    cdef int control(self, unsigned long request, str operation) except -1:
        cdef int fd
        self.check()
        for fd in self.numbers:
            if ioctl(fd, request, 0) < 0:
                fail(errno, operation, f"perf event '{self.name}'")
        return 0

    def enable(self):
        """Count, or sample, from now on. Source: PERF_EVENT_IOC_ENABLE of perf_event_open()."""
        self.control(PERF_EVENT_IOC_ENABLE, "enable")

    def disable(self):
        """Stop for a while. Source: PERF_EVENT_IOC_DISABLE of perf_event_open()."""
        self.control(PERF_EVENT_IOC_DISABLE, "disable")

    def reset(self):
        """Let the counts begin at 0 again, but not their times. Source: PERF_EVENT_IOC_RESET of perf_event_open()."""
        self.control(PERF_EVENT_IOC_RESET, "reset")

    def counts(self):
        """Return for each event a tuple of its count and of the nanoseconds for which it was enabled and counting.

        Where the last two differ, more events were open than the hardware can count at once: ``count * enabled /
        counting`` is an estimate. Source: PERF_FORMAT_TOTAL_TIME_ENABLED of perf_event_open().
        """
        cdef uint64_t values[3]
        cdef int fd
        cdef list found = []
        self.check()
        for fd in self.numbers:
            if read_fd(fd, values, sizeof(values)) != sizeof(values):
                fail(errno or _errno.EIO, "read", f"perf event '{self.name}'")
            found.append((values[0], values[1], values[2]))
        return found

    def attach(self, program, *, cookie=0):
        """Attach a program of the type PERF_EVENT to all events; return a LinkSet, one link for each of ``targets``.

        Sampling goes on as long as the links do. If one fails, those made before are closed and the error comes out.
        ValueError for an event without ``frequency`` or ``period``, which would never run it. The ``cookie`` is what
        bpf_get_attach_cookie() returns in the program, kernel 5.15. Source: bpf_program__attach_perf_event_opts().
        """
        cdef Py_ssize_t at
        cdef list links = []
        self.check()
        if not isinstance(program, Attachable):
            raise TypeError(f"program must be a Program, not {type(program).__name__}")
        if not self.sampling:
            raise ValueError(f"the perf event '{self.name}' only counts: open it with a frequency or a period")
        try:
            for at in range(len(self.targets)):
                self.check()        # attaching lets other threads run
                links.append(program.attach_perf_event(self.numbers[at], cookie=cookie))
        except BaseException:
            LinkSet(links).close()
            raise
        return LinkSet(links)
