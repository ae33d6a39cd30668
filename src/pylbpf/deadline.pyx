"""How long a call may wait: seconds from users, a moment inside, milliseconds for the kernel."""
from time import monotonic as _monotonic


cdef object deadline_of(object timeout):
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be seconds or None, not {type(timeout).__name__}")
    if timeout != timeout:
        raise ValueError("timeout is not a number")
    return None if timeout == float("inf") else _monotonic() + timeout


cdef int milliseconds(object deadline) except -2:
    if deadline is None:
        return -1
    cdef double left = deadline - _monotonic()
    return 0 if left <= 0 else <int>min(left * 1000 + 1, 86400000.0)
