"""The maps of an object, by name."""
from _collections_abc import Mapping as _Mapping

from .c cimport libbpf
from .handle cimport Handle
from .map cimport make_map

from .contents import unknown


class Maps(_Mapping):
    """The maps of an object by name, in the order of the file. Each look-up makes a new, equal Map."""

    def __init__(self, handle):
        self._handle = handle

    def __getitem__(self, name):
        cdef Handle handle = self._handle
        cdef libbpf.bpf_object *object = handle.live()
        cdef bytes raw
        cdef libbpf.bpf_map *map = NULL
        if isinstance(name, str):
            try:
                raw = (<str>name).encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                raw = b""
            if raw and b"\0" not in raw:
                map = libbpf.bpf_object__find_map_by_name(object, raw)
        if map == NULL:
            raise unknown("map", name, self, handle.name)
        return make_map(handle, map)

    def __iter__(self):
        cdef Handle handle = self._handle
        cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(handle.live(), NULL)
        while map != NULL:
            yield libbpf.bpf_map__name(map).decode("utf-8", "surrogateescape")
            map = libbpf.bpf_object__next_map(handle.live(), map)

    def __len__(self):
        cdef libbpf.bpf_object *object = (<Handle>self._handle).live()
        cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(object, NULL)
        cdef Py_ssize_t count = 0
        while map != NULL:
            count += 1
            map = libbpf.bpf_object__next_map(object, map)
        return count

    def __repr__(self):
        return f"<Maps: {', '.join(self) if (<Handle>self._handle).usable() else 'closed'}>"
