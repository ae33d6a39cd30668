from .codec cimport Codec


# How kinds of maps that mean something of their own show their keys and values; None for all others.
cdef Codec key_codec_of_kind(int type, Py_ssize_t size, str what)
cdef Codec value_codec_of_kind(int type, Py_ssize_t size, unsigned int flags, str what)
