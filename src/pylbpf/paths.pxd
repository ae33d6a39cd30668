"""Text that goes to C."""
cdef bytes path_bytes(object path)
cdef bytes name_bytes(object name, str what)
