"""What goes to C."""
cdef bytes path_bytes(object path)
# Whether it names a file: a str or an os.PathLike. Bytes are contents.
cdef bint is_path(object source) except -1
cdef str path_text(const char *raw)
cdef bytes name_bytes(object name, str what)
# Any integer; TypeError for what would have to be cut or parsed.
cdef object index_of(object value, str what)
cdef unsigned int number_of(object value, str what) except? 0xffffffff
cdef unsigned long long number64_of(object value, str what) except? 0xffffffffffffffff
cdef int signed_of(object value, str what) except? -0x80000000
cdef int get_buffer(object source, Py_buffer *buffer, bint writable, str what) except -1
cdef bint is_of_kind(int fd, str kind) except -1
