"""One small kernel BTF for many objects.

For each object with CO-RE relocations libbpf reads the kernel's whole BTF, megabytes of it, and goes through all of its
types for each type that the object asks for. Here the names of those types are collected first, from many objects, and
a BTF is made that has nothing else. An object relocated against it becomes the same, bit by bit, and fails in the same
words. Where that is not certain, `plain` of a scan says so, or covers().
"""
import os as _os
import stat as _stat

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINVAL, ENOMEM, errno
from libc.stdlib cimport free
from libc.string cimport memset

from .c cimport btf as c_btf
from .call cimport Call, enter
from .elf cimport check_object
from .errors cimport fail, finish
from .paths cimport is_path, path_bytes, path_text

from .errors import error_class

cdef extern from "pylbpf/internal/corebtf_scan.h" nogil:
    enum:
        PYLBPF_MISSING
        PYLBPF_SIZELESS

    void read_object "pylbpf_scan"(const unsigned char *data, size_t size, pylbpf_scan *scan)
    void pylbpf_scan_free(pylbpf_scan *scan)
    int pylbpf_names_merge(pylbpf_names *names, const pylbpf_names *more)
    bint pylbpf_names_include(const pylbpf_names *names, const pylbpf_names *some, unsigned char unless)
    void pylbpf_names_free(pylbpf_names *names)

cdef extern from "corebtf_trim.h" nogil:
    int pylbpf_trim(const unsigned char *data, size_t size, pylbpf_names *names, unsigned char **result, size_t *result_size)

cdef extern from "pylbpf/internal/corebtf_kernel.h" nogil:
    const char *PYLBPF_KERNEL_BTF

    struct pylbpf_kernel:
        const unsigned char *data
        size_t size

    int pylbpf_kernel_open(pylbpf_kernel *kernel)
    void pylbpf_kernel_close(pylbpf_kernel *kernel)
    int pylbpf_memory_open(pylbpf_memory *memory, const void *data, size_t size)
    void pylbpf_memory_close(pylbpf_memory *memory)

cdef enum:
    # Of a BTF that is kept: whoever opens an object with it reads all of it.
    MAX_NAMES = 2048
    NOT_AN_OBJECT = 4001            # LIBBPF_ERRNO__FORMAT


# What objects ask for

cdef void scan(const unsigned char *data, size_t size, pylbpf_scan *result) noexcept nogil:
    read_object(data, size, result)


cdef void free_scan(pylbpf_scan *result) noexcept nogil:
    pylbpf_scan_free(result)


cdef int add_names(pylbpf_names *names, const pylbpf_scan *more) noexcept nogil:
    return pylbpf_names_merge(names, &more.names)


cdef void free_names(pylbpf_names *names) noexcept nogil:
    pylbpf_names_free(names)


cdef bint covers(SharedBtf shared, const pylbpf_scan *scan) noexcept nogil:
    # libbpf looks into modules for what the kernel proper does not have, and an error about a type without size tells
    # the type's number.
    cdef unsigned char unless = PYLBPF_SIZELESS | (PYLBPF_MISSING if shared.modules else 0)
    return scan.plain == NULL and pylbpf_names_include(&shared.trimmed.names, &scan.names, unless)


# The trimmed BTF

cdef int trim_kernel(pylbpf_names *names, unsigned char **result, size_t *size) noexcept nogil:
    cdef pylbpf_kernel kernel
    cdef int code = pylbpf_kernel_open(&kernel)
    if code == 0:
        code = pylbpf_trim(kernel.data, kernel.size, names, result, size)
        pylbpf_kernel_close(&kernel)
    return code


cdef bytes take(unsigned char *data, size_t size):
    try:
        return PyBytes_FromStringAndSize(<char *>data, size)
    finally:
        free(data)


@cython.final
cdef class Trimmed:
    def __dealloc__(self):
        pylbpf_names_free(&self.names)


cdef Trimmed make_trimmed(const pylbpf_names *names, Trimmed before, tuple kernel):
    """For `names`, and those that there were before; None if the kernel's BTF cannot be had or is not understood."""
    cdef Trimmed trimmed = Trimmed.__new__(Trimmed)
    cdef const pylbpf_names *others = NULL if before is None else &before.names
    cdef unsigned char *data
    cdef size_t size
    cdef int code
    with nogil:
        code = pylbpf_names_merge(&trimmed.names, names)
        if code == 0 and others != NULL:
            code = pylbpf_names_merge(&trimmed.names, others)
        if code == 0:
            code = trim_kernel(&trimmed.names, &data, &size)
    if code:
        return None
    trimmed.data = take(data, size)
    trimmed.kernel = kernel
    return trimmed


# The last one that was made, to serve all that ask for no more. It is replaced as a whole: whoever holds it needs no
# lock, and neither does a forked child.
cdef Trimmed last = None


cdef Trimmed trimmed_for(const pylbpf_names *names, tuple kernel):
    global last
    cdef Trimmed trimmed = last
    if trimmed is not None and trimmed.kernel != kernel:
        trimmed = None
    if trimmed is not None and pylbpf_names_include(&trimmed.names, names, 0):
        return trimmed
    if trimmed is not None and trimmed.names.count + names.count > MAX_NAMES:
        trimmed = None
    trimmed = make_trimmed(names, trimmed, kernel)
    if trimmed is not None and trimmed.names.count <= MAX_NAMES:
        last = trimmed
    return trimmed


@cython.final
cdef class SharedBtf:
    """The types that some objects need, as a file in memory that lives as long as this.

    ``path`` (bytes) is for ``btf_custom_path``, in this process and in forked children.
    """

    def __cinit__(self):
        self.memory.fd = -1

    def __init__(self):
        raise TypeError("made by shared_btf()")

    def __dealloc__(self):
        pylbpf_memory_close(&self.memory)

    def covers(self, data):
        """Whether an object (bytes-like) may be opened with this."""
        cdef pylbpf_scan found
        if self.trimmed is None:
            raise ValueError("this SharedBtf holds no types")
        scan_buffer(data, &found)
        try:
            return covers(self, &found)
        finally:
            free_scan(&found)


cdef object share(const pylbpf_names *names):
    cdef SharedBtf shared
    cdef Trimmed trimmed
    cdef str path = PYLBPF_KERNEL_BTF.decode()
    if names.count == 0:
        return None
    try:
        status = _os.stat(path)
        others = len(_os.listdir(_os.path.dirname(path))) - 1
    except OSError:
        return None
    trimmed = trimmed_for(names, (status.st_dev, status.st_ino, status.st_size))
    if trimmed is None:
        return None
    shared = SharedBtf.__new__(SharedBtf)
    shared.trimmed = trimmed
    shared.modules = others > 0
    if pylbpf_memory_open(&shared.memory, PyBytes_AS_STRING(trimmed.data), len(trimmed.data)):
        return None
    shared.path = shared.memory.path
    return shared


# The same for Python

cdef int scan_buffer(object data, pylbpf_scan *found) except -1:
    """Scan something bytes-like; to be given back with free_scan()."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    with nogil:
        scan(<const unsigned char *>view.buf, view.len, found)
    PyBuffer_Release(&view)
    return 0


cdef set names_of(const pylbpf_names *names):
    cdef set result = set()
    cdef unsigned int i
    for i in range(names.count):
        text = names.text[names.items[i].at:names.items[i].at + names.items[i].length]
        result.add((text.decode("utf-8", "surrogateescape"), names.items[i].kind))
    return result


def needs(data):
    """Say what it will take to load an object (bytes-like): numbers of insns, programs, maps (at least) and CO-RE
    relocations, the kinds of these, the names of the kernel's types that they ask for, with the kinds of linux/btf.h,
    and, if only the kernel's whole BTF will do, why (plain, else None)."""
    cdef pylbpf_scan found
    scan_buffer(data, &found)
    try:
        return {
            "insns": found.insns, "programs": found.programs, "maps": found.maps, "relocations": found.relocations,
            "kinds": {kind for kind in range(32) if found.kinds >> kind & 1},
            "names": names_of(&found.names),
            "plain": None if found.plain == NULL else found.plain.decode(),
        }
    finally:
        free_scan(&found)


def shared_btf(objects):
    """Make a SharedBtf for objects (bytes-like), leaving out those that need the kernel's whole BTF.

    None if there is nothing to share, or if it cannot be done here: without BTF of the kernel or without /proc.
    """
    cdef pylbpf_names names
    cdef pylbpf_scan found
    cdef int code
    memset(&names, 0, sizeof(names))
    try:
        for data in objects:
            scan_buffer(data, &found)
            code = 0 if found.plain != NULL else add_names(&names, &found)
            free_scan(&found)
            if code < 0:
                raise MemoryError()
        return share(&names)
    finally:
        free_names(&names)


# For people

cdef str subject_of(object source):
    return _os.fsdecode(source) if is_path(source) else "<memory>"


def _open_now(path, flags):
    return _os.open(path, flags | _os.O_NONBLOCK)       # a pipe would wait for a writer


cdef object refuse(int code, str problem, object source):
    raise error_class(code)(code, problem, "open", subject_of(source))


cdef bytes object_bytes(object source):
    """The bytes of an object, if they are sound."""
    cdef char problem[512]
    cdef bytes data
    cdef int code
    if is_path(source):
        with open(source, "rb", opener=_open_now) as file:
            if not _stat.S_ISREG(_os.fstat(file.fileno()).st_mode):
                refuse(NOT_AN_OBJECT, "not a regular file", source)
            data = file.read()
    else:
        try:
            data = memoryview(source).tobytes()
        except TypeError:
            raise TypeError(f"an object must be a path or bytes-like, not {type(source).__name__}") from None
    code = check_object(<const unsigned char *>PyBytes_AS_STRING(data), len(data), problem, sizeof(problem))
    if code:
        refuse(-code, problem.decode("utf-8", "replace"), source)
    return data


cdef int trim_other(object path, pylbpf_names *names, unsigned char **result, size_t *size) except? -1:
    """Of a BTF file, raw or in ELF."""
    cdef bytes raw = path_bytes(path)
    cdef const char *c_path = raw
    cdef const unsigned char *data
    cdef c_btf.btf *btf
    cdef unsigned int length
    cdef Call call
    cdef int code
    enter(&call, NULL)
    with nogil:
        btf = c_btf.btf__parse(c_path, NULL)
        code = 0 if btf != NULL else -errno if errno else -EINVAL
    finish(&call, code, "read types of", path_text(raw))
    with nogil:
        data = <const unsigned char *>c_btf.btf__raw_data(btf, &length)
        code = -ENOMEM if data == NULL else pylbpf_trim(data, length, names, result, size)
        c_btf.btf__free(btf)
    return code


def trimmed_btf(objects, *, btf=None):
    """Return the part of a kernel's BTF that objects (a list of paths and bytes-like) need for their CO-RE relocations.

    As a file it serves as ``btf_custom_path`` for these objects, and for no others. `btf` is the path of a kernel's BTF,
    raw or in an ELF file as vmlinux; None means the kernel that runs. What a kernel does not have is left out: the
    object finds that out when it is loaded. ValueError names an object that needs the whole BTF, and why: it asks for
    the number of a kernel type, or whether one matches; a damaged object is a LibbpfError.
    Source: struct bpf_object_open_opts.
    """
    cdef pylbpf_names names
    cdef pylbpf_scan found
    cdef unsigned char *data = NULL
    cdef size_t size = 0
    cdef int code
    if is_path(objects) or isinstance(objects, (bytes, bytearray, memoryview)):
        raise TypeError("objects must be a list of paths and bytes, not a single one")
    memset(&names, 0, sizeof(names))
    try:
        for source in objects:
            scan_buffer(object_bytes(source), &found)
            try:
                if found.plain != NULL:
                    raise ValueError(f"{subject_of(source)} needs the kernel's whole BTF: {found.plain.decode()}")
                if add_names(&names, &found) < 0:
                    raise MemoryError()
            finally:
                free_scan(&found)
        if btf is None:
            with nogil:
                code = trim_kernel(&names, &data, &size)
        else:
            code = trim_other(btf, &names, &data, &size)
    finally:
        free_names(&names)
    subject = PYLBPF_KERNEL_BTF.decode() if btf is None else _os.fsdecode(btf)
    if code == -EINVAL:
        raise ValueError(f"{subject} is no BTF that can be read here")
    if code:
        fail(-code, "read types of", subject)
    return take(data, size)
