"""Descriptors closed in the background."""

# Take over descriptors; return a number for wait_closed().
cdef unsigned long long close_later(const int *descriptors, size_t count) noexcept nogil
# Wait until they are closed; raises what a signal handler raises.
cdef int wait_closed(unsigned long long number) except -1
