# cython: nonecheck=False
"""One element of a map, by its types."""
cimport cython
from libc.errno cimport E2BIG, EINVAL, ENOENT, EOPNOTSUPP
from libc.stdlib cimport free, malloc
from posix.unistd cimport close as close_fd

from .c cimport bpf, libbpf
from .call cimport note_missing
from .codec cimport Codec, shown_number
from .definition cimport has_indexes
from .errors cimport fail
from .paths cimport number64_of
from .typed cimport SHORT_WORDS, Typed, WORDS, descriptor_of, rounded

from .definition import possible_cpus
from .errors import BpfError, NotSupported

libbpf.pylbpf_on_missing = note_missing

cdef extern from "Python.h":
    bint PyLong_CheckExact(object value)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1

cdef enum:
    NOEXIST = 1
    F_CPU = 8
    ENOTSUPP = 524          # the kernel's own: this kind of map has no such operation

cdef object MISSING = object()
cdef tuple NAMES = ("look up in", "look up in", "update", "delete from")


cdef inline bint plain_number(int size, object value, void *out) noexcept:
    """encode(), without a call for the commonest of all: a number from 0 on, into so many bytes."""
    cdef long long number
    cdef int overflow = 0
    if not PyLong_CheckExact(value):
        return False
    number = PyLong_AsLongLongAndOverflow(value, &overflow)     # of an int it does not fail
    if overflow or number < 0:
        return False
    if size == 8:
        (<long long *>out)[0] = number
        return True
    (<unsigned int *>out)[0] = <unsigned int>number
    return number >> 32 == 0


cdef int ask(Deed deed, int fd, const void *key, void *value, unsigned long long flags) noexcept nogil:
    if deed == LOOKUP:
        return bpf.bpf_map_lookup_elem_flags(fd, key, value, flags) if flags else bpf.bpf_map_lookup_elem(fd, key, value)
    if deed == UPDATE:
        return bpf.bpf_map_update_elem(fd, key, value, flags)
    if deed == DELETE:
        return bpf.bpf_map_delete_elem_flags(fd, key, flags) if flags else bpf.bpf_map_delete_elem(fd, key)
    return bpf.bpf_map_lookup_and_delete_elem_flags(fd, key, value, flags)


cdef class Element(Typed):
    """The part of Map that reads and writes one element."""

    # Keys that are numbers have a short way. What it cannot do, or what goes wrong, is operate()'s.

    @cython.final
    cdef object look_up(self, object key):
        """The value of a key, or MISSING."""
        cdef unsigned long long number
        cdef unsigned long long value[SHORT_WORDS]
        cdef int fd, code
        if self.quick and plain_number(self.quick, key, &number):
            fd = descriptor_of(self)
            code = bpf.bpf_map_lookup_elem(fd, &number, value)
            if code == 0:
                return shown_number(self.quick_value, value) if self.quick_value else self.value_codec.decode(<char *>value)
            if code == -ENOENT:
                return MISSING
        return self.operate(LOOKUP, key, None, 0, None)

    def __getitem__(self, key):
        found = self.look_up(key)
        if found is MISSING:
            raise KeyError(key)
        return found

    def __setitem__(self, key, value):
        cdef unsigned long long number, what
        cdef int fd
        if self.quick_value and self.quick and plain_number(self.quick, key, &number) \
                and plain_number(self.quick_value, value, &what):
            fd = descriptor_of(self)
            if bpf.bpf_map_update_elem(fd, &number, &what, 0) == 0:
                return
        self.operate(UPDATE, key, value, 0, None)

    def __delitem__(self, key):
        cdef unsigned long long number
        cdef int fd
        if self.quick and plain_number(self.quick, key, &number):
            fd = descriptor_of(self)
            if bpf.bpf_map_delete_elem(fd, &number) == 0:
                return
        self.operate(DELETE, key, None, 0, None)

    def __contains__(self, key):
        return self.look_up(key) is not MISSING

    def get(self, key, default=None, *, flags=0, cpu=None):
        """Return the value of a key, or ``default``.

        ``flags``: UpdateFlags.LOCK reads it under its spin lock. ``cpu``: of a per-CPU map, the value of this one alone,
        where the kernel can do that (BPF_F_CPU), else NotSupported. Source: bpf_map_lookup_elem_flags().
        """
        if flags or cpu is not None:
            found = self.operate(LOOKUP, key, None, number64_of(flags, "flags"), cpu)
        else:
            found = self.look_up(key)
        return default if found is MISSING else found

    def set(self, key, value, *, flags=0, cpu=None):
        """Set the value of a key.

        ``flags``: UpdateFlags.NOEXIST (FileExistsError if there is one), EXIST (KeyError if there is none), LOCK.
        ``cpu``: of a per-CPU map, the value of this one alone, see get(). Source: bpf_map_update_elem().
        """
        self.operate(UPDATE, key, value, number64_of(flags, "flags"), cpu)

    def pop(self, key, *default):
        """Delete a key and return its value; if it is not there, ``default`` or KeyError.

        One step in the kernel where it can do that, else two. Source: bpf_map_lookup_and_delete_elem_flags().
        """
        if len(default) > 1:
            raise TypeError(f"pop() takes a key and one default, not {len(default)}")
        found = self.operate(POP, key, None, 0, None)
        if found is not MISSING:
            return found
        if default:
            return default[0]
        raise KeyError(key)

    def setdefault(self, key, default):
        """Set a key unless it is there; return the value it has then.

        One step in the kernel; two in arrays of maps and programs. Source: bpf_map_update_elem().
        """
        cdef unsigned long long flags = NOEXIST
        while True:
            try:
                self.operate(UPDATE, key, default, flags, None)
            except FileExistsError:
                pass
            except BpfError as error:
                # Arrays of descriptors know no flags.
                if error.errno != EINVAL or not flags:
                    raise
                flags = 0
                found = self.look_up(key)
                if found is MISSING:
                    continue
                return found
            found = self.look_up(key)
            if found is not MISSING:    # else somebody has just deleted it
                return found

    cdef object operate(self, Deed deed, object key, object value, unsigned long long flags, object cpu):
        """Do one thing with one element. Of LOOKUP and POP the value, or MISSING; the others raise KeyError."""
        cdef unsigned long long small[WORDS]
        cdef char *room = <char *>small
        cdef char *heap = NULL
        cdef char *parts
        cdef Codec codec
        cdef int fd, code
        self.require_keys()
        codec = self.key_codec
        if cpu is not None:
            flags = self.with_cpu(flags, cpu)
        if rounded(codec.size) + self.value_room > 8 * WORDS:
            room = heap = <char *>malloc(rounded(codec.size) + self.value_room)
            if heap == NULL:
                raise MemoryError()
        try:
            parts = room + rounded(codec.size)
            # What borrows a descriptor comes last.
            if deed == UPDATE and codec.borrows:
                self.encode_value(value, parts, cpu is not None)
            codec.encode(key, room)
            if deed == UPDATE and not codec.borrows:
                self.encode_value(value, parts, cpu is not None)
            if self.sleepy and deed >= UPDATE:
                fd = self.duplicate()       # the map's own may be closed by another thread meanwhile
                with nogil:
                    code = ask(deed, fd, room, parts, flags)
                    close_fd(fd)
            else:
                fd = descriptor_of(self)    # after the last code of the user's
                code = ask(deed, fd, room, parts, flags)
            if code == 0:
                if deed >= UPDATE:
                    return None
                return self.decode_value(parts) if cpu is None else self.value_codec.decode(parts)
        finally:
            if codec.opened >= 0:
                codec.close_opened()
            if self.value_codec.opened >= 0:
                self.value_codec.close_opened()
            if heap != NULL:
                free(heap)
        if code == -ENOENT and deed < UPDATE:
            return MISSING
        if code == -ENOENT or code == -E2BIG and has_indexes(self.kind()):
            raise KeyError(key)
        if deed == POP and (code == -ENOTSUPP or code == -EINVAL or code == -EOPNOTSUPP):
            found = self.operate(LOOKUP, key, None, flags, cpu)
            if found is not MISSING:
                self.operate(DELETE, key, None, 0, None)
            return found
        self.refuse(code, NAMES[deed], cpu)

    cdef unsigned long long with_cpu(self, unsigned long long flags, object cpu) except? 0xffffffffffffffff:
        """Flags for the value of one CPU."""
        if not self.parts:
            raise ValueError(f"cpu is for maps that have a value for each CPU: {self} is of type {self.type.name}")
        if isinstance(cpu, bool) or not hasattr(cpu, "__index__"):
            raise TypeError(f"cpu is a number, not {type(cpu).__name__}")
        cpu = cpu.__index__()
        if not 0 <= cpu < possible_cpus():
            raise ValueError(f"cpu is one of {possible_cpus()} possible CPUs, not {cpu!r}")
        if flags >> 32:
            raise ValueError(f"flags {flags:#x} name a CPU, as cpu does")
        return flags | F_CPU | <unsigned long long>cpu << 32

    cdef int refuse(self, int code, str operation, object cpu) except -1:
        """Raise what a negative result means."""
        if code == -EINVAL and cpu is not None:
            raise NotSupported(EOPNOTSUPP, "this kernel cannot read or write the value of one CPU by itself (BPF_F_CPU)",
                               operation, str(self))
        fail(EOPNOTSUPP if code == -ENOTSUPP else -code, operation, self)
