"""Which functions of the kernel a pattern means."""

cdef struct Function:
    unsigned long address
    const char *name
    size_t kept                 # length of the name that the kernel's list of functions has


cdef struct Functions:
    char *text                  # the names
    Function *all
    size_t count, room


# 0 or -errno. What there is must be given back with free_functions(), also after a failure.
cdef int read_functions(Functions *functions) noexcept nogil
cdef void free_functions(Functions *functions) noexcept nogil
# The addresses, to be freed by the caller, in the order that libbpf gives them to the kernel; 0, -ENOENT or -ENOMEM.
cdef int find_functions(const Functions *functions, const char *pattern, unsigned long **addresses, size_t *count) noexcept nogil
# Whether libbpf, asked for this pattern, would read all functions.
cdef bint reads_functions(const char *pattern) noexcept nogil
