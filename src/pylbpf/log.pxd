"""libbpf's print callback, and what pylbpf says in its place."""

# To the call in progress and to the listener; the line ends with a newline.
cdef void warn(const char *line) noexcept nogil
# Whether somebody listens.
cdef bint listening() noexcept nogil
