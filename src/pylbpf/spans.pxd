"""Memory that a forked child does not get."""

cdef struct Span:
    char *start
    size_t length
    Span *next

# From now on a forked child has zeros there, so that nobody looks at nothing, or unmaps what has come there since.
cdef void note_span(Span *span, void *start, size_t length) noexcept
# Before the memory is unmapped; a second time does nothing.
cdef void forget_span(Span *span) noexcept
