"""Many objects opened and loaded in one call: the part of the thread that calls."""
import errno as _errno
import os as _os
from _collections_abc import Iterable as _Iterable

from cpython.object cimport PyObject
cimport cython
from libc.errno cimport EINVAL
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from .c cimport libbpf
from .call cimport clear, current, note_missing
from .corebtf cimport SharedBtf, add_names, free_names, free_scan, pylbpf_names, share
from .errors cimport finish
from .handle cimport CLOSED, Handle, OPENING, Record, phase_name
from .loading cimport Plan, Task, VIEWS_IN_USE, WRONG_PHASE, scan_item, work_on_item
from .object cimport Object, make_object
from .opening cimport Request, conclude_load
from .paths cimport is_path
from .registry cimport end_open
from .workers cimport Crew, callback, thread_count

from .errors import StateError, VerifierError, error_class
from .report import LoadReport, LoadResult

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    MOST_LOG = 1 << 30

cdef frozenset OPEN_OPTIONS = frozenset(["name", "pin_root_path", "kconfig", "btf_custom_path", "relaxed_maps", "token_path"])


@cython.final
cdef class Batch(Crew):
    """The items of one load_many()."""

    cdef Plan plan
    cdef list objects           # an Object for each item, given or in the making
    cdef list requests          # a Request for each, or None
    cdef list results
    cdef object select, on_progress
    cdef set found
    cdef SharedBtf shared
    cdef size_t *sequence

    def __cinit__(self):
        memset(&self.plan, 0, sizeof(Plan))

    def __dealloc__(self):
        cdef size_t at
        cdef Task *task
        if self.plan.tasks != NULL:
            for at in range(self.toil.count):
                task = &self.plan.tasks[at]
                free(task.programs)
                free(task.section)
                if task.scanned:
                    free_scan(&task.found)
                if task.begun:
                    clear(&task.call)
        free(self.plan.tasks)
        free(self.sequence)

    cdef int set_up(self, list requests, list objects, list results) except -1:
        cdef size_t at
        cdef Request request
        cdef Object object
        self.requests = requests
        self.objects = objects
        self.results = results
        self.toil.count = len(objects)
        self.plan.tasks = <Task *>calloc(self.toil.count + 1, sizeof(Task))
        self.sequence = <size_t *>malloc((self.toil.count + 1) * sizeof(size_t))
        if self.plan.tasks == NULL or self.sequence == NULL:
            raise MemoryError()
        for at in range(self.toil.count):
            object = objects[at]
            request = requests[at]
            self.sequence[at] = at
            self.plan.tasks[at].handle = <PyObject *>object.handle
            if request is not None:
                self.plan.tasks[at].job = &request.job
        self.plan.prepares = (libbpf.libbpf_major_version(), libbpf.libbpf_minor_version()) >= (1, 6)
        self.plan.signals = &self.signals
        self.plan.blocked = &self.blocked
        if self.select is not None:
            self.found = set()
            self.plan.select = <PyObject *>self.select
            self.plan.found = <PyObject *>self.found
        self.toil.python = True         # each load asks with the GIL whether somebody looks at what moves
        self.toil.order = self.sequence
        self.toil.work = work_on_item
        self.toil.context = &self.plan
        return 0

    cdef int finish_item(self, size_t item) except -1:
        result = self.conclude(item)
        if self.on_progress is not None:
            self.on_progress(self.told, self.toil.count, result)
        if result.error is not None and not isinstance(result.error, Exception):
            raise result.error      # KeyboardInterrupt or the like, out of a callback
        return 0

    cdef object conclude(self, size_t item):
        """Turn what a worker left into a result; an object of ours that failed is closed."""
        cdef Task *task = &self.plan.tasks[item]
        cdef Request request = self.requests[item]
        cdef Object object = self.objects[item]
        cdef Handle handle = object.handle
        result = self.results[item]
        result.open_seconds = task.open_time / 1e9
        result.load_seconds = task.load_time / 1e9
        if task.shares or task.plain != NULL:
            result.kernel_btf = "shared" if task.shares else "plain"
            result.kernel_btf_reason = None if task.shares else task.plain.decode()
        try:
            if request is not None:
                request.job.call.outer = current()
                request.conclude_open()
            self.conclude_load(task, handle, result)
        except BaseException as error:
            result.state = "failed"
            result.error = error
            if request is not None:
                self.give_up(object)
        else:
            result.state = "loaded"
            result.object = object
        return result

    cdef int conclude_load(self, Task *task, Handle handle, object result) except -1:
        if task.trouble == WRONG_PHASE:
            handle.check_alive()
            raise StateError(EINVAL, f"the object is {phase_name(task.phase)}, it must be open or prepared", "load", handle.name)
        if task.trouble == VIEWS_IN_USE:
            raise BufferError(f"cannot load {handle.name}: views of its instructions or maps are in use")
        if self.plan.prepares and task.prepare_time:
            result.prepare_seconds = task.prepare_time / 1e9
        if task.instructions:
            result.instructions = task.instructions
        if task.programs != NULL:
            result._programs = task.programs[:task.programs_size]
        if handle.phase == CLOSED:      # after the load, before we came to it
            clear(&task.call)
            handle.check_alive()
        task.call.outer = current()
        conclude_load(handle, &task.call, task.code, False)
        if handle.logs:
            result.log = "".join(handle.logs.values())
        try:
            finish(&task.call, task.code, "load", handle)
        except VerifierError as error:
            if task.section != NULL:
                error.section = task.section.decode("utf-8", "surrogateescape")
            raise
        return 0

    cdef int give_up(self, Object object) except -1:
        """Close an object that never got to the caller."""
        cdef Handle handle = object.handle
        if handle.phase == OPENING:         # not begun
            end_open(handle)
        if handle.exports or handle.mapped:
            return 0            # a callback has kept views, and they keep what they show
        return object.free_all()

    cdef int look_ahead(self, int threads, bint sharing, object order) except -1:
        """Before anything is opened: sort by cost, find out whether the descriptors suffice, make the small BTF."""
        cdef Crew crew
        if sharing or order == "cost":
            crew = Crew.__new__(Crew)
            crew.toil.work = scan_item
            crew.toil.context = &self.plan
            crew.toil.count = self.toil.count
            crew.run(threads)
            self.check_descriptors(threads)
        if order != "given":
            costs = self.costs(order)
            for at, item in enumerate(sorted(range(len(costs)), key=lambda item: -costs[item])):
                self.sequence[at] = item
        if sharing:
            self.share_btf()
        return 0

    cdef list costs(self, object order):
        cdef Task *task
        cdef size_t at
        cdef list costs = []
        if order != "cost":
            earlier = {key_of(result.source): result.open_seconds + result.load_seconds for result in order}
            # Of what is not known the worst is assumed.
            return [earlier.get(key_of(result.source), float("inf")) for result in self.results]
        for at in range(self.toil.count):
            task = &self.plan.tasks[at]
            cost = task.found.insns
            if task.job == NULL and not self.objects[at].closed:
                cost = sum([program.insn_count for program in self.objects[at].programs.values() if program.autoload])
            costs.append(cost)
        return costs

    cdef int check_descriptors(self, int threads) except -1:
        """Raise if the items can only fail for want of descriptors: each program and each map takes one."""
        import resource
        cdef Task *task
        cdef size_t at
        cdef size_t needed = 0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for at in range(self.toil.count):
            task = &self.plan.tasks[at]
            if task.scanned:
                needed += task.found.maps
                if self.select is None and not may_leave_out(<Handle>task.handle):
                    needed += task.found.programs
        try:
            used = len(_os.listdir("/proc/self/fd")) - 1    # without that of the listing
        except OSError:
            used = 3
        if soft == resource.RLIM_INFINITY or needed + used <= soft:
            return 0
        raise error_class(_errno.EMFILE)(
            _errno.EMFILE, f"they need {needed} descriptors or more beside the {used} in use, and the process may have {soft} "
            f"(RLIMIT_NOFILE; up to {hard} by resource.setrlimit()); load fewer, or select programs", "load",
            f"{self.toil.count} objects")

    cdef int share_btf(self) except -1:
        cdef pylbpf_names names
        cdef Task *task
        cdef size_t at
        cdef size_t users = 0
        memset(&names, 0, sizeof(names))
        try:
            for at in range(self.toil.count):
                task = &self.plan.tasks[at]
                if task.scanned and task.found.relocations and task.found.plain == NULL:
                    users += 1
                    if add_names(&names, &task.found) < 0:
                        raise MemoryError()
            if users > 1:       # for one alone it is as much work as the plain way
                self.shared = share(&names)
        finally:
            free_names(&names)
        if self.shared is not None:
            self.plan.shared = <PyObject *>self.shared
            self.plan.shared_path = self.shared.path
        return 0

    cdef object go(self, int threads, bint sharing, object order):
        """Run; return the report. If that raises, what was begun has an end, and nothing of ours is left open."""
        cdef size_t at
        try:
            self.look_ahead(threads, sharing, order)
            self.run(threads)
        except BaseException as error:
            if self.forked():
                self.abandon()
                raise
            for at in range(self.told, self.toil.ended):
                self.conclude(self.toil.finished[at])
            report = self.report()
            self.close_all()
            error.report = report
            raise
        return self.report()

    cdef void abandon(self) noexcept:
        """In a forked child: let go of what the threads were in the middle of in the parent."""
        cdef size_t at
        cdef Handle handle
        cdef set told = {self.toil.finished[at] for at in range(self.told)} if self.toil.finished != NULL else set()
        for at in range(self.toil.count):
            if at not in told:
                handle = (<Object>self.objects[at]).handle
                handle.ptr = NULL
                handle.phase = CLOSED
                memset(&self.plan.tasks[at], 0, sizeof(Task))
                if self.requests[at] is not None:
                    (<Request>self.requests[at]).job.own = NULL

    cdef object report(self):
        cdef size_t at
        cdef Object object
        for at in range(self.toil.count):
            if self.results[at].state == "cancelled" and self.requests[at] is not None:
                self.give_up(self.objects[at])
        unknown = ()
        if isinstance(self.select, frozenset):
            unknown = sorted(name.decode("utf-8", "surrogateescape") for name in self.select - self.found)
        return LoadReport(self.results, unknown)

    cdef int close_all(self) except -1:
        """Close what this call has loaded."""
        for result in reversed(self.results):
            if result.object is not None:
                result.object.close()
        return 0


cdef bint may_leave_out(Handle handle) noexcept:
    """Whether a handler may decide that programs are not loaded."""
    cdef const Record *record
    cdef size_t at
    if handle.rules != NULL:
        for at in range(handle.rules.count):
            record = handle.rules.records[at]
            # `prepares` is also true of handlers in Cython, whose setup is not known before it is called.
            if (record.autoload == 0 or record.python_setup or record.prepares
                    or (record.setup != NULL and not record.passes)):
                return True
    return False


cdef object key_of(object source):
    """What an item is known by in the report of another call."""
    return _os.fspath(source) if is_path(source) else source if isinstance(source, bytes) else id(source)


cdef list expand(object items):
    """The sources, with patterns replaced by the files that they match."""
    import glob
    cdef list sources = []
    if isinstance(items, (bytes, bytearray, memoryview, Object)) or is_path(items) or not isinstance(items, _Iterable):
        items = [items]
    for item in items:
        if isinstance(item, str) and glob.has_magic(item) and not _os.path.exists(item):
            # A pattern without match goes on as a path: opening it says that there is none.
            sources += sorted(glob.glob(item, recursive=True)) or [item]
        else:
            sources.append(item)
    return sources


cdef object selection(object select):
    if select is None or callable(select):
        return select
    if isinstance(select, str):
        select = [select]
    if not isinstance(select, _Iterable):
        raise TypeError(f"select must be a function or names of programs, not {select!r}")
    names = []
    for name in select:
        if not isinstance(name, str):
            raise TypeError(f"select must be a function or names of programs, not {name!r}")
        names.append(name.encode("utf-8", "surrogateescape"))
    return frozenset(names)


def load_many(items, *, threads=None, handlers=(), select=None, on_error="collect", on_progress=None, order="cost",
              log_level=0, log_limit=1 << 20, share_kernel_btf=True, **open_options):
    """Open and load many objects at once; return a LoadReport, with a LoadResult for each item in the order given.

    ``items`` are paths, patterns (as of glob, ``**`` too), bytes-like objects, or Objects that are open. The whole way
    of an item runs on a C thread, without the GIL but for callbacks that are written in Python.

    - ``threads``: how many, default one for each CPU that the process may use.
    - ``handlers`` and other options: as of open(), for all items.
    - ``select``: names of programs, or a function of a Program: autoload is set for these, and no others.
    - ``on_error``: with "collect" failures are in the report. "raise" begins nothing after the first failure and raises
      it; its attribute ``report`` has what was loaded until then. "rollback" does so too, but closes that first.
    - ``on_progress``: called as ``on_progress(done, total, result)`` after each item, on the calling thread.
    - ``order``: "cost" begins with what promises to take longest (most instructions), so that no long one is left for
      the end; a LoadReport of an earlier call does so by the times that were measured then; "given" keeps the order.
    - ``log_limit``: how many bytes of verifier logs are kept for an item; of more the middle is left out.
    - ``share_kernel_btf``: relocate all items against one small extract of the kernel's types, made once, instead of
      having libbpf read all of them anew for each. The result is the same, to the bit; what cannot be decided by an
      extract takes the plain way, see LoadResult.kernel_btf.

    Raises BpfError (EMFILE) before anything is begun if the items need more descriptors than the process may have. If a
    signal handler (Ctrl-C) or on_progress raises, no further item is begun, those that run are waited for, all objects
    that the call has loaded are closed, and the exception comes out, with the report so far as ``report``.
    Source: bpf_object__open_mem(), bpf_object__load().
    """
    cdef Batch batch
    cdef list requests = []
    cdef list objects = []
    cdef list results = []
    cdef set given = set()
    cdef Request request
    cdef Handle handle
    cdef int workers = thread_count(threads)
    if on_error not in ("collect", "raise", "rollback"):
        raise ValueError(f"on_error must be 'collect', 'raise' or 'rollback', not {on_error!r}")
    callback(on_progress, "on_progress")
    if not isinstance(order, LoadReport) and (not isinstance(order, str) or order not in ("cost", "given")):
        raise ValueError(f"order must be 'cost', 'given' or a LoadReport, not {order!r}")
    if isinstance(log_limit, bool) or not isinstance(log_limit, int):
        raise TypeError(f"log_limit must be a number of bytes, not {type(log_limit).__name__}")
    if not 0 <= log_limit <= <Py_ssize_t>MOST_LOG:
        raise ValueError(f"log_limit must be 0 to {<Py_ssize_t>MOST_LOG} bytes, not {log_limit}")
    for option in open_options:
        if option not in OPEN_OPTIONS:
            raise TypeError(f"load_many() got an unexpected keyword argument {option!r}")
    select = selection(select)
    if isinstance(handlers, _Iterable):
        handlers = tuple(handlers)      # once for all items
    for source in expand(items):
        if isinstance(source, Object):
            if source in given:
                raise ValueError(f"{source!r} is given twice")
            given.add(source)
            handle = (<Object>source).handle
            if handle.inside():         # a worker would wait for ever
                raise StateError(_errno.EBUSY, "called from inside a callback of the same object", "load", handle.name)
            requests.append(None)
            objects.append(source)
        else:
            request = Request(source, handlers=handlers, log_level=log_level, **open_options)
            requests.append(request)
            objects.append(make_object(request))
        results.append(LoadResult(source, str((<Object>objects[-1]).handle)))
    batch = Batch.__new__(Batch)
    batch.select = select
    batch.on_progress = on_progress
    if on_error != "collect":
        batch.plan.cancelled = &batch.toil.cancelled
    batch.plan.log_limit = log_limit
    batch.set_up(requests, objects, results)
    report = batch.go(workers, share_kernel_btf and open_options.get("btf_custom_path") is None, order)
    if on_error != "collect" and report.errors:
        if on_error == "rollback":
            batch.close_all()
        error = report.errors[0]
        error.report = report
        raise error
    return report
