"""Open and load, as they run without the GIL: for one object, or for many at once on threads of their own.

Each has three parts: what needs Python before, the C part, and what needs Python afterwards.
"""
import errno as _errno
import os as _os

from cpython.bytes cimport PyBytes_AS_STRING
cimport cython
from libc.errno cimport EINTR, EINVAL, EISDIR, ENOMEM, errno
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset, strcpy
from posix.fcntl cimport O_CLOEXEC, O_NONBLOCK, O_RDONLY, open as open_fd
from posix.signal cimport SIG_SETMASK, sigset_t
from posix.stat cimport S_ISDIR, S_ISREG, fstat, struct_stat
from posix.unistd cimport _SC_PAGESIZE, close as close_fd, read, sysconf

from .c cimport libbpf
from .arena cimport note_arenas
from .call cimport Call, Verdict, clear, enter, leave, note_missing
from .elf cimport check_object
from .errors cimport finish, need
from .handle cimport CLOSED, FAILED, Handle, LOADED, OPEN, PREPARED
from .overrides cimport enter_gate, leave_gate
from .paths cimport is_path, name_bytes, number_of, path_bytes, path_text
from .registry cimport begin_open, end_open
from .workers cimport block_signals

from .errors import StateError, error_class

libbpf.pylbpf_on_missing = note_missing

cdef extern from "<signal.h>" nogil:
    int pthread_sigmask(int how, const sigset_t *wanted, sigset_t *before)

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_NONE
        MAP_ANONYMOUS
        MAP_FIXED_NOREPLACE
        MAP_NORESERVE
        MAP_PRIVATE

    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)

cdef enum:
    ARENA = 33                  # enum bpf_map_type
    SEGV_ON_FAULT = 1 << 17
    NOT_AN_OBJECT = 4001        # LIBBPF_ERRNO__FORMAT


# Open

cdef void read_file(Job *job) noexcept nogil:
    """The whole file in memory of its own: a mapping would raise SIGBUS if somebody cut the file meanwhile."""
    cdef int fd = open_fd(job.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)    # a pipe would wait for a writer
    cdef struct_stat status
    cdef size_t length = 0
    cdef ssize_t got = 0
    cdef unsigned char *data = NULL
    if fd < 0 or fstat(fd, &status) < 0:
        job.code = -errno
    elif S_ISDIR(status.st_mode):
        job.code = -EISDIR
    elif not S_ISREG(status.st_mode):
        job.code = -NOT_AN_OBJECT
        strcpy(job.problem, b"not a regular file")
    else:
        data = <unsigned char *>malloc(status.st_size + 1)
        if data == NULL:
            job.code = -ENOMEM
    while data != NULL and length < <size_t>status.st_size:
        got = read(fd, data + length, status.st_size - length)
        if got == 0:
            break
        if got > 0:
            length += got
        elif errno != EINTR:
            job.code = -errno
            free(data)
            data = NULL
    if fd >= 0:
        close_fd(fd)
    job.size = length
    job.data = job.own = data


cdef unsigned long long checksum_of(const unsigned char *data, size_t size) noexcept nogil:
    """Two files that differ differ in this, but for those that somebody made so."""
    cdef unsigned long long sum = size
    cdef unsigned long long word
    cdef size_t at = 0
    while at < size:
        word = 0
        memcpy(&word, data + at, min(size - at, sizeof(word)))
        sum = (sum ^ word) * <unsigned long long>0x9e3779b97f4a7c15
        sum ^= sum >> 29
        at += sizeof(word)
    return sum


cdef void read_job(Job *job) noexcept nogil:
    """The first C part: the bytes, found to be sound, or job.code."""
    if job.path != NULL:
        read_file(job)
        if job.code == 0:
            job.checksum = checksum_of(job.data, job.size)
    if job.code == 0:
        job.code = check_object(job.data, job.size, job.problem, sizeof(job.problem))


cdef void open_job(Job *job, Handle handle) noexcept nogil:
    """The second C part: job.object or job.code."""
    if job.code == 0:
        enter_gate()
        job.object = libbpf.bpf_object__open_mem(job.data, job.size, &job.opts)
        if job.object == NULL:
            job.code = -errno if errno else -EINVAL
        leave_gate(handle)
    free(job.own)
    job.own = NULL
    if job.path != NULL:
        job.data = NULL


@cython.final
cdef class Request:
    def __cinit__(self, source, *, name=None, handlers=(), pin_root_path=None, kconfig=None, btf_custom_path=None,
                  bint relaxed_maps=False, log_level=0, token_path=None):
        cdef bint in_memory = not is_path(source)
        cdef libbpf.bpf_object_open_opts *opts = &self.job.opts
        cdef Handle handle
        cdef bytes raw_path = None if in_memory else path_bytes(source)
        cdef bytes raw_data = None
        cdef bytes raw_name = None
        cdef bytes raw_pin = None if pin_root_path is None else path_bytes(pin_root_path)
        cdef bytes raw_kconfig = None if kconfig is None else name_bytes(kconfig, "kconfig")
        cdef bytes raw_btf = None if btf_custom_path is None else path_bytes(btf_custom_path)
        cdef bytes raw_token = None if token_path is None else path_bytes(token_path)
        cdef unsigned int level = number_of(log_level, "log_level")
        try:
            handlers = tuple(handlers)
        except TypeError:
            raise TypeError(f"handlers must be a list of handlers, not {type(handlers).__name__}") from None
        if level > 7:
            raise ValueError(f"log_level is 0 to 7, not {level}")
        if name is not None:
            raw_name = name_bytes(name, "name")
        elif not in_memory:
            # As libbpf names an object that it opens from a file.
            raw_name = raw_path.rpartition(b"/")[2].partition(b".")[0] or b"object"
        memset(&self.job, 0, sizeof(Job))
        opts.sz = sizeof(opts[0])
        opts.relaxed_maps = relaxed_maps
        opts.kernel_log_level = level
        if raw_name is not None:
            opts.object_name = raw_name
        if raw_pin is not None:
            opts.pin_root_path = raw_pin
        if raw_kconfig is not None:
            opts.kconfig = raw_kconfig
        if raw_btf is not None:
            opts.btf_custom_path = raw_btf
        if raw_token is not None:
            need(1, 4, "token_path")
            opts.bpf_token_path = raw_token
        if in_memory:
            if type(source) is not bytes:
                # Nobody must change it between check and use, nor may it lie at an odd address.
                try:
                    view = memoryview(source)
                except TypeError:
                    raise TypeError(f"source must be a path or bytes-like, not {type(source).__name__}") from None
                if not view.c_contiguous:
                    raise BufferError("source is not contiguous")
                source = view.tobytes()
            raw_data = source
            self.job.data = <const unsigned char *>PyBytes_AS_STRING(raw_data)
            self.job.size = len(raw_data)
        else:
            self.job.path = raw_path
        self.texts = (raw_path, raw_data, raw_name, raw_pin, raw_kconfig, raw_btf, raw_token)
        self.source = source
        self.options = {
            "name": name, "handlers": handlers, "pin_root_path": pin_root_path, "kconfig": kconfig,
            "btf_custom_path": btf_custom_path, "relaxed_maps": relaxed_maps, "log_level": level,
            "token_path": token_path,
        }
        handle = Handle.__new__(Handle)
        handle.name = name or ("<memory>" if in_memory else path_text(raw_path.rpartition(b"/")[2]))
        handle.verbose = level != 0
        self.handle = handle
        self.subject = handle.name if in_memory else path_text(raw_path)
        begin_open(handle, self.options["handlers"])

    def __dealloc__(self):
        free(self.job.own)

    cdef int conclude_open(self) except -1:
        """After open_job() and leave(): give the handle its object, or raise what went wrong."""
        cdef Handle handle = self.handle
        cdef Job *job = &self.job
        end_open(handle)
        if job.object != NULL:
            handle.ptr = job.object
            handle.phase = OPEN
            handle.checksum = job.checksum
            return finish(&job.call, 0, None, None)
        handle.phase = CLOSED
        handle.guard = handle.table = None
        handle.bound = 0
        if job.problem[0]:
            clear(&job.call)
            raise error_class(-job.code)(-job.code, job.problem.decode("utf-8", "replace"), "open", self.subject)
        return finish(&job.call, job.code, "open", self.subject)


# Load

cdef int check_arenas(Handle handle) except -1:
    """Raise if an arena wants addresses that are in use, over which libbpf would map it, or if libbpf's own copying of variables
    into it would be a fault that kills the process."""
    cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(handle.ptr, NULL)
    cdef size_t size
    cdef void *wanted
    cdef void *got
    while map != NULL:
        size = 0
        if <int>libbpf.bpf_map__type(map) == ARENA and libbpf.bpf_map__autocreate(map) \
                and libbpf.bpf_map__map_flags(map) & SEGV_ON_FAULT and libbpf.bpf_map__initial_value(map, &size) != NULL and size:
            raise StateError(
                _errno.EINVAL, f"arena '{libbpf.bpf_map__name(map).decode('utf-8', 'replace')}' has {size} bytes of variables, and "
                "MapFlags.SEGV_ON_FAULT, with which who writes them before a program has allocated the page is killed", "load",
                str(handle))
        if <int>libbpf.bpf_map__type(map) == ARENA and libbpf.bpf_map__map_extra(map) and libbpf.bpf_map__autocreate(map):
            wanted = <void *><size_t>libbpf.bpf_map__map_extra(map)
            size = <size_t>libbpf.bpf_map__max_entries(map) * sysconf(_SC_PAGESIZE)
            got = mmap(wanted, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0)
            if got != MAP_FAILED:
                munmap(got, size)
            if got != wanted:
                name = libbpf.bpf_map__name(map).decode("utf-8", "replace")
                raise StateError(
                    _errno.EEXIST, f"arena '{name}' is to be at {<size_t>wanted:#x}, {size} bytes, where this process has "
                    "memory of its own; set its map_extra to another address, or 0", "load", str(handle))
        map = libbpf.bpf_object__next_map(handle.ptr, map)
    return 0


cdef int begin_load(Handle handle, str operation, bint preparing) except -1:
    handle.require(1 << OPEN if preparing else 1 << OPEN | 1 << PREPARED, operation)
    if handle.phase == OPEN:
        handle.check_views(operation)
        check_arenas(handle)
        handle.moves += 1
    handle.loading = True
    return 0


cdef int load_object(libbpf.bpf_object *object, Call *call, bint preparing) noexcept nogil:
    """The C part. Signals wait until it is over: each pending one would interrupt the verifier, which libbpf starts
    anew only a few times. On a worker's thread they are blocked anyway, and the call knows."""
    cdef sigset_t blocked, before
    cdef bint ours = call.signals == NULL
    cdef int code
    if ours:
        block_signals(&blocked)
        call.signals = &before
        call.blocked = &blocked
        pthread_sigmask(SIG_SETMASK, &blocked, &before)
    code = libbpf.bpf_object__prepare(object) if preparing else libbpf.bpf_object__load(object)
    if ours:
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        call.signals = call.blocked = NULL
    return code


cdef int conclude_load(Handle handle, Call *call, int code, bint preparing) except -1:
    """After load_object() and leave(): the new phase, and what the verifier said of each program."""
    cdef Verdict *verdict = call.verdicts
    handle.loading = False
    handle.phase = FAILED if code < 0 else PREPARED if preparing else LOADED
    note_arenas(handle)
    if handle.phase != PREPARED:
        handle.guard = None
        handle.kept = None
    if verdict != NULL:
        handle.logs = {}
    while verdict != NULL:
        handle.logs[verdict.program.decode("utf-8", "surrogateescape")] = (
            verdict.text[:verdict.length].decode("utf-8", "replace"))
        verdict = verdict.next
    return 0
