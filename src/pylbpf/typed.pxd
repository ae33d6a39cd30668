from .arrays cimport Arrays
from .codec cimport Codec
from .handle cimport LOADED, fork_generation


cdef class Typed(Arrays):
    cdef Codec key_codec            # None until the first typed use, when the map is there; and of maps without keys
    cdef Codec value_codec          # of one CPU
    cdef bint key_said              # by create() or typed(), not by the map's own types
    cdef bint value_said
    cdef bint sleepy                # changes wait for grace periods
    cdef int quick                  # 8 or 4: keys are unsigned numbers of so many bytes, and values are short; else 0
    cdef int quick_value            # 8 or 4: so are values; else 0
    cdef int known                  # the descriptor of a map of a loaded object
    cdef Py_ssize_t parts           # of a value: one for each possible CPU, or 0
    cdef Py_ssize_t value_room      # bytes of all parts

    cdef int ready(self) except -1
    cdef int settle(self) except -1
    cdef Codec choose_key_codec(self)
    cdef Codec choose_value_codec(self)
    cdef Codec declared_codec(self, str side, Py_ssize_t size, str what)
    cdef unsigned int others_types(self) except? 0xffffffff
    cdef int require_keys(self) except -1
    cdef object decode_value(self, const char *data)
    cdef int encode_value(self, object value, char *out, bint single) except -1


cdef enum:
    WORDS = 64              # of 8 bytes, on the stack for a key and a value
    SHORT_WORDS = 32        # ... for a value alone


cdef inline Py_ssize_t rounded(Py_ssize_t size) noexcept nogil:
    return (size + 7) & ~7


cdef inline int descriptor_of(Typed map) except -1:
    """descriptor(), without a call where nothing has happened to a loaded object, or to a map by itself."""
    if map.handle is not None:
        if map.handle.phase == LOADED and map.handle.generation == fork_generation():
            return map.known
    elif map.kernel is not None and map.kernel.fd >= 0 and map.kernel.generation == fork_generation():
        return map.kernel.fd
    return map.descriptor()
