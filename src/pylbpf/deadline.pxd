"""How long a call may wait."""

# The moment until which a call may wait, or None for ever.
cdef object deadline_of(object timeout)
# What is left until then, as poll(2) wants it: rounded up, -1 for ever.
cdef int milliseconds(object deadline) except -2
