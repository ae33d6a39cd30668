"""Many links released in one go."""
# Release open links in this order, and wait until all is closed, or only until no program fires any more. Return the
# number for wait_closed(). What fails is raised at the end, with the other failures in its `errors`.
cdef unsigned long long detach(list links, object threads=*, bint wait=*, bint expedite=*, object on_progress=*) except? 0

# For what works through links one after the other: nanoseconds without looking for signals, and a cheap clock.
cdef long long PATIENCE
cdef long long now() noexcept nogil
