"""Memory of maps, mapped into this process."""
import errno as _errno
from _weakref import ref as _ref

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport EACCES, EINVAL, EPERM, errno
from posix.unistd cimport sysconf, _SC_PAGESIZE

from .arena cimport memory_of
from .c cimport libbpf
from .call cimport note_missing
from .codec cimport Codec
from .definition cimport Definition
from .errors cimport fail
from .handle cimport Handle, OPEN, fork_generation
from .info cimport map_info
from .spans cimport forget_span, note_span

from .errors import NotSupported, StateError, error_class

libbpf.pylbpf_on_missing = note_missing

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_READ
        PROT_WRITE
        MAP_FIXED_NOREPLACE
        MAP_SHARED

    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)

cdef enum:
    # enum bpf_map_type
    ARRAY = 2
    STRUCT_OPS = 26
    ARENA = 33
    # flags of BPF_MAP_CREATE
    MMAPABLE = 1 << 10
    SEGV_ON_FAULT = 1 << 17


@cython.final
@cython.no_gc_clear
cdef class MapView:
    """The memory of a map as a buffer: of an array with MapFlags.MMAPABLE, or an arena; without a call for each access.

    Bytes through the buffer protocol, the elements through array(). ``map`` is its map, ``readonly``
    is true of maps that are frozen. Closing a map or its object does not end a view of it, which keeps the kernel's map: close(), leaving a
    ``with`` block or losing the last reference does. BufferError while a buffer or array of it is in use. Views of
    what libbpf has not yet put into the kernel, and of arenas that it has mapped, forbid loading and closing the object.
    """

    def __init__(self):
        raise TypeError("made by Map.view()")

    def __dealloc__(self):
        self.free()

    cdef int free(self) noexcept:
        if self.start != NULL:
            if self.own:
                forget_span(&self.span)
                munmap(self.start, self.size)
            else:
                self.handle.mapped -= 1
            self.start = NULL
        return 0

    cdef int check(self) except -1:
        if self.start == NULL:
            raise ValueError(f"the view of {self.map} is closed")
        if not self.own and self.handle.generation != fork_generation():
            self.handle.check_alive()
        if self.span.start != NULL and self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process, and a forked child does not get an arena: it must open "
                             "its own", "view", str(self.map))
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.check()
        PyBuffer_FillInfo(buffer, self, self.start, self.size, self.readonly, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1

    @property
    def nbytes(self):
        """Length in bytes, whole pages where it is mapped."""
        return self.size

    @property
    def closed(self):
        """True after close()."""
        return self.start == NULL

    def __len__(self):
        return self.size

    def array(self):
        """Return the elements as a numpy array of their type, which shares the memory and keeps the view.

        Of an arena, or of values without a type, the bytes. Programs of other CPUs write to the same memory at the same
        time: what is larger than 8 bytes may be seen half written.
        """
        import numpy
        self.check()
        if self.codec is None:
            return numpy.frombuffer(self, "u1")
        dtype = self.codec.numpy_dtype()
        whole = numpy.frombuffer(self, "u1", self.count * self.stride)
        return numpy.ndarray((self.count, *dtype.shape), dtype.base, whole,
                             strides=(self.stride, *numpy.empty(1, dtype).strides[1:]))

    def close(self):
        """End the view; BufferError while a buffer or array of it is in use."""
        if self.exports:
            raise BufferError(f"{self.exports} buffers of the view of {self.map} are in use")
        self.free()

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        what = "closed" if self.start == NULL else f"{self.size} bytes{', read-only' if self.readonly else ''}"
        return f"<MapView: {self.map}, {what}>"


cdef MapView make_view(Definition map, char *start, Py_ssize_t size, bint readonly, Codec codec):
    cdef MapView view = MapView.__new__(MapView)
    view.map = map
    view.start = start
    view.size = size
    view.readonly = readonly
    view.codec = codec
    if codec is not None:
        view.stride = (codec.size + 7) // 8 * 8
        view.count = map.entries()
    return view


cdef MapView map_memory(Definition map, Codec codec):
    cdef int type = map.kind()
    cdef Py_ssize_t page = sysconf(_SC_PAGESIZE)
    cdef Py_ssize_t size
    cdef void *start
    cdef bint readonly = False
    cdef MapView view
    cdef int fd = map.descriptor()
    if type == ARENA:
        return map_arena(map, map.entries() * page)
    if type != ARRAY or not map.flag_bits() & MMAPABLE:
        raise TypeError(f"{map} has no memory that can be mapped: an array with MapFlags.MMAPABLE has, and an arena")
    size = ((map.part_bytes() + 7) // 8 * 8 * map.entries() + page - 1) // page * page
    start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if start == MAP_FAILED and (errno == EPERM or errno == EACCES):
        readonly = True
        start = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
        if start == MAP_FAILED and errno == EINVAL:
            raise error_class(EACCES)(EACCES, "the kernel maps no map that was opened for reading", "map the memory of",
                                      str(map))
    if start == MAP_FAILED:
        fail(errno, "map the memory of", map)
    view = make_view(map, <char *>start, size, readonly, codec)
    view.own = True
    return view


# Of arenas mapped here, by the kernel's numbers of them: the view, of which there can be one, and where it is or was.
cdef dict arenas = {}


cdef MapView map_arena(Definition map, Py_ssize_t size):
    """The kernel wants an arena at one address in all processes, and one time in each."""
    cdef MapView view
    cdef void *start = NULL
    if map.flag_bits() & SEGV_ON_FAULT:
        raise TypeError(f"{map} kills who touches a page that no program has allocated (MapFlags.SEGV_ON_FAULT)")
    if map.ptr != NULL:
        start = memory_of(map.ptr)
        if start != NULL:
            # libbpf has mapped it, and unmaps it with the object.
            view = make_view(map, <char *>start, size, False, None)
            view.handle = map.handle
            view.handle.mapped += 1
            return view
    number = map_info(map.descriptor()).id
    known, at = arenas.get(number, (None, 0))
    view = known() if known is not None else None
    if view is not None and view.start != NULL:
        return view
    start = <void *><size_t>at
    if start == NULL:
        start = <void *><size_t>map_extra_of(map)
    start = mmap(start, size, PROT_READ | PROT_WRITE, MAP_SHARED | (MAP_FIXED_NOREPLACE if start != NULL else 0),
                 map.descriptor(), 0)
    if start == MAP_FAILED:
        fail(errno, "map the memory of", map)
    view = make_view(map, <char *>start, size, False, None)
    view.own = True
    view.generation = fork_generation()
    note_span(&view.span, start, size)
    arenas[number] = _ref(view), <size_t>start
    return view


cdef unsigned long long map_extra_of(Definition map) except? 0xffffffffffffffff:
    if map.ptr == NULL:
        map.kernel.live()
        return map.kernel.info.map_extra
    return libbpf.bpf_map__map_extra(map.live())


cdef MapView view_initial(Definition map, Codec codec):
    """What libbpf will put into the kernel, before it does: of struct_ops maps and of global variables."""
    cdef MapView view
    cdef size_t size = 0
    cdef void *start
    map.live()
    map.handle.require(1 << OPEN, f"view {map} of")
    if map.handle.loading:
        raise StateError(_errno.EBUSY, "being loaded", "view", str(map))
    start = libbpf.bpf_map__initial_value(map.ptr, &size)
    if start == NULL and map.kind() == STRUCT_OPS:
        raise NotSupported(_errno.EOPNOTSUPP, "setting fields of struct_ops maps needs libbpf 1.5", None, str(map))
    if start == NULL or map.kind() == ARENA:
        raise StateError(_errno.EINVAL, "the map does not exist in the kernel, and has no memory before", "view", str(map))
    view = make_view(map, <char *>start, size, False, codec)
    view.handle = map.handle
    view.handle.mapped += 1
    if codec is not None:
        view.stride = codec.size
        view.count = 1
    return view
