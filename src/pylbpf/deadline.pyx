"""How long a call may wait: seconds from users, a moment inside, milliseconds for the kernel. And how much it may take."""
from _operator import index as _index

from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

cdef double FOREVER = float("inf")


cdef double now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec + time.tv_nsec * 1e-9


cdef void a_while_from_now(timespec *until) noexcept nogil:
    clock_gettime(CLOCK_REALTIME, until)
    until.tv_nsec += LONGEST_WAIT
    if until.tv_nsec >= 1000000000:
        until.tv_nsec -= 1000000000
        until.tv_sec += 1


cdef double deadline_of(object timeout, str what="timeout") except? -1:
    if timeout is None:
        return FOREVER
    cdef double seconds
    if isinstance(timeout, bool) or not (hasattr(timeout, "__float__") or hasattr(timeout, "__index__")):
        raise TypeError(f"{what} must be seconds or None, not {type(timeout).__name__}")
    seconds = float(timeout)
    if seconds != seconds:
        raise ValueError(f"{what} is not a number")
    return max(1e-9, now() + seconds)           # 0 is no moment


cdef int milliseconds(double deadline) noexcept nogil:
    cdef double left = deadline - now()
    return 0 if left <= 0 else <int>min(left * 1000 + 1, 86400000.0)


cdef size_t limit_of(object number, str what) except 0:
    if number is None:
        return <size_t>-1
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise TypeError(f"{what} must be a number or None, not {type(number).__name__}")
    number = _index(number)
    if number < 1:
        raise ValueError(f"{what} is 1 or more, not {number}")
    return number
