"""Loader programs: all of an object in two blocks of bytes, which the kernel makes maps and programs of by itself."""
import errno as _errno
from types import MappingProxyType as _MappingProxyType

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.unistd cimport close as close_fd, dup2

from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter, leave
from .errors cimport fail, finish, message_of
from .handle cimport FAILED, Handle, OPEN
from .object cimport Object
from .opening cimport begin_load, conclude_load, load_object
from .paths cimport number_of

from .errors import NotSupported, error_class

cdef enum:
    ARRAY = 2               # enum bpf_map_type
    SYSCALL = 31            # enum bpf_prog_type
    SLEEPABLE = 1 << 4      # BPF_F_SLEEPABLE
    LOG = 1 << 20           # bytes of the verifier's log, of which the kernel keeps the end
    MAX_CONTEXT = 0xffff
    STRUCT_OPS = 26         # enum bpf_map_type
    MOST_MAPS = 64          # of libbpf's bpf_gen_internal.h and gen_loader.c
    MOST_PROGRAMS = 32

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...)
    int F_DUPFD_CLOEXEC, F_GETFD

cdef bytes LICENSE = b"Dual BSD/GPL"


cdef struct MapSlot:
    # struct bpf_map_desc of libbpf's skel_internal.h
    int map_fd
    unsigned int max_entries
    unsigned long long initial_value


cdef struct Context:
    # struct bpf_loader_ctx of it; the maps follow, then a descriptor for each program
    unsigned int sz, flags, log_level, log_size
    unsigned long long log_buf


@cython.final
cdef class Loader:
    """An object as a loader program: what libbpf does to load it, written down as instructions, without libbpf and ELF.

    ``insns`` (the program, of type SYSCALL), ``data`` (what it works on), ``maps`` (a mapping of names, in order, to the
    bytes of initial value that each has, or 0) and ``programs`` (a tuple of the names of those that it loads). From
    Object.gen_loader(), or made again of the same four, which can be kept anywhere, as by pickle. It fits all kernels, for
    they do the relocations. libbpf's light skeletons are the same. Source: bpf_object__gen_loader().
    """

    cdef readonly bytes insns, data
    cdef dict sizes
    cdef readonly tuple programs

    def __init__(self, insns, data, maps, programs):
        self.insns = memoryview(insns).tobytes()
        self.data = memoryview(data).tobytes()
        self.sizes = {str(name): number_of(size, "size of an initial value") for name, size in dict(maps).items()}
        if isinstance(programs, str):
            raise TypeError("programs is a sequence of names, not a str")
        self.programs = tuple(map(str, programs))
        if len(set(self.programs)) < len(self.programs):
            raise ValueError(f"programs has a name twice: {self.programs}")
        if not self.insns or len(self.insns) % 8:
            raise ValueError(f"{len(self.insns)} bytes are not instructions of 8 bytes")
        if not self.data:
            raise ValueError("a loader without data")
        if self.size() > MAX_CONTEXT:
            raise ValueError(f"{len(self.sizes)} maps and {len(self.programs)} programs are too many for a loader")

    @property
    def maps(self):
        """A read-only mapping: names in order, and the bytes of initial value that each has, or 0."""
        return _MappingProxyType(self.sizes)

    def __repr__(self):
        return f"<Loader: {len(self.sizes)} maps, {len(self.programs)} programs, {len(self.insns) // 8} instructions>"

    def __reduce__(self):
        return Loader, (self.insns, self.data, self.sizes, self.programs)

    cdef size_t size(self) except? 0:
        return sizeof(Context) + sizeof(MapSlot) * len(self.sizes) + sizeof(int) * len(self.programs)

    def load(self, *, values=None, max_entries=None):
        """Have the kernel make all maps and load all programs; return Descriptors of them.

        ``values`` (a dict of names to bytes-like) replaces initial values of maps as ".rodata", each as a whole;
        ``max_entries`` (a dict of names to numbers) the sizes of maps. BpfError, whose ``log`` is the verifier's, if it
        refuses the loader or one of the programs. Nothing is left of a failure. Needs CAP_BPF and CAP_PERFMON;
        minimum kernel 5.15. Source: bpf_map_create(), bpf_prog_load(), bpf_prog_test_run_opts().
        """
        from .descriptors import make_descriptors
        cdef bytes block = PyBytes_FromStringAndSize(NULL, self.size())
        cdef Context *context = <Context *>PyBytes_AS_STRING(block)
        cdef MapSlot *slots = <MapSlot *>(context + 1)
        cdef int *programs = <int *>(slots + len(self.sizes))
        cdef dict raws = {}
        cdef bytes raw
        cdef char *log
        cdef int code, at
        memset(context, 0, self.size())
        context.sz = self.size()
        for given in (values, max_entries):
            for name in given or ():
                if name not in self.sizes:
                    raise ValueError(f"{self} has no map '{name}'")
        for at, (name, size) in enumerate(self.sizes.items()):
            if max_entries is not None and name in max_entries:
                slots[at].max_entries = number_of(max_entries[name], f"max_entries of '{name}'")
            if values is not None and name in values:
                raw = raws[name] = memoryview(values[name]).tobytes()
                if <size_t>len(raw) != <size_t>size or not size:
                    raise ValueError(f"the initial value of '{name}' has {size} bytes, not {len(raw)}")
                slots[at].initial_value = <unsigned long long><size_t>PyBytes_AS_STRING(raw)
        kept = make_descriptors(repr(self))     # here, as between the run and this no signal may be handled
        code = run_loader(self.insns, self.data, block, NULL)
        if code < 0 and code != -_errno.EPERM:
            # Once more, for the reason.
            log = <char *>calloc(1, LOG)
            if log == NULL:
                raise MemoryError()
            try:
                code = run_loader(self.insns, self.data, block, log)
                words = log[:LOG].partition(b"\0")[0].decode("utf-8", "replace")
            finally:
                free(log)
            if code < 0:
                raise error_class(-code)(-code, message_of(-code), "load by", repr(self), words)
        if code < 0:
            fail(-code, "load by", repr(self))
        for at, name in enumerate(self.sizes):
            kept._maps[name] = slots[at].map_fd
        for at, name in enumerate(self.programs):
            kept._programs[name] = programs[at]
        missing = [name for name, fd in (*kept._maps.items(), *kept._programs.items()) if fd <= 0]
        if missing:
            for found in (kept._maps, kept._programs):
                for name in missing:
                    found.pop(name, None)
            kept.close()
            raise ValueError(f"{self} does not make {', '.join(missing)}: its maps and programs are not those of its instructions")
        return kept


cdef int run_loader(bytes insns, bytes data, bytes block, char *log) except 1:
    """0, with descriptors in the block, or -errno."""
    cdef const uapi.bpf_insn *code = <const uapi.bpf_insn *>PyBytes_AS_STRING(insns)
    cdef const char *blob = PyBytes_AS_STRING(data)
    cdef const char *license = PyBytes_AS_STRING(LICENSE)
    cdef Context *context = <Context *>PyBytes_AS_STRING(block)
    cdef size_t count = len(insns) // 8
    cdef unsigned int size = len(data)
    cdef bpf.bpf_prog_load_opts opts
    cdef bpf.bpf_test_run_opts run
    cdef int result, map, zero = 0
    cdef int program = -1
    memset(&opts, 0, sizeof(opts))
    memset(&run, 0, sizeof(run))
    opts.sz = sizeof(opts)
    run.sz = sizeof(run)
    opts.fd_array = &map
    opts.prog_flags = SLEEPABLE
    run.ctx_in = context
    run.ctx_size_in = len(block)
    if log != NULL:
        context.log_level = opts.log_level = 1
        context.log_size = opts.log_size = LOG
        opts.log_buf = log
        context.log_buf = <unsigned long long><size_t>log
    with nogil:
        map = bpf.bpf_map_create(<uapi.bpf_map_type>ARRAY, b"__loader.map", sizeof(int), size, 1, NULL)
        result = map
        if result >= 0:
            result = bpf.bpf_map_update_elem(map, &zero, blob, 0)
        if result >= 0:
            result = bpf.bpf_map_freeze(map)    # of what user space can change the loader would not read pointers
        if result >= 0:
            result = program = bpf.bpf_prog_load(<uapi.bpf_prog_type>SYSCALL, b"__loader.prog", license, code, count, &opts)
        if result >= 0:
            if log != NULL:
                log[0] = 0
            result = bpf.bpf_prog_test_run_opts(program, &run)
        if result >= 0:
            result = min(<int>run.retval, 0)
        if program >= 0:
            close_fd(program)
        if map >= 0:
            close_fd(map)
    return result


cdef int check_loadable(Handle handle) except -1:
    """libbpf goes on with what it cannot write down: to a crash, or to a loader that the verifier refuses."""
    cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(handle.ptr, NULL)
    cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(handle.ptr, NULL)
    cdef int maps = 0
    cdef int programs = 0
    cdef str reason = None
    while map != NULL:
        maps += 1
        name = libbpf.bpf_map__name(map).decode("utf-8", "surrogateescape")
        if libbpf.bpf_map__type(map) == STRUCT_OPS:
            reason = f"map '{name}' is of struct_ops"
        elif libbpf.bpf_map__pin_path(map) != NULL:
            reason = f"map '{name}' is to be pinned"
        elif libbpf.bpf_map__fd(map) >= 0:
            reason = f"map '{name}' is there already"
        map = libbpf.bpf_object__next_map(handle.ptr, map)
    while program != NULL:
        programs += 1       # also one that is not loaded
        program = libbpf.bpf_object__next_program(handle.ptr, program)
    if maps > MOST_MAPS or programs > MOST_PROGRAMS:
        reason = f"{maps} maps and {programs} programs are more than {MOST_MAPS} and {MOST_PROGRAMS}"
    if reason is not None:
        raise NotSupported(_errno.EOPNOTSUPP, f"libbpf has no loader for this: {reason}", "generate loader of", str(handle))
    return 0


cdef int give_back_input(int spare, bint failed) noexcept nogil:
    """libbpf 1.1 closes descriptor 0 when it fails."""
    if spare >= 0:
        if failed and fcntl(0, F_GETFD) < 0:
            dup2(spare, 0)
        close_fd(spare)
    return 0


def gen_loader(Object object not None):
    """What Object.gen_loader() does."""
    cdef Handle handle = object.handle
    cdef libbpf.gen_loader_opts opts
    cdef libbpf.bpf_program *program
    cdef libbpf.bpf_map *map
    cdef size_t size
    cdef Call call
    cdef int code, spare
    cdef bytes insns = None
    cdef bytes data = None
    cdef dict maps = {}
    cdef list programs = []
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    handle.acquire("generate loader of")
    try:
        handle.require(1 << OPEN, "generate loader of")
        check_loadable(handle)
        begin_load(handle, "generate loader of", False)
        spare = fcntl(0, F_DUPFD_CLOEXEC, <int>3)
        enter(&call, <PyObject *>handle)
        with nogil:
            code = libbpf.bpf_object__gen_loader(handle.ptr, &opts)
            if code == 0:
                code = load_object(handle.ptr, &call, False)
            give_back_input(spare, code != 0)
        leave(&call)
        if code == 0:
            insns = opts.insns[:opts.insns_sz]
            data = opts.data[:opts.data_sz]
            map = libbpf.bpf_object__next_map(handle.ptr, NULL)
            while map != NULL:
                size = 0
                libbpf.bpf_map__initial_value(map, &size)
                maps[libbpf.bpf_map__name(map).decode("utf-8", "surrogateescape")] = size
                map = libbpf.bpf_object__next_map(handle.ptr, map)
            program = libbpf.bpf_object__next_program(handle.ptr, NULL)
            while program != NULL:
                if libbpf.bpf_program__autoload(program):
                    programs.append(libbpf.bpf_program__name(program).decode("utf-8", "surrogateescape"))
                program = libbpf.bpf_object__next_program(handle.ptr, program)
        conclude_load(handle, &call, code, False)
        handle.phase = FAILED       # nothing of it is in the kernel
    finally:
        handle.release()
    finish(&call, code, "generate loader of", handle)
    object.close()
    return Loader(insns, data, maps, programs)
