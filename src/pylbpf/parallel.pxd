"""One object loaded by several threads, in parts."""
from .c cimport libbpf
from .call cimport Call, Stand
from .corebtf cimport SharedBtf
from .handle cimport Handle
from .opening cimport Request
from .part cimport Part, Plan, Share
from .workers cimport Crew


cdef class Parallel(Crew):
    cdef Handle handle
    cdef Request request
    cdef Plan plan
    cdef Share *shares              # of all programs to be loaded, in the end those of a part together
    cdef size_t count
    cdef size_t given               # how many of them parts load
    cdef size_t parts               # how many there are; after them in plan.parts comes the object itself
    cdef Stand *stands              # of the parts, and for the handle
    cdef Stand *all_stands
    cdef libbpf.bpf_object **objects
    cdef int threads
    cdef int null                   # a descriptor for empty()
    cdef bint dear                  # to open a part costs milliseconds
    cdef bint pointing
    cdef set reused                 # addresses of maps that are not this load's own
    cdef list kept                  # what shares point to
    cdef SharedBtf types            # what parts are relocated against, or None for the kernel's

    cdef int choose(self) except -1
    cdef bint stays(self, libbpf.bpf_program *program, set slots, bint usdt) except -1
    cdef int remember(self, Share *share) except -1
    cdef bint types_are_read(self) except -1
    cdef size_t number(self) except? 0
    cdef int share_types(self) except -1
    cdef void deal_evenly(self, size_t *weights) noexcept
    cdef void deal_less_and_less(self) noexcept
    cdef int deal(self) except -1
    cdef int note_reused(self) except -1
    cdef int load(self, Call *call) except? -1
    cdef void install(self) noexcept
    cdef Part *earliest(self, size_t *place) noexcept
    cdef void report(self, Call *call, Part *failed, size_t place) noexcept
    cdef void give_up(self) noexcept
