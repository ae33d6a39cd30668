"""The programs of an object, by name."""
from _collections_abc import Mapping as _Mapping

from .c cimport libbpf
from .handle cimport Handle
from .program cimport make_program


def unknown(kind, name, names, owner):
    import difflib
    close = difflib.get_close_matches(str(name), list(names), 3)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    return KeyError(f"no {kind} named {name!r} in {owner}{hint}")


class Programs(_Mapping):
    """The programs of an object by name, in the order of the file. Each look-up makes a new, equal Program."""

    def __init__(self, handle):
        self._handle = handle

    def __getitem__(self, name):
        cdef Handle handle = self._handle
        cdef libbpf.bpf_object *object = handle.live()
        cdef bytes raw
        cdef libbpf.bpf_program *program = NULL
        if isinstance(name, str):
            try:
                raw = (<str>name).encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                raw = b""
            if raw and b"\0" not in raw:
                program = libbpf.bpf_object__find_program_by_name(object, raw)
        if program == NULL:
            raise unknown("program", name, self, handle.name)
        return make_program(handle, program)

    def __iter__(self):
        cdef Handle handle = self._handle
        cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(handle.live(), NULL)
        while program != NULL:
            yield libbpf.bpf_program__name(program).decode("utf-8", "surrogateescape")
            program = libbpf.bpf_object__next_program(handle.live(), program)

    def __len__(self):
        cdef libbpf.bpf_object *object = (<Handle>self._handle).live()
        cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(object, NULL)
        cdef Py_ssize_t count = 0
        while program != NULL:
            count += 1
            program = libbpf.bpf_object__next_program(object, program)
        return count

    def values(self):
        """Iterate over the programs, without looking each up by name."""
        cdef Handle handle = self._handle
        cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(handle.live(), NULL)
        while program != NULL:
            yield make_program(handle, program)
            program = libbpf.bpf_object__next_program(handle.live(), program)

    def items(self):
        """Iterate over (name, program)."""
        for program in self.values():
            yield program.name, program

    def __repr__(self):
        return f"<Programs: {', '.join(self) if (<Handle>self._handle).usable() else 'closed'}>"
