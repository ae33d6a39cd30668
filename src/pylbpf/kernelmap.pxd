from .c cimport uapi


cdef class KernelMap:
    cdef int fd                     # -1 when closed
    cdef unsigned int generation    # of forks, see Handle
    cdef uapi.bpf_map_info *info    # what does not change as long as the map exists; ours
    cdef object name                # as given, else of the kernel, cut to 15 characters
    cdef object types               # its Btf, when it was asked for
    cdef object pin_path            # where we know it to be pinned

    cdef int live(self) except -1
    cdef bint usable(self) noexcept
    cdef int close(self) except -1


cdef KernelMap create_map(int type, object name, unsigned int key_size, unsigned int value_size,
                          unsigned int max_entries, void *opts)
cdef KernelMap own_map(int fd, object name)
cdef KernelMap duplicated_map(object fd)
cdef KernelMap pinned_map(object path, object path_fd, unsigned int file_flags)
cdef KernelMap numbered_map(object id, unsigned int open_flags)
cdef int read_info(int fd, uapi.bpf_map_info *info) except -1
# A descriptor of BTF with the types that local storage asks for.
cdef int storage_types(unsigned int value_size, unsigned int *key, unsigned int *value) except -1
