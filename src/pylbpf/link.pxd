from .c cimport libbpf
from .call cimport Call
from .handle cimport Handle, Place

cdef enum Kind:
    PLAIN_LINK
    USDT_LINK           # has no descriptor of its own, and shares the object's USDT manager
    STRUCT_OPS_LINK
    BARE_LINK           # a descriptor that libbpf knows nothing of: `ptr` is a Bare

cdef struct Bare:
    int fd

cdef enum:
    # In the place of a perf event's descriptor:
    NO_EVENT = -1       # there is none, or none is known
    HIDDEN_EVENT = -2   # libbpf has opened one and does not tell which


cdef class Linked:
    # What links are about: a program.
    cdef Handle handle              # of its object, or None

    # See that it is loaded, and stays so until unlock() has what begin() returned; number() is its descriptor meanwhile.
    cdef bint begin(self, str operation) except -1
    cdef void unlock(self, bint locked) noexcept
    cdef int number(self) noexcept
    # Its descriptor, which stays open until let_go(); meanwhile other threads may use the object.
    cdef int hold(self) except -1
    cdef void let_go(self) noexcept
    cdef int kind(self) except -1       # enum bpf_prog_type


cdef class Link:
    cdef libbpf.bpf_link *ptr
    cdef Handle handle
    cdef object subject             # the Program or Map, or None for a link from a pin
    cdef object hook                # what it is attached to, in words
    cdef unsigned int generation
    cdef unsigned long worker       # thread in a call that uses the pointer without the GIL, 0 for none
    cdef Kind kind
    cdef bint borrowed              # of a struct_ops map without BPF_F_LINK: its descriptor is the map's
    cdef int event                  # perf event that the link closes
    cdef Place place                # among the links of the object, as long as it is open
    cdef object pinned              # where a BARE_LINK is pinned
    cdef object __weakref__

    cdef libbpf.bpf_link *live(self) except NULL
    cdef int number(self) noexcept
    cdef str instead(self)
    cdef int belong_to(self, object subject, Handle handle) except -1
    cdef int wait_idle(self, str operation) except -1
    cdef bint identify(self, unsigned int *type, unsigned int *id) except -1
    cdef int refuse(self, unsigned int type, str reason, str operation) except -1
    cdef int done(self, Call *call, int code, str operation, object subject) except -1
    cdef int put(self, str operation, int new, int old, unsigned int flags, tuple types) except -1
    cdef int release(self, str operation) except -1


cdef Link make_link(libbpf.bpf_link *ptr, Handle handle, object subject, object hook)
cdef Link make_map_link(libbpf.bpf_link *ptr, Handle handle, object map, int fd, object hook)
# Wrap a link's descriptor, which is then owned.
cdef Link link_of_descriptor(int fd, Handle handle, object subject, object hook)
# Instead of bpf_link__destroy(), for all kinds.
cdef int destroy_link(libbpf.bpf_link *ptr, Kind kind) noexcept nogil
cdef int close_links(Handle handle) except -1
cdef unsigned int program_on_event(int link) noexcept
cdef dict programs_of_events()
cdef list free_links(Handle handle)
