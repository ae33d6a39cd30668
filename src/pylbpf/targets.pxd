"""What programs are attached to, as C takes it."""
from .c.uapi cimport __u32, __u64


cdef class Target:
    cdef int fd                 # good as long as this lives
    cdef bint opened
    cdef object owner           # keeps what the descriptor belongs to


cdef struct Anchor:
    # Where in the order of programs: all zero is at the end.
    __u32 flags
    __u32 relative_fd
    __u32 relative_id
    __u64 expected_revision


# A number, or an object with fileno(). The descriptor stays its owner's.
cdef int descriptor_of(object thing, str what) except -1
# A descriptor as above, or a path that is opened for as long as the Target lives.
cdef Target open_target(object thing, int flags, str what)
# Fill in; true if anything differs from zero.
cdef bint set_anchor(Anchor *anchor, unsigned int flags, object relative_fd, object relative_id,
                     object expected_revision) except -1
# Numbers as an array of C, of the format's letter, and names as an array of pointers into `raws`; None for None.
cdef bytes array_of(object numbers, str letter, str what)
cdef bytes pointers_to(list raws)
cdef list names_of(object names, str what)
# A number of 64 bits.
cdef unsigned long long long_of(object value, str what) except? 0xffffffffffffffff
