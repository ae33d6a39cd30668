"""Types and values of BTF as text, as libbpf writes them."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.errno cimport errno
from libc.stdlib cimport free
from libc.string cimport memcpy, memset
cimport cython

from .btf cimport Btf, Made
from .c cimport btf as c_btf
from .c cimport uapi
from .call cimport Call, enter
from .errors cimport finish

cdef extern from "btfdump_text.h" nogil:
    struct pylbpf_text:
        char *at
        size_t length
        size_t room
        int failed

    void pylbpf_text_print(void *context, const char *format, c_btf.va_list arguments) noexcept

cdef enum:
    # libbpf reads whole numbers where a bit field begins, behind the end of a packed struct; up to 1.3 it refuses that.
    PADDING = 16
    DEFINED = 1 << uapi.BTF_KIND_STRUCT | 1 << uapi.BTF_KIND_UNION | 1 << uapi.BTF_KIND_ENUM | \
        1 << uapi.BTF_KIND_ENUM64 | 1 << uapi.BTF_KIND_TYPEDEF | 1 << uapi.BTF_KIND_FWD


@cython.final
cdef class Printer:
    """A dumper of libbpf's and what it has printed. It never asks for the types when it is freed."""

    cdef c_btf.btf_dump *dump
    cdef pylbpf_text text

    def __dealloc__(self):
        if self.dump != NULL:
            c_btf.btf_dump__free(self.dump)
        free(self.text.at)

    cdef str take(self):
        """What was printed since the last time."""
        cdef size_t length = self.text.length
        self.text.length = 0
        if self.text.failed:
            self.text.failed = 0
            raise MemoryError("more text than can be kept")
        return self.text.at[:length].decode("utf-8", "surrogateescape") if length else ""


cdef Printer make_printer(Btf btf):
    cdef Printer printer = Printer.__new__(Printer)
    cdef c_btf.btf_dump_opts opts
    cdef c_btf.btf *types = btf.live()
    cdef Call call
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    enter(&call, NULL)
    printer.dump = c_btf.btf_dump__new(types, pylbpf_text_print, &printer.text, &opts)
    finish(&call, 0 if printer.dump != NULL else -errno, "print types of", btf)
    return printer


cdef int print_type(c_btf.btf_dump *dump, unsigned int id, unsigned int declared, const char *name) noexcept nogil:
    cdef c_btf.btf_dump_emit_type_decl_opts opts
    cdef int code = c_btf.btf_dump__dump_type(dump, id)
    if code < 0 or not declared:
        return code
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.field_name = name
    return c_btf.btf_dump__emit_type_decl(dump, declared, &opts)


def c_decl(Btf btf, type):
    """The method of Btf."""
    btf.made()
    cdef unsigned int id = btf.resolve(type)
    cdef const uapi.btf_type *found = btf.type_of(id)
    cdef unsigned int kind = c_btf.btf_kind(found)
    cdef unsigned int declared = 0      # what is written out at the end, for it has no definition of its own
    cdef unsigned int needed = id
    cdef bytes name = b""
    cdef const char *c_name
    cdef Printer printer
    cdef Call call
    cdef int code
    if kind == uapi.BTF_KIND_DATASEC or kind == uapi.BTF_KIND_DECL_TAG or id == 0:
        raise ValueError(f"{btf.describe(id)} cannot be declared")
    if kind == uapi.BTF_KIND_FUNC or kind == uapi.BTF_KIND_VAR:
        declared = needed = found.type
        name = btf.name(id).encode("utf-8", "surrogateescape")
    elif not DEFINED >> kind & 1 or not found.name_off:
        declared = id
        needed = 0 if c_btf.btf_is_any_enum(found) else id
    c_name = name
    printer = make_printer(btf)
    words = btf.describe(id)
    enter(&call, NULL)
    if btf.handle is None:
        with nogil:
            code = print_type(printer.dump, needed, declared, c_name)
    else:
        code = print_type(printer.dump, needed, declared, c_name)
    finish(&call, code, "declare", words)
    text = printer.take()
    return text + ";\n" if declared else text.strip("\n") + "\n"


cdef int check_variables(Btf btf, unsigned int id, size_t size) except -1:
    """Of a section, whose variables are anywhere."""
    cdef const uapi.btf_type *type = btf.type_of(id)
    cdef const uapi.btf_var_secinfo *variable = c_btf.btf_var_secinfos(type)
    cdef unsigned int i
    if c_btf.btf_is_datasec(type):
        for i in range(c_btf.btf_vlen(type)):
            length = c_btf.btf__resolve_size(btf.ptr, variable[i].type)
            if length < 0 or variable[i].offset + length > size:
                raise ValueError(f"{btf.describe(variable[i].type)} is not inside of the {size} bytes of its section")
    return 0


def format_value(Btf btf, value, type, bint compact, bint names, bint zeroes, str indent):
    """The method of Btf."""
    cdef c_btf.btf_dump_type_data_opts opts
    cdef Made made = btf.made()
    cdef unsigned int id = btf.resolve(type)
    cdef size_t size = btf.size(id)
    cdef bytes tab = indent.encode()
    cdef Printer printer
    cdef Py_buffer buffer
    cdef char *copy
    cdef Call call
    cdef int code
    check_variables(btf, id, size)
    if len(tab) > 31 or b"\0" in tab:
        raise ValueError(f"an indent of {len(tab)} bytes: 31 is the most, and no NUL")
    copy = <char *>PyMem_Calloc(1, size + PADDING)
    if copy == NULL:
        raise MemoryError()
    try:
        PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE)
        fits = <size_t>buffer.len == size
        given = buffer.len
        if fits:
            memcpy(copy, buffer.buf, size)
        PyBuffer_Release(&buffer)
        if not fits:
            raise ValueError(f"{btf.describe(id)} has {size} bytes, not {given}")
        # The caller's code has run: the object may be closed by now, or have other types.
        made = btf.made()
        if made.printer is None:
            made.printer = make_printer(btf)
        printer = made.printer
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.indent_str = tab
        opts.compact = compact
        opts.skip_names = not names
        opts.emit_zeroes = zeroes
        enter(&call, NULL)
        code = c_btf.btf_dump__dump_type_data(printer.dump, id, copy, size + PADDING, &opts)
        try:
            finish(&call, code, "format a value of", btf.describe(id))
        except BaseException:
            printer.text.length = 0
            raise
        return printer.take()
    finally:
        PyMem_Free(copy)
