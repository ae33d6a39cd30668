"""From what C reports to what Python raises."""
from .call cimport Call

# Leave `call` and raise what went wrong in it: first an exception of a callback, then `code` if it is negative.
cdef int finish(Call *call, long code, str operation, object subject) except -1
# The same for what keep_call() returned, which stays the caller's.
cdef int finish_kept(Call *kept, long code, str operation, object subject) except -1
# Raise the error of number `code` (positive), without a call in progress.
cdef int fail(int code, str operation, object subject) except -1
cdef int lacks(const char *name, const char *since, object subject) except -1
# Raise NotSupported unless the libbpf that runs is at least this version.
cdef int need(int major, int minor, str what) except -1
# A number, one of libbpf's own too, in words.
cdef str message_of(int number)
