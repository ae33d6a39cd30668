"""The global variables of an object, by name."""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

from .btf cimport Btf
from .arena cimport arena_with_variables
from .c cimport libbpf, uapi
from .c cimport btf as c_btf
from .datasec cimport ARENA_SECTION, Section, make_section
from .handle cimport Handle
from .variable cimport SYMBOL, Variable, make_variable

cdef extern from "Python.h":
    object PyObject_GenericGetAttr(object self, object name)

cdef enum:
    RECENT = 32


cdef inline size_t place_of(object name) noexcept:
    # Names in code are interned, as those of variables are: one address for each.
    return (<size_t><PyObject *>name >> 4) % RECENT


@cython.final
cdef class Globals:
    """Global variables of an object by name: ``obj.globals.rate = 5``, or ``obj.globals["rate"]``; dir() lists them.

    They are read and written where they are, in libbpf's memory before load and in the kernel's afterwards: no call is
    made. Numbers are int and float, ``bool`` is bool, an enum is a member of an IntEnum (set it by number or name), ``char[N]``
    is bytes without the NULs at the end (set it with bytes or str). Arrays and structs are live numpy views; while one
    is in use, load, close and resizing of the object raise BufferError. They are set as a whole with arrays, lists,
    dicts or bytes. Constants (``.rodata``) can be set before load only, kconfig externs are known after it, a ksym extern
    is its address.

    A name that is in several sections is ``obj.globals[".data", "name"]``. An unknown one is an AttributeError or KeyError,
    a wrong type is a TypeError, what is out of range a ValueError, what is read-only a StateError.
    Source: bpf_map__initial_value().
    """

    cdef Handle handle
    cdef dict table                 # name -> Variable, or a list of them
    cdef dict sections              # (section, name[, number]) -> Variable
    cdef PyObject *recent[RECENT]   # Variables that were found last, at places that their names' addresses give; references

    def __init__(self):
        raise TypeError("global variables come from Object.globals")

    def __dealloc__(self):
        cdef int place
        for place in range(RECENT):
            Py_XDECREF(self.recent[place])

    def __getattribute__(self, name):
        cdef PyObject *found = self.recent[place_of(name)]
        if found != NULL and (<Variable>found).name is name:
            return (<Variable>found).get()
        if isinstance(name, str) and name not in self.table and name[:2] == "__":
            return PyObject_GenericGetAttr(self, name)
        return self.attribute(name).get()

    def __setattr__(self, name, value):
        cdef PyObject *found = self.recent[place_of(name)]
        if found != NULL and (<Variable>found).name is name:
            (<Variable>found).set(value)
        else:
            self.attribute(name).set(value)

    cdef Variable attribute(self, object name):
        cdef Variable variable = self.find(name, AttributeError)
        cdef int place
        cdef PyObject *before
        if type(name) is str:
            place = place_of(variable.name)
            before = self.recent[place]
            Py_INCREF(variable)
            self.recent[place] = <PyObject *>variable
            Py_XDECREF(before)
        return variable

    def __getitem__(self, name):
        return self.find(name, KeyError).get()

    def __setitem__(self, name, value):
        self.find(name, KeyError).set(value)

    def __contains__(self, name):
        return type(self.table.get(name)) is Variable or name in self.sections

    def __iter__(self):
        """Names; of variables with equal names the pairs of section and name."""
        return iter([key for name, found in self.table.items()
                     for key in ([name] if type(found) is Variable else
                                 [key for key, variable in self.sections.items() if variable in found])])

    def __len__(self):
        return len(self.sections)

    def __dir__(self):
        return sorted(self.table)

    def __repr__(self):
        return f"<Globals of {self.handle.name}: {', '.join(self.table) or 'none'}>"

    cdef Variable find(self, name, error):
        found = self.table.get(name) if isinstance(name, str) else self.sections.get(name)
        if type(found) is Variable:
            return found
        if found is not None:
            places = " or ".join(repr(key) for key, variable in self.sections.items() if variable in found)
            raise error(f"{self.handle.name} has {len(found)} global variables {name!r}: ask for {places}")
        if not isinstance(name, (str, tuple)):
            raise TypeError(f"global variables have names, not {name!r}")
        from difflib import get_close_matches
        close = get_close_matches(name if isinstance(name, str) else str(name[-1:]), self.table, 3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise error(f"{self.handle.name} has no global variable {name!r}{hint}")


cdef int add_section(Globals globals, Btf btf, Section section) except -1:
    cdef c_btf.btf *types = btf.live()
    cdef const uapi.btf_type *datasec = c_btf.btf__type_by_id(types, section.datasec)
    cdef const uapi.btf_var_secinfo *places
    cdef Variable variable
    cdef unsigned int i
    if datasec == NULL or not c_btf.btf_is_datasec(datasec):
        return 0
    for i in range(c_btf.btf_vlen(datasec)):
        places = c_btf.btf_var_secinfos(datasec)
        if not c_btf.btf_is_var(c_btf.btf__type_by_id(types, places[i].type)):
            continue
        variable = make_variable(btf, section, i, &places[i])
        if variable.name == "" or variable.kind == SYMBOL and variable.name == "dummy_ksym":
            continue
        key = (section.name, variable.name)
        number = 0
        while key in globals.sections:
            number += 1
            key = (section.name, variable.name, number)
        globals.sections[key] = variable
        others = globals.table.get(variable.name)
        if others is None:
            globals.table[variable.name] = variable
        else:
            globals.table[variable.name] = [*(others if type(others) is list else [others]), variable]
    return 0


def make_globals(object):
    """Object.globals when it is asked for the first time."""
    cdef Btf btf = object.btf
    cdef Globals globals = Globals.__new__(Globals)
    cdef libbpf.bpf_map *map
    cdef bytes raw
    cdef Handle handle
    globals.table = {}
    globals.sections = {}
    if btf is None:
        raise ValueError(f"{object.name} has no BTF, which says where its global variables are")
    globals.handle = handle = btf.handle
    btf.made()
    for number in btf:
        if btf.kind(number) != uapi.BTF_KIND_DATASEC:
            continue
        name = btf.name(number)
        if name == ".ksyms":
            add_section(globals, btf, make_section(handle, NULL, name, number))
            continue
        # By the section's name, which a map keeps when it takes name and types of one that was there before.
        raw = name.encode("utf-8", "surrogateescape")
        if name == ARENA_SECTION:
            map = arena_with_variables(handle.live())
        else:
            map = libbpf.bpf_object__find_map_by_name(handle.live(), raw) if name else NULL
            if map != NULL and not libbpf.bpf_map__is_internal(map):
                continue
        if map != NULL:
            add_section(globals, btf, make_section(handle, map, name, number))
    return globals
