"""What CO-RE objects ask of the kernel's types, and a small BTF that answers many of them."""

cdef extern from "pylbpf/internal/corebtf_scan.h" nogil:
    struct pylbpf_name:
        unsigned int at, length     # in the text of the set
        unsigned char kind

    struct pylbpf_names:
        # A set of names of types, each with its kind. All zero is the empty one.
        unsigned int count
        pylbpf_name *items
        char *text

    struct pylbpf_scan:
        size_t insns                # in all executable sections
        size_t programs             # as libbpf counts them
        size_t maps                 # at least so many
        size_t relocations          # CO-RE relocations
        unsigned int kinds          # of relocations: 1 << enum bpf_core_relo_kind
        const char *plain           # why only the kernel's whole BTF will do; a static text, or NULL
        pylbpf_names names

cdef extern from "pylbpf/internal/corebtf_kernel.h" nogil:
    struct pylbpf_memory:
        int fd
        char path[32]


cdef class Trimmed:
    # A trimmed BTF and what it is good for. Never changed once it is made.

    cdef pylbpf_names names
    cdef bytes data
    cdef tuple kernel               # which one it was taken from


cdef class SharedBtf:
    # The types that some objects need, as a file: for btf_custom_path as long as this lives.

    cdef readonly bytes path
    cdef Trimmed trimmed
    cdef bint modules               # types that the kernel proper does not have may be in one of its modules
    cdef pylbpf_memory memory


# What the object is going to cost and to ask for; to be given back with free_scan(). Takes bytes that passed
# check_object(), and any others.
cdef void scan(const unsigned char *data, size_t size, pylbpf_scan *result) noexcept nogil
cdef void free_scan(pylbpf_scan *result) noexcept nogil
# Add the names of a scan whose `plain` is NULL to those of others; -1 if there is no memory.
cdef int add_names(pylbpf_names *names, const pylbpf_scan *more) noexcept nogil
cdef void free_names(pylbpf_names *names) noexcept nogil
# A SharedBtf for all objects whose names are among these, or None if there cannot be one: then each takes the kernel's own.
cdef object share(const pylbpf_names *names)
# Whether this object may be opened with it. An object without relocations may, and has nothing from it.
cdef bint covers(SharedBtf shared, const pylbpf_scan *scan) noexcept nogil
