"""How long a call may wait, and how much it may take."""

from posix.time cimport timespec

cdef double now() noexcept nogil
# The moment until which a call may wait; infinity for None.
cdef double deadline_of(object timeout, str what=*) except? -1
# When a wait of ours is to look for signals: LONGEST_WAIT from now, for pthreads' timed waits.
cdef enum:
    LONGEST_WAIT = 100000000    # nanoseconds
cdef void a_while_from_now(timespec *until) noexcept nogil
# What is left until then, as poll(2) wants it: rounded up, at most a day.
cdef int milliseconds(double deadline) noexcept nogil
# A number of records or bytes, all of them for None.
cdef size_t limit_of(object number, str what) except 0
