"""Objects: opened, prepared, loaded, attached, closed."""
import errno as _errno
import sys as _sys
from _weakref import ref as _ref

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
cimport cython

from .c cimport libbpf
from .call cimport Call, enter, leave, note_missing
from .errors cimport finish, need
from .handle cimport CLOSED, Handle, LOADED, OPEN, PREPARED, fork_generation, leave_place
from .link cimport Link, close_links, free_links
from .opening cimport Request, begin_load, conclude_load, load_object, open_job, read_job
from .paths cimport number_of
from .targets cimport duplicate_fd
from .workers cimport thread_count

from .contents import Programs
from .errors import StateError, VerifierError

libbpf.pylbpf_on_missing = note_missing


@cython.final
cdef class Object:
    """A BPF object: its programs and maps, from open to close.

    ``state`` goes OPEN → (PREPARED) → LOADED → CLOSED; a prepare or load that fails ends in FAILED, where names and
    logs can still be read. The wrong phase is a StateError. Programs, maps and links keep what they need alive, so
    dropping an Object is never dangerous; closing it, or leaving its ``with`` block, destroys its links, then its
    ring buffers, then programs and maps. One thread at a time works in an object, others wait; calls on the same
    object from inside a callback raise StateError, but for setters and attach methods.
    Source: struct bpf_object of libbpf.
    """

    def __init__(self):
        raise TypeError("objects are made by pylbpf.open()")

    def __repr__(self):
        if not self.handle.usable():
            return f"<Object: {self.handle.name}, closed>"
        return f"<Object: {self.handle.name}, {self.state.name}>"

    def __enter__(self):
        self.handle.check_alive()
        return self

    def __exit__(self, kind=None, value=None, traceback=None):
        try:
            self.close()
        except BufferError:
            # What is on its way matters more, and its frames may hold the view: with them the rest ends.
            if kind is None:
                raise
            self.handle.acquire("close")
            try:
                close_links(self.handle)
            finally:
                self.handle.release()

    @property
    def name(self):
        """The object's name in libbpf: of the file up to the first dot, or as given. Source: bpf_object__name()."""
        return libbpf.bpf_object__name(self.handle.live()).decode("utf-8", "surrogateescape")

    @property
    def state(self):
        """A State."""
        from .enums import State
        return State(<int>self.handle.now())

    @property
    def closed(self):
        """True after close()."""
        return self.handle.phase == CLOSED

    @property
    def programs(self):
        """A mapping of name to Program, in the order of the file; wrappers are made when asked for."""
        self.handle.live()
        return Programs(self.handle)

    @property
    def maps(self):
        """A mapping of name to Map, in the order of the file; wrappers are made when asked for."""
        self.handle.live()
        from .maps import Maps
        return Maps(self.handle)

    @property
    def links(self):
        """A LinkSet of what attach() made and nobody closed."""
        from .linkset import LinkSet
        self.handle.check_alive()
        return LinkSet([link for link in self.attached or () if not link.closed])

    @property
    def btf(self):
        """The object's types as Btf, or None if it has none. Source: bpf_object__btf()."""
        from .btf import btf_of
        return btf_of(self.handle)

    @property
    def globals(self):
        """Global variables by name, as Globals: ``obj.globals.rate = 5``. ValueError for an object without BTF.

        Source: bpf_map__initial_value().
        """
        if self.variables is None:
            from .variables import make_globals
            self.variables = make_globals(self)
        return self.variables

    @property
    def kernel_version(self):
        """LINUX_VERSION_CODE given to kernels before 5.0; set it before load. Source: bpf_object__kversion()."""
        return libbpf.bpf_object__kversion(self.handle.live())

    @kernel_version.setter
    def kernel_version(self, value):
        cdef unsigned int number = number_of(value, "kernel_version")
        cdef Handle handle = self.handle
        cdef Call call
        cdef int code
        handle.acquire("set kernel_version of")
        try:
            handle.require(1 << OPEN | 1 << PREPARED, "set kernel_version of")
            code = libbpf.bpf_object__set_kversion(handle.ptr, number)
        finally:
            handle.release()
        enter(&call, NULL)
        finish(&call, code, "set kernel_version of", handle)

    @property
    def token_fd(self):
        """Descriptor of the BPF token, 0 or negative for none. Needs libbpf 1.5. Source: bpf_object__token_fd()."""
        cdef libbpf.bpf_object *object = self.handle.live()
        need(1, 5, "bpf_object__token_fd")
        return libbpf.bpf_object__token_fd(object)

    cdef int run(self, bint preparing) except -1:
        """Prepare or load."""
        cdef Handle handle = self.handle
        cdef str operation = "prepare" if preparing else "load"
        cdef Call call
        cdef int code
        handle.acquire(operation)
        try:
            begin_load(handle, operation, preparing)
            enter(&call, <PyObject *>handle)
            call.verbose = handle.verbose
            with nogil:
                code = load_object(handle.ptr, &call, preparing)
            leave(&call)
            conclude_load(handle, &call, code, preparing)
        finally:
            handle.release()
        return self.finish_run(&call, code, operation)

    cdef int finish_run(self, Call *call, int code, str operation) except -1:
        """Raise what went wrong, or what a signal handler raises that had to wait."""
        try:
            finish(call, code, operation, self.handle)
        except VerifierError as error:
            error.section = self.programs[error.program].section
            raise
        return PyErr_CheckSignals()

    def prepare(self):
        """Make the maps and finish all instructions, without loading programs: state PREPARED.

        Instructions can then be read and replaced in their final form. Raises BpfError, and the object is FAILED.
        Needs libbpf 1.6. Source: bpf_object__prepare().
        """
        need(1, 6, "bpf_object__prepare")
        self.run(True)

    def load(self, *, threads=None):
        """Load all programs that have autoload into the kernel: state LOADED.

        With ``threads`` (a number) so many programs are verified at a time, see the page "Many at once". What comes of it
        is the same. Objects with struct_ops maps, arenas or maps for one program only, and prepared ones, are loaded by
        one thread all the same; StateError for a file that has changed.

        Raises VerifierError with the whole log if the verifier rejects one, what a handler's prepare_load raised, or
        BpfError; the object is FAILED then, see reopen(). The GIL is released; signals are handled right after the
        call, or in Python callbacks. Source: bpf_object__load().
        """
        cdef int count = 1 if threads is None else thread_count(threads)
        if count > 1:
            self.check_source("load by threads")
            from .parallel import load_parts
            if load_parts(self, count):
                return
        self.run(False)

    def gen_loader(self):
        """Instead of loading, make a Loader of the object, which loads it any time, by itself; the object is closed.

        What was set before, as autoload and global variables, is in it; maps cannot be left out, nor pinned. Handlers'
        prepare_load is called as in a load. BpfError if libbpf cannot; the object is FAILED then. Source: bpf_object__gen_loader().
        """
        from .loader import gen_loader
        return gen_loader(self)

    def reopen(self):
        """Open the same source anew, with the same options and handlers; the way on from FAILED."""
        self.check_source("reopen")
        return open(self.source, **self.options)

    cdef int check_source(self, str operation) except -1:
        if self.source is None:
            raise StateError(_errno.EINVAL, "made by C code, which alone knows its source", operation, self.handle)
        return 0

    def attach(self):
        """Attach all programs that have autoattach, and struct_ops maps; return a LinkSet.

        Handlers' attach methods decide for their programs. What has no automatic attach is in ``LinkSet.skipped``. If
        one fails, the links made so far are destroyed and the error names the program. The object keeps the links
        until it is closed. As attach_many() with this object alone. Source: bpf_program__attach().
        """
        from .attaching import attach_object    # what few programs need is not part of every import
        links = attach_object(self.handle)
        self.forget_closed()
        self.attached += links
        return links

    cdef int forget_closed(self) except -1:
        cdef Link link
        self.attached = [link for link in self.attached or () if link.ptr != NULL]
        return 0

    def ring_buffer(self, map, callback=None, **options):
        """Open a RingBuffer on one of the object's maps, given by name or as a Map, or on a list of them.

        The rest is as for RingBuffer. Where a map counts drops it is found by its name, as pylbpf/ringbuf.bpf.h makes it:
        "events_drops" for "events".
        """
        from .ringbuf import RingBuffer, drops_of
        maps = [self.maps[each] if isinstance(each, str) else each
                for each in (map if isinstance(map, (list, tuple)) else [map])]
        if not maps:
            raise ValueError("no map: a ring buffer needs one or more")
        first, *others = maps
        ring = RingBuffer(first, callback, drops=drops_of(self.maps, first), **options)
        for other in others:
            ring.add(other, callback, drops=drops_of(self.maps, other), **options)
        return ring

    def perf_buffer(self, map, callback=None, **options):
        """Open a PerfBuffer on one of the object's maps, given by name or as a Map. The rest is as for PerfBuffer."""
        from .perfbuf import PerfBuffer
        return PerfBuffer(self.maps[map] if isinstance(map, str) else map, callback, **options)

    def user_ring_buffer(self, map):
        """Open a UserRingBuffer on one of the object's maps, given by name or as a Map."""
        from .userring import UserRingBuffer
        return UserRingBuffer(self.maps[map] if isinstance(map, str) else map)

    def detach_fds(self):
        """Keep descriptors of programs and maps, and the links; close the rest. Return them as Descriptors.

        What libbpf keeps of the file after a load, instructions, names and types, is freed: the object is CLOSED, and so
        are its ring buffers. StateError if there are links that need the object (USDT, struct_ops), or before load;
        BufferError while views of instructions are in use. Source: bpf_program__fd(), bpf_map__fd().
        """
        from .descriptors import make_descriptors
        from .linkset import LinkSet
        cdef Handle handle = self.handle
        cdef libbpf.bpf_program *program
        cdef libbpf.bpf_map *map
        cdef list links
        cdef Link link
        cdef int fd
        kept = make_descriptors(handle.name)
        self.check_idle("detach descriptors of")
        handle.acquire("detach descriptors of")
        try:
            handle.require(1 << LOADED, "detach descriptors of")
            handle.check_views("detach descriptors of")
            links = free_links(handle)
            program = libbpf.bpf_object__next_program(handle.ptr, NULL)
            while program != NULL:
                fd = libbpf.bpf_program__fd(handle.target(program))
                name = libbpf.bpf_program__name(program).decode("utf-8", "surrogateescape")
                if fd >= 0 and name not in kept._programs:
                    kept._programs[name] = duplicate_fd(fd)
                program = libbpf.bpf_object__next_program(handle.ptr, program)
            map = libbpf.bpf_object__next_map(handle.ptr, NULL)
            while map != NULL:
                name = libbpf.bpf_map__name(map).decode("utf-8", "surrogateescape")
                if libbpf.bpf_map__autocreate(map) and name not in kept._maps:
                    kept._maps[name] = duplicate_fd(libbpf.bpf_map__fd(map))
                map = libbpf.bpf_object__next_map(handle.ptr, map)
            kept._links = LinkSet(links)
            for link in links:
                leave_place(&link.place)
            self.attached = None
        except BaseException:
            kept.close()
            raise
        finally:
            handle.release()
        try:
            self.close()
        except BaseException:
            # Descriptors that nobody has got would be closed only when this error is forgotten.
            kept.close()
            raise
        return kept

    cdef int check_idle(self, str operation) except -1:
        """Raise inside a callback of one of the object's ring buffers."""
        for ring in [reference() for reference in (self.handle.rings or {}).values()]:
            if ring is not None:
                ring._check_outside(operation)
        return 0

    def close(self):
        """Destroy links, close ring buffers, unload programs, free maps; a second time does nothing.

        Waits for a call on another thread to end. BufferError while views of instructions are in use; StateError from
        inside a callback. Source: bpf_object__close().
        """
        cdef Handle handle = self.handle
        if handle.phase == CLOSED:
            return
        handle.check_views("close")
        if handle.generation == fork_generation():
            self.check_idle("close")
            self.close_all()
        else:
            self.free_all()

    cdef int close_all(self) except -1:
        cdef Handle handle = self.handle
        cdef bint locked = False
        cdef object failure = None
        try:
            locked = handle.acquire("close")
            handle.check_views("close")
            # A callback on another thread may need the object before it ends, and may attach something.
            while handle.rings or handle.links.after != &handle.links:
                try:
                    if handle.links.after.after != &handle.links and not _sys.is_finalizing():
                        from .detaching import detach_object
                        detach_object(handle)
                except BaseException as error:
                    failure = failure or error
                try:
                    close_links(handle)     # what was not released together
                except BaseException as error:
                    failure = failure or error
                ring = handle.rings.popitem()[1]() if handle.rings else None
                if ring is not None:
                    handle.release()
                    locked = False
                    try:
                        ring.close()
                    except BaseException:
                        handle.rings[id(ring)] = _ref(ring)
                        raise
                    locked = handle.acquire("close")
            handle.wait_users()
            handle.check_views("close")     # taken meanwhile
            self.free_all()
        except ValueError:
            if handle.phase != CLOSED:      # another thread was faster
                raise
        finally:
            if locked:
                handle.release()
        if failure is not None:
            raise failure
        return 0

    cdef int free_all(self) except -1:
        cdef Handle handle = self.handle
        self.attached = None
        self.variables = None
        handle.free_object()
        handle.guard = handle.kept = handle.inner = handle.table = None
        handle.bound = 0
        return 0


def open(source, *, name=None, handlers=(), pin_root_path=None, kconfig=None, btf_custom_path=None,
         relaxed_maps=False, log_level=0, token_path=None):
    """Open a BPF object from a path (str or PathLike) or from memory (any bytes-like object); return an Object.

    - ``name``: for kernel names of internal maps; default the file's name up to its first dot.
    - ``handlers``: ProgramHandlers for this object only, before the registered ones of the same priority.
    - ``pin_root_path``: where maps declared with pinning are found or pinned; default /sys/fs/bpf.
    - ``kconfig``: text of CONFIG_ lines that complete or override the kernel's.
    - ``btf_custom_path``: BTF file to relocate against instead of the running kernel's.
    - ``relaxed_maps``: ignore unknown attributes of map definitions.
    - ``log_level``: verifier log of every program, see Program.log_level.
    - ``token_path``: BPF file system to make a BPF token from (kernel 6.9, libbpf 1.4).

    The bytes are not needed after the call. Runs the setup callbacks of handlers and raises what they raise; raises
    LibbpfError with a sentence on what is wrong with a malformed file, FileNotFoundError and its kin for the path.
    Source: bpf_object__open_mem(), struct bpf_object_open_opts.
    """
    cdef Request request = Request(
        source, name=name, handlers=handlers, pin_root_path=pin_root_path, kconfig=kconfig,
        btf_custom_path=btf_custom_path, relaxed_maps=relaxed_maps, log_level=log_level, token_path=token_path)
    cdef Handle handle = request.handle
    handle.acquire("open")
    enter(&request.job.call, <PyObject *>handle)
    with nogil:
        read_job(&request.job)
        open_job(&request.job, handle)
    leave(&request.job.call)
    handle.release()
    request.conclude_open()
    return make_object(request)


cdef Object make_object(Request request):
    """The Object of a Request that was concluded."""
    cdef Object opened = Object.__new__(Object)
    opened.handle = request.handle
    opened.source = request.source
    opened.options = request.options
    request.handle.owner = _ref(opened)
    return opened
