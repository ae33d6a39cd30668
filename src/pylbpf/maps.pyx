"""The maps of an object, by name."""
from libc.string cimport strcmp

from .c cimport libbpf
from .contents cimport Kind
from .handle cimport Handle
from .map cimport make_map

from .contents import Contents


cdef class MapKind(Kind):
    def __cinit__(self):
        self.noun = "map"

    cdef void *find(self, libbpf.bpf_object *object, const char *name) noexcept:
        cdef void *found = libbpf.bpf_object__find_map_by_name(object, name)
        if found == NULL and name[0] == c".":       # libbpf wants the section's name, of which it shows a part only
            found = self.next(object, NULL)
            while found != NULL and strcmp(self.name(found), name):
                found = self.next(object, found)
        return found

    cdef void *next(self, libbpf.bpf_object *object, void *item) noexcept:
        return libbpf.bpf_object__next_map(object, <libbpf.bpf_map *>item)

    cdef const char *name(self, void *item) noexcept:
        return libbpf.bpf_map__name(<libbpf.bpf_map *>item)

    cdef object make(self, Handle handle, void *item):
        return make_map(handle, <libbpf.bpf_map *>item)


class Maps(Contents):
    """The maps of an object by name, in the order of the file. Each look-up makes a new, equal Map."""

    _kind = MapKind()
