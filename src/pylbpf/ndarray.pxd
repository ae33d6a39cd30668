"""numpy arrays over memory of ours."""

# An array of one dimension over `count` items that lie `stride` bytes apart; it keeps `base`, which keeps the memory.
cdef object array_over(object base, const void *data, Py_ssize_t count, Py_ssize_t stride, object dtype, bint writable)
