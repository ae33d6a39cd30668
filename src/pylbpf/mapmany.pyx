# cython: nonecheck=False
"""Many elements of a map whose keys are given: looked up, updated, deleted in batches, without the GIL."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport ENOENT
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from .c cimport bpf, libbpf
from .call cimport note_missing
from .mapbatch cimport Batch, has_no_such, refuse
from .paths cimport number64_of

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    CHUNK = 1 << 15         # elements at once: some milliseconds, between which signals are handled
    STRIDE = 1 << 13        # one by one


cdef class Given:
    """Keys and values as the kernel wants them, held until the call is over, and how many of them are done."""
    cdef Batch batch
    cdef Py_buffer keys
    cdef Py_buffer values
    cdef bint keyed, valued
    cdef Py_ssize_t total, done, deleted
    cdef bint single

    def __cinit__(self, Batch batch not None, keys, values, bint writable):
        self.batch = batch
        if keys is not None:
            PyObject_GetBuffer(keys, &self.keys, PyBUF_SIMPLE)
            self.keyed = True
            self.total = self.keys.len // max(1, batch.key_size)
        if values is not None:
            PyObject_GetBuffer(values, &self.values, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
            self.valued = True
            if not self.keyed:
                self.total = self.values.len // max(1, batch.value_bytes)
        if self.keyed != (batch.key_size != 0):
            raise TypeError(f"{batch.map} has keys" if batch.key_size else f"{batch.map} has no keys")
        if (self.keyed and self.keys.len != self.total * batch.key_size
                or self.valued and self.values.len != self.total * batch.value_bytes):
            raise ValueError(f"{batch.map} has keys of {batch.key_size} bytes and values of {batch.value_bytes}, "
                             f"not {self.keys.len} and {self.values.len} bytes for {self.total} elements")

    def __dealloc__(self):
        if self.keyed:
            PyBuffer_Release(&self.keys)
        if self.valued:
            PyBuffer_Release(&self.values)

    cdef const void *key(self) noexcept nogil:
        return <char *>self.keys.buf + self.done * self.batch.key_size if self.keyed else NULL

    cdef void *value(self) noexcept nogil:
        return <char *>self.values.buf + self.done * self.batch.value_bytes

    cdef int update(self, uint64_t flags) noexcept nogil:
        """Update the next elements; stops at the first that fails, with `done` telling which."""
        cdef bpf.bpf_map_batch_opts opts
        cdef uint32_t asked = <uint32_t>min(self.total - self.done, <Py_ssize_t>CHUNK)
        cdef uint32_t count = asked
        cdef Py_ssize_t end
        cdef int code
        if not self.single:
            memset(&opts, 0, sizeof(opts))
            opts.sz = sizeof(opts)
            opts.elem_flags = flags
            code = bpf.bpf_map_update_batch(self.batch.fd, self.key(), self.value(), &count, &opts)
            # What fails as a whole leaves the count as it was.
            if code == 0 or count < asked:
                self.done += count
                return code
            if not has_no_such(code):
                return code
            self.single = True
        end = self.done + min(asked, <uint32_t>STRIDE)
        while self.done < end:
            code = bpf.bpf_map_update_elem(self.batch.fd, self.key(), self.value(), flags)
            if code < 0:
                return code
            self.done += 1
        return 0

    cdef int delete(self) noexcept nogil:
        """Delete the next keys; those that are not there count as done, but not as deleted."""
        cdef uint32_t asked = <uint32_t>min(self.total - self.done, <Py_ssize_t>CHUNK)
        cdef uint32_t count = asked
        cdef Py_ssize_t end
        cdef int code
        if not self.single:
            code = bpf.bpf_map_delete_batch(self.batch.fd, self.key(), &count, NULL)
            if code == 0 or count < asked:
                self.done += count
                self.deleted += count
                if code == -ENOENT:
                    self.done += 1
                    return 0
                return code
            if not has_no_such(code):
                return code
            self.single = True
        end = self.done + min(asked, <uint32_t>STRIDE)
        while self.done < end:
            code = bpf.bpf_map_delete_elem(self.batch.fd, self.key())
            if code == 0:
                self.deleted += 1
            elif code != -ENOENT:
                return code
            self.done += 1
        return 0

    cdef int lookup(self, char *found, uint64_t flags) noexcept nogil:
        """Look up the next keys; what is not there is left as zeros."""
        cdef Py_ssize_t end = min(self.total, self.done + STRIDE)
        cdef int code
        while self.done < end:
            code = bpf.bpf_map_lookup_elem_flags(self.batch.fd, self.key(), self.value(), flags)
            if code < 0 and code != -ENOENT:
                return code
            found[self.done] = code == 0
            if code < 0:
                memset(self.value(), 0, self.batch.value_bytes)
            self.done += 1
        return 0

    cdef int refuse(self, int code, str operation) except -1:
        if code == -ENOENT and self.keyed:
            raise KeyError((<char *>self.key())[:self.batch.key_size])
        return refuse(code, f"{operation} element {self.done} of {self.total} in", self.batch.map)


def update_many(Batch batch not None, keys, values, *, flags=0):
    """Set the values of many keys, in order. After an exception its ``done`` says how many were set."""
    cdef uint64_t bits = number64_of(flags, "flags")
    cdef Given elements = Given(batch, keys, values, False)
    cdef int code
    try:
        while elements.done < elements.total:
            with nogil:
                code = elements.update(bits)
            if code < 0:
                elements.refuse(code, "update")
            PyErr_CheckSignals()
    except BaseException as error:
        error.done = elements.done
        raise


def delete_many(Batch batch not None, keys):
    """Delete many keys and return how many were there. After an exception its ``done`` says how many were gone through."""
    cdef Given elements = Given(batch, keys, None, False)
    cdef int code
    try:
        while elements.done < elements.total:
            with nogil:
                code = elements.delete()
            if code < 0:
                elements.refuse(code, "delete")
            PyErr_CheckSignals()
    except BaseException as error:
        error.done, error.deleted = elements.done, elements.deleted
        raise
    return elements.deleted


def lookup_many(Batch batch not None, keys, values, found, *, flags=0):
    """Look up many keys: values go to a writable buffer, and to ``found`` one byte for each key, 1 or 0."""
    cdef uint64_t bits = number64_of(flags, "flags")
    cdef Given elements = Given(batch, keys, values, True)
    cdef Py_buffer flag_buffer
    cdef int code
    PyObject_GetBuffer(found, &flag_buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
    try:
        if flag_buffer.len != elements.total:
            raise ValueError(f"{elements.total} keys, but room for {flag_buffer.len} flags")
        while elements.done < elements.total:
            with nogil:
                code = elements.lookup(<char *>flag_buffer.buf, bits)
            if code < 0:
                elements.refuse(code, "look up")
            PyErr_CheckSignals()
    finally:
        PyBuffer_Release(&flag_buffer)
