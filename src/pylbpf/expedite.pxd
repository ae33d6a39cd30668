"""Grace periods that end sooner, for a while."""

cdef int begin_expedite() except -1
cdef void end_expedite() noexcept
