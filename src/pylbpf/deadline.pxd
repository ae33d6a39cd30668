"""How long a call may wait, and how much it may take."""

cdef double now() noexcept nogil
# The moment until which a call may wait; infinity for None.
cdef double deadline_of(object timeout, str what=*) except? -1
# What is left until then, as poll(2) wants it: rounded up, at most a day.
cdef int milliseconds(double deadline) noexcept nogil
# A number of records or bytes, all of them for None.
cdef size_t limit_of(object number, str what) except 0
