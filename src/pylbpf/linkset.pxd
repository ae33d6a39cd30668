"""Links that were made together."""

cdef object set_of(list links, list skipped, list errors)
