"""What is in an object, by name: its programs; its maps have a room of their own, which is imported for them."""
from _collections_abc import ItemsView as _ItemsView
from _collections_abc import Mapping as _Mapping
from _collections_abc import ValuesView as _ValuesView

from .c cimport libbpf
from .handle cimport Handle
from .program cimport make_program


cdef class Kind:
    """One kind of things in an object, which libbpf finds by name and goes through in the order of the file."""

    cdef void *find(self, libbpf.bpf_object *object, const char *name) noexcept:
        return NULL

    cdef void *next(self, libbpf.bpf_object *object, void *item) noexcept:
        return NULL

    cdef const char *name(self, void *item) noexcept:
        return b""

    cdef object make(self, Handle handle, void *item):
        return None


cdef void *item_named(Kind kind, Handle handle, object name) except? NULL:
    cdef libbpf.bpf_object *object = handle.live()
    cdef bytes raw = b""
    if isinstance(name, str):
        try:
            raw = (<str>name).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            pass
    return kind.find(object, raw) if raw and b"\0" not in raw else NULL


class _Values(_ValuesView):
    """Without a look-up by name, which is slow where there are thousands, and names that libbpf cuts may be the same."""

    def __iter__(self):
        cdef Handle handle = self._mapping._handle
        cdef Kind kind = self._mapping._kind
        cdef void *item = kind.next(handle.live(), NULL)
        while item != NULL:
            yield kind.make(handle, item)
            item = kind.next(handle.live(), item)

    def __contains__(self, value):
        return any(each == value for each in self)


class _Items(_ItemsView):
    def __iter__(self):
        for value in self._mapping.values():
            yield value.name, value


class Contents(_Mapping):
    """Things of an object by name, in the order of the file. Each look-up makes a new, equal one."""

    def __init__(self, Handle handle not None):
        self._handle = handle

    def __getitem__(self, name):
        cdef Handle handle = self._handle
        cdef Kind kind = self._kind
        cdef void *item = item_named(kind, handle, name)
        if item == NULL:
            from difflib import get_close_matches
            close = get_close_matches(str(name), list(self), 3)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise KeyError(f"no {kind.noun} named {name!r} in {handle.name}{hint}")
        return kind.make(handle, item)

    def __contains__(self, name):
        return item_named(self._kind, self._handle, name) != NULL

    def get(self, name, default=None):
        """The thing of this name, or the default."""
        return self[name] if name in self else default

    def __iter__(self):
        cdef Handle handle = self._handle
        cdef Kind kind = self._kind
        cdef void *item = kind.next(handle.live(), NULL)
        while item != NULL:
            yield kind.name(item).decode("utf-8", "surrogateescape")
            item = kind.next(handle.live(), item)

    def values(self):
        """The things, in the order of the file."""
        return _Values(self)

    def items(self):
        """(name, thing), in the order of the file."""
        return _Items(self)

    def __len__(self):
        cdef Kind kind = self._kind
        cdef libbpf.bpf_object *object = (<Handle>self._handle).live()
        cdef Py_ssize_t count = 0
        cdef void *item = kind.next(object, NULL)
        while item != NULL:
            count += 1
            item = kind.next(object, item)
        return count

    def __repr__(self):
        return f"<{type(self).__name__}: {', '.join(self) if (<Handle>self._handle).usable() else 'closed'}>"


cdef class ProgramKind(Kind):
    def __cinit__(self):
        self.noun = "program"

    cdef void *find(self, libbpf.bpf_object *object, const char *name) noexcept:
        return libbpf.bpf_object__find_program_by_name(object, name)

    cdef void *next(self, libbpf.bpf_object *object, void *item) noexcept:
        return libbpf.bpf_object__next_program(object, <libbpf.bpf_program *>item)

    cdef const char *name(self, void *item) noexcept:
        return libbpf.bpf_program__name(<libbpf.bpf_program *>item)

    cdef object make(self, Handle handle, void *item):
        return make_program(handle, <libbpf.bpf_program *>item)


class Programs(Contents):
    """The programs of an object by name, in the order of the file. Each look-up makes a new, equal Program."""

    _kind = ProgramKind()
