from .c cimport uapi

cdef enum Kind:
    PROGRAMS, MAPS, LINKS, TYPES

cdef enum:
    NO_TEXT = -1

cdef struct Item:
    unsigned long long raw[32]      # struct bpf_prog_info or its kin, whose texts and arrays are pointers
    long text                       # where in `texts` its text begins, or NO_TEXT
    bint late                       # it has arrays, or a text that did not come: to be asked for by its number

cdef struct Listing:
    Item *items
    size_t count
    size_t room
    char *texts
    size_t written
    size_t text_room

# All that the kernel has, in the order of numbers: 0 or -errno. To be freed in any case.
cdef int list_all(Kind kind, Listing *found) noexcept nogil
cdef void free_listing(Listing *found) noexcept nogil
# Where in struct bpf_link_info the pointer to a text is, and its length; false if the kind has none.
cdef bint text_of_link(const char *raw, int *pointer, int *length) noexcept nogil
