from .arrays cimport Arrays
from .codec cimport Codec


cdef class Mapping(Arrays):
    cdef Codec key_codec            # None until the first typed use, when the map is there
    cdef Codec value_codec          # of one CPU
    cdef bint key_said              # by create() or typed(), not by the map's own types
    cdef bint value_said
    cdef Py_ssize_t parts           # of a value: one for each possible CPU, or 0
    cdef Py_ssize_t value_room      # bytes of all parts
    cdef int known                  # the descriptor of a map of a loaded object
    cdef bint sleepy                # changes wait for grace periods

    cdef int ready(self) except -1
    cdef Codec choose_key_codec(self)
    cdef Codec choose_value_codec(self)
    cdef unsigned int others_types(self) except? 0xffffffff
    cdef object decode_value(self, const char *data)
    cdef int encode_value(self, object value, char *out, bint single) except -1
    cdef object fetch_typed(self, object key, unsigned long long flags, object cpu, bint delete)
    cdef int store(self, object key, object value, unsigned long long flags, object cpu) except -1
    cdef int remove(self, object key, unsigned long long flags) except -1
    cdef int require_dict(self) except -1
