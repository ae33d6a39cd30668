# cython: nonecheck=False
"""The types of a map's elements, and values in all their parts."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy, memset

from .arrays cimport Arrays
from .btf cimport Btf, make_btf
from .c cimport bpf, libbpf, uapi
from .c cimport btf as c_btf
from .call cimport note_missing
from .codec cimport Codec, RAW, codec_of_btf, shown
from .definition cimport per_cpu
from .elements cimport sleeps
from .kinds cimport key_codec_of_kind, value_codec_of_kind

from .definition import possible_cpus

libbpf.pylbpf_on_missing = note_missing


cdef object dtype_in(Btf types, unsigned int id, Py_ssize_t size):
    """What a type is to numpy; None of what has no values or another size."""
    if id == 0:
        return None
    try:
        dtype = types.dtype(id)
    except (ValueError, IndexError):
        return None
    return dtype if dtype.itemsize == size else None


cdef class Typed(Arrays):
    """The part of Map that knows what keys and values are."""

    cdef int ready(self) except -1:
        """Choose how keys and values are shown. From when the map is there, its sizes and types stay."""
        if self.value_codec is None:
            self.known = self.descriptor()
            self.parts = possible_cpus() if per_cpu(self.kind()) else 0
            self.value_room = self.value_bytes()
            self.sleepy = sleeps(self.kind())
            self.key_codec = self.choose_key_codec()
            self.value_codec = self.choose_value_codec()
            self.settle()
        return 0

    cdef int settle(self) except -1:
        """See what follows from the choice."""
        self.quick = self.quick_value = 0
        if self.key_codec is None:
            return 0
        self.key_codec.is_key = True
        if self.parts == 0 and self.value_room <= 8 * SHORT_WORDS and not self.sleepy:
            self.quick = self.key_codec.plain
            self.quick_value = self.value_codec.plain
        return 0

    cdef Codec choose_key_codec(self):
        cdef str what = f"a key of {self}"
        cdef Codec codec = key_codec_of_kind(self.kind(), self.key_bytes(), what)
        cdef unsigned int id
        if codec is not None or self.key_bytes() == 0:
            return codec
        id = libbpf.bpf_map__btf_key_type_id(self.ptr) if self.ptr != NULL else self.kernel.info.btf_key_type_id
        if id == 0 and self.ptr != NULL:
            codec = self.declared_codec("key", self.key_bytes(), what)
            self.key_said = codec is not None
        return codec_of_btf(self._types(), id, self.key_bytes(), what) if codec is None else codec

    cdef Codec choose_value_codec(self):
        cdef str what = f"a value of {self}"
        cdef Codec codec = value_codec_of_kind(self.kind(), self.part_bytes(), self.flag_bits(), what)
        cdef unsigned int id
        if codec is not None:
            return codec
        id = libbpf.bpf_map__btf_value_type_id(self.ptr) if self.ptr != NULL else self.kernel.info.btf_value_type_id
        if id == 0 and self.ptr != NULL:
            codec = self.declared_codec("value", self.part_bytes(), what)
            self.value_said = codec is not None
        return codec_of_btf(self._types(), id, self.part_bytes(), what) if codec is None else codec

    cdef Codec declared_codec(self, str side, Py_ssize_t size, str what):
        """What the object's source says of kinds for which the kernel wants no types, so that libbpf forgets them."""
        cdef c_btf.btf *types = libbpf.bpf_object__btf(self.handle.ptr)
        cdef Btf btf
        cdef Codec codec
        if types == NULL or self.others_types():
            return None
        btf = make_btf(self.handle, types)
        try:
            declared = [each.type for each in btf.members(".maps") if each.name == self.name]
            ids = [btf.target(each.type) for each in btf.members(btf.target(declared[0])) if each.name == side]
            codec = codec_of_btf(btf, ids[0], size, what)
        except (KeyError, ValueError, IndexError):
            return None             # it is of no such section, or has no types
        return None if codec.form == RAW else codec

    def _types(self):
        """The Btf that the map's types are in, or None: of its object, or of the kernel. Source: bpf_object__btf()."""
        cdef c_btf.btf *types
        cdef unsigned int others
        if self.ptr != NULL:
            self.live()
            others = self.others_types()
            if others:
                try:
                    return Btf.from_id(others)
                except PermissionError:
                    return None
            types = libbpf.bpf_object__btf(self.handle.ptr)
            return None if types == NULL else make_btf(self.handle, types)
        self.descriptor()
        if self.kernel.info.btf_id == 0:
            return None
        if self.kernel.types is None:
            self.kernel.types = Btf.from_id(self.kernel.info.btf_id)
        return self.kernel.types

    cdef unsigned int others_types(self) except? 0xffffffff:
        """The number of the types in the kernel, if the map was made by somebody else with types of theirs; else 0."""
        cdef uapi.bpf_map_info info
        cdef uapi.bpf_btf_info own
        cdef unsigned int length = sizeof(info)
        cdef int fd = libbpf.bpf_map__fd(self.ptr)
        memset(&info, 0, sizeof(info))
        # Before it is made, its number may stand for nothing or for no map at all.
        if fd < 0 or bpf.bpf_obj_get_info_by_fd(fd, &info, &length) < 0 or info.btf_id == 0:
            return 0
        memset(&own, 0, sizeof(own))
        length = sizeof(own)
        fd = libbpf.bpf_object__btf_fd(self.handle.ptr)
        if fd >= 0 and bpf.bpf_obj_get_info_by_fd(fd, &own, &length) == 0 and own.id == info.btf_id:
            return 0
        return info.btf_id

    def _said(self):
        """The dtypes that create() or typed() gave to keys and values, or None."""
        return (self.key_codec.numpy_dtype() if self.key_said else None,
                self.value_codec.numpy_dtype() if self.value_said else None)

    def _declared(self):
        """The dtypes that the object's own types give to keys and values, or None."""
        types = None if self.ptr == NULL else self._types()
        if types is None:
            return None, None
        return (dtype_in(types, libbpf.bpf_map__btf_key_type_id(self.ptr), self.key_bytes()),
                dtype_in(types, libbpf.bpf_map__btf_value_type_id(self.ptr), self.part_bytes()))

    cdef int require_keys(self) except -1:
        self.ready()
        if self.key_codec is None:
            raise TypeError(f"{self} has no keys")
        return 0

    cdef object decode_value(self, const char *data):
        cdef Py_ssize_t stride, at
        cdef list parts
        if self.parts == 0:
            return shown(self.value_codec, data)
        stride = rounded(self.value_codec.size)
        parts = []
        for at in range(self.parts):
            parts.append(self.value_codec.decode(data + at * stride))
        return parts

    cdef int encode_value(self, object value, char *out, bint single) except -1:
        cdef Py_ssize_t stride, at
        cdef Py_buffer buffer
        cdef bint fits
        if self.parts == 0 or single:
            return self.value_codec.encode(value, out)
        stride = rounded(self.value_codec.size)
        memset(out, 0, self.value_room)
        if isinstance(value, (bytes, bytearray, memoryview)):
            # What a subclass says of its length is not asked.
            PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE)
            fits = buffer.len == self.value_room
            if fits:
                memcpy(out, buffer.buf, self.value_room)
            PyBuffer_Release(&buffer)
            if fits:
                return 0
        if not hasattr(value, "__len__") or isinstance(value, (str, bytes, dict)):
            raise TypeError(f"a value of {self} is a list of one for each of {self.parts} possible CPUs, "
                            f"not {type(value).__name__}")
        if len(value) != self.parts:
            raise ValueError(f"a value of {self} has {self.parts} parts, one for each possible CPU, not {len(value)}")
        at = 0
        for part in value:
            if at == self.parts:
                raise ValueError(f"a value of {self} has {self.parts} parts")
            self.value_codec.encode(part, out + at * stride)
            at += 1
        if at < self.parts:
            raise ValueError(f"a value of {self} has {self.parts} parts, not {at}")
        return 0
