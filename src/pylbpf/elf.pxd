"""Checks of an object before libbpf sees it."""

# 0 if libbpf can be trusted with the object, else one of libbpf's own error numbers, negative, and a sentence in
# `problem` that says what is wrong, cut off at `room` bytes. Takes no lock and keeps nothing.
cdef int check_object(const unsigned char *data, size_t size, char *problem, size_t room) noexcept nogil
cdef const char *slot(const unsigned char *data, size_t size, size_t at) noexcept nogil
cdef void hide_slots(unsigned char *data, size_t size) noexcept nogil
