# What a descriptor can be asked for.
cdef enum Kind:
    PROGRAM, MAP, LINK

# A descriptor of what is pinned at a path, which with `path_fd` is relative to that folder.
cdef int open_pin(object path, object path_fd, unsigned int file_flags) except -1
# A descriptor of what has a number in the kernel; flags are for maps.
cdef int open_number(Kind kind, object id, unsigned int open_flags) except -1
# Pin a descriptor, with `path_fd` relative to that folder.
cdef int pin_descriptor(int fd, object path, object path_fd, object subject) except -1
