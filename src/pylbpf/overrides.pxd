from .handle cimport Handle


cdef class Physical:
    cdef bytes pattern
    cdef int id
    cdef int users


cdef void enter_gate() noexcept nogil
cdef void leave_gate(Handle handle) noexcept nogil
cdef void unlock_gate() noexcept nogil
cdef void start_pointing() noexcept nogil
cdef int install() except -1
cdef Physical acquire_physical(bytes pattern, int type, int attach_type, object handler)
cdef int release_physical(Physical physical) except -1
cdef void stop_pointing() noexcept nogil
cdef int reap() except -1
cdef bint has_overrides() noexcept
cdef bint overridden(const char *section) except -1
cdef bint ask_libbpf(bytes section, int *program_type, int *attach_type) except -1
