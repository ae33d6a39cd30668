"""One section of global variables, and where its memory is."""
import errno as _errno

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EPERM, errno
from libc.string cimport memcpy

from .arena cimport variables_of
from .c cimport bpf, libbpf
from .errors cimport fail
from .handle cimport FAILED, Handle, LOADED, OPEN, fork_generation, phase_name

from .errors import StateError

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_READ
        PROT_WRITE
        MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)

cdef enum:
    MMAPABLE = 1 << 10

ARENA_SECTION = ".addr_space.1"


@cython.final
@cython.no_gc_clear
cdef class Section:
    """Its memory is, before there is a map in the kernel, what libbpf will put into that; then a mapping of ours, or, if it
    cannot be mapped, none: its element is read and written as a whole."""

    def __init__(self):
        raise TypeError("sections come from Object.globals")

    def __dealloc__(self):
        if self.own != NULL and not self.in_arena:
            munmap(self.own, self.own_size)

    def __str__(self):
        return f"section {self.name} of {self.handle.name}"

    cdef unsigned char *memory(self, size_t end, bint writing) except? NULL:
        """Where the section is now, at least `end` bytes of it; NULL if it is an element only."""
        cdef Handle handle = self.handle
        cdef size_t size = 0
        cdef unsigned char *start
        if handle.phase != LOADED or handle.generation != fork_generation():
            handle.live()
            if handle.loading:
                handle.settle(NULL)
        if handle.phase == OPEN and not handle.loading:
            if self.kconfig:
                raise StateError(_errno.EINVAL, "known when the object is prepared or loaded", "access", str(self))
            start = <unsigned char *>libbpf.bpf_map__initial_value(self.map, &size)
        else:
            if not self.settled:
                self.find_memory()
            if writing and not self.writable():
                raise StateError(_errno.EINVAL, f"read-only: the object is {phase_name(handle.now())}", "set a variable in",
                                 str(self))
            if self.own == NULL:
                return NULL
            start = <unsigned char *>self.own
            size = self.own_size
        if start == NULL or end > size:
            raise StateError(_errno.EINVAL, f"{end} bytes are wanted of {size}", "access", str(self))
        return start

    cdef bint writable(self) noexcept:
        cdef int phase = self.handle.now()
        return not self.kconfig if phase == OPEN else phase != FAILED and not self.constant

    cdef int find_memory(self) except -1:
        """Once there is a map in the kernel, map it: older libbpf does not, and none does with a map that is older
        than the object."""
        cdef int protection = PROT_READ if self.constant else PROT_READ | PROT_WRITE
        cdef int fd = libbpf.bpf_map__fd(self.map)
        cdef size_t size = libbpf.bpf_map__value_size(self.map)
        cdef void *start
        if self.handle.now() == FAILED or not libbpf.bpf_map__autocreate(self.map) or fd < 0:
            raise StateError(_errno.EINVAL, "there is no map of it in the kernel", "access", str(self))
        if self.in_arena:           # which libbpf maps, and unmaps with the object
            self.own = variables_of(self.map, &size, self)
            self.own_size = size
        elif libbpf.bpf_map__map_flags(self.map) & MMAPABLE and size:
            start = mmap(NULL, size, protection, MAP_SHARED, fd, 0)
            if start == MAP_FAILED and errno == EPERM and not self.constant:     # somebody has frozen it
                self.constant = True
                start = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
            if start == MAP_FAILED:
                fail(errno, "map the memory of", self)
            self.own = start
            self.own_size = size
        self.settled = True
        return 0

    cdef bytes element(self, size_t end):
        """A copy of the whole section, of a map that cannot be mapped."""
        cdef unsigned int zero = 0
        cdef size_t size = libbpf.bpf_map__value_size(self.map)
        cdef bytes value = PyBytes_FromStringAndSize(NULL, size)
        cdef int code = bpf.bpf_map_lookup_elem(libbpf.bpf_map__fd(self.map), &zero, PyBytes_AS_STRING(value))
        if code < 0:
            fail(-code, "read", self)
        if end > size:
            raise StateError(_errno.EINVAL, f"{end} bytes are wanted of {size}", "access", str(self))
        return value

    cdef bint hold(self) except -1:
        """Take the object's lock as long as a load may take the memory away, on another thread and without the GIL;
        true if release() is due. A load by several threads makes the maps before these begin."""
        cdef Handle handle = self.handle
        return handle.phase != LOADED and not handle.parallel and handle.enter("access variables of")

    cdef int read(self, size_t offset, size_t size, void *to) except -1:
        cdef bint held = self.hold()
        cdef unsigned char *start
        cdef bytes value
        try:
            start = self.memory(offset + size, False)
            if start != NULL:
                memcpy(to, start + offset, size)
                return 0
        finally:
            if held:
                self.handle.release()
        value = self.element(offset + size)
        memcpy(to, PyBytes_AS_STRING(value) + offset, size)
        return 0

    cdef int write(self, size_t offset, size_t size, const void *what) except -1:
        cdef bint held = self.hold()
        cdef unsigned char *start
        cdef unsigned int zero = 0
        cdef bytes value
        cdef int code
        try:
            start = self.memory(offset + size, True)
            if start != NULL:
                memcpy(start + offset, what, size)
                return 0
        finally:
            if held:
                self.handle.release()
        value = self.element(offset + size)
        memcpy(PyBytes_AS_STRING(value) + offset, what, size)   # nobody else has this one
        code = bpf.bpf_map_update_elem(libbpf.bpf_map__fd(self.map), &zero, PyBytes_AS_STRING(value), 0)
        if code < 0:
            fail(-code, "write", self)
        return 0


@cython.final
@cython.no_gc_clear
cdef class Memory:
    """The bytes of a variable as a buffer. While one is in use, what would move the memory raises BufferError."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef Section section = self.section
        cdef bint held = section.hold()
        cdef unsigned char *start
        try:
            start = section.memory(self.offset + self.size, False)
            if start == NULL:
                raise BufferError("this section cannot be mapped into memory")
            PyBuffer_FillInfo(buffer, self, start + self.offset, self.size, not section.writable(), flags)
            section.handle.mapped += 1
        finally:
            if held:
                section.handle.release()

    def __releasebuffer__(self, Py_buffer *buffer):
        self.section.handle.mapped -= 1


cdef Section make_section(Handle handle, libbpf.bpf_map *map, str name, unsigned int datasec):
    cdef Section section = Section.__new__(Section)
    section.handle = handle
    section.map = map
    section.name = name
    section.datasec = datasec
    section.in_arena = name == ARENA_SECTION
    section.kconfig = name == ".kconfig"
    section.constant = section.kconfig or name.startswith(".rodata")
    return section


cdef Memory make_memory(Section section, size_t offset, size_t size):
    cdef Memory memory = Memory.__new__(Memory)
    memory.section = section
    memory.offset = offset
    memory.size = size
    return memory
