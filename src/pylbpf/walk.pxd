from .element cimport Element

cdef enum What:
    KEYS, VALUES, ITEMS


cdef class Walk:
    cdef Element map
    cdef What what
    cdef bint busy
    # By chunks, of maps where that is exact: what was read last, and how far it is handed out.
    cdef object batch
    cdef bytearray keys, values
    cdef Py_ssize_t at, count, chunk
    # From key to key, always one ahead, so that the one handed out may be deleted.
    cdef char *memory               # two keys and a value
    cdef char *ahead
    cdef char *other
    cdef Py_ssize_t left
    cdef bint begun
    cdef bint gaps                  # it has keys for places where nothing is

    cdef int in_use(self) except -1
    cdef bint fill(self) except -1
    cdef bint find(self, char **key, char **value) except -1
    cdef int step(self, int fd, const char *key) except -1
    cdef Py_ssize_t length(self) except -1


cdef Walk walk(Element map, What what)
# One that reads no more than it hands out.
cdef Walk stroll(Element map, What what)
