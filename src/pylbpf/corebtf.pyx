"""One small kernel BTF for many objects.

For each object with CO-RE relocations libbpf reads the kernel's whole BTF, megabytes of it, and goes through all of its
types for each name that the object asks for. Here the names of many objects are collected first, and a BTF is made that
has the types of these names only. An object relocated against it becomes the same, bit by bit; where that is not
certain, `plain` of a scan says so, or covers() does.
"""
import os as _os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINVAL, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from .c cimport btf as c_btf
from .call cimport Call, enter
from .elf cimport check_object
from .errors cimport fail, finish
from .paths cimport path_bytes

from .errors import error_class

cdef extern from "corebtf_scan.h" nogil:
    enum:
        PYLBPF_MISSING
        PYLBPF_SIZELESS

    void pylbpf_scan_object "pylbpf_scan"(const unsigned char *data, size_t size, pylbpf_scan *scan)
    void pylbpf_scan_free(pylbpf_scan *scan)
    int pylbpf_names_merge(pylbpf_names *names, const pylbpf_names *more)
    bint pylbpf_names_include(const pylbpf_names *names, const pylbpf_names *some, unsigned char unless)
    void pylbpf_names_free(pylbpf_names *names)

cdef extern from "corebtf_trim.h" nogil:
    int pylbpf_trim(const unsigned char *data, size_t size, pylbpf_names *names, unsigned char **result, size_t *result_size)

cdef extern from "corebtf_kernel.h" nogil:
    const char *PYLBPF_KERNEL_BTF

    struct pylbpf_kernel:
        const unsigned char *data
        size_t size

    struct pylbpf_memory:
        const char *path

    int pylbpf_kernel_open(pylbpf_kernel *kernel)
    void pylbpf_kernel_close(pylbpf_kernel *kernel)
    int pylbpf_memory_open(pylbpf_memory *memory, const void *data, size_t size)
    void pylbpf_memory_close(pylbpf_memory *memory)

cdef enum:
    MAX_NAMES = 2048                # of a BTF that is kept: each object that is opened with it reads all of it


# What an object asks for

cdef void scan(const unsigned char *data, size_t size, pylbpf_scan *result) noexcept nogil:
    pylbpf_scan_object(data, size, result)


cdef void free_scan(pylbpf_scan *result) noexcept nogil:
    pylbpf_scan_free(result)


cdef int add_names(pylbpf_names *names, const pylbpf_scan *more) noexcept nogil:
    return pylbpf_names_merge(names, &more.names)


cdef void free_names(pylbpf_names *names) noexcept nogil:
    pylbpf_names_free(names)


cdef bint covers(SharedBtf shared, const pylbpf_scan *scan) noexcept nogil:
    cdef unsigned char unless = PYLBPF_SIZELESS | (PYLBPF_MISSING if shared.modules else 0)
    return scan.plain == NULL and pylbpf_names_include(&shared.trimmed.names, &scan.names, unless)


# The trimmed BTF

@cython.final
cdef class Trimmed:
    def __dealloc__(self):
        pylbpf_names_free(&self.names)


cdef bytes take(unsigned char *data, size_t size):
    try:
        return PyBytes_FromStringAndSize(<char *>data, size)
    finally:
        free(data)


cdef Trimmed trim_kernel(const pylbpf_names *names, Trimmed more, tuple kernel):
    """For `names`, and those of `more`; None if the kernel's BTF cannot be had or is not understood."""
    cdef Trimmed trimmed = Trimmed.__new__(Trimmed)
    cdef pylbpf_names *all = &trimmed.names
    cdef const pylbpf_names *others = NULL if more is None else &more.names
    cdef pylbpf_kernel source
    cdef unsigned char *data
    cdef size_t size
    cdef int error
    with nogil:
        error = pylbpf_names_merge(all, names)
        if error == 0 and others != NULL:
            error = pylbpf_names_merge(all, others)
        if error == 0:
            error = pylbpf_kernel_open(&source)
        if error == 0:
            error = pylbpf_trim(source.data, source.size, all, &data, &size)
            pylbpf_kernel_close(&source)
    if error:
        return None
    trimmed.data = take(data, size)
    trimmed.kernel = kernel
    return trimmed


# The last one that was made. It is replaced as a whole, so whoever has it may use it without a lock.
cdef Trimmed last = None


@cython.final
cdef class SharedBtf:
    """The types that some objects need, as a file in memory that lives as long as this.

    ``path`` is for ``btf_custom_path``. Children of fork() can use it as well.
    """

    def __init__(self):
        raise TypeError("made by shared_btf()")

    def __dealloc__(self):
        if self.memory != NULL:
            pylbpf_memory_close(<pylbpf_memory *>self.memory)
            free(self.memory)

    def covers(self, data):
        """Whether the object (its bytes) may be opened with this."""
        cdef pylbpf_scan found
        scan_buffer(data, &found)
        try:
            return covers(self, &found)
        finally:
            free_scan(&found)


cdef object share(const pylbpf_names *names):
    global last
    cdef SharedBtf shared = SharedBtf.__new__(SharedBtf)
    cdef Trimmed trimmed = last
    cdef str path = PYLBPF_KERNEL_BTF.decode()
    try:
        status = _os.stat(path)
        shared.modules = len(_os.listdir(_os.path.dirname(path))) > 1
    except OSError:
        return None
    kernel = (status.st_dev, status.st_ino, status.st_size)
    if trimmed is not None and trimmed.kernel != kernel:
        trimmed = None
    if trimmed is None or not pylbpf_names_include(&trimmed.names, names, 0):
        if trimmed is not None and trimmed.names.count + names.count > MAX_NAMES:
            trimmed = None
        trimmed = trim_kernel(names, trimmed, kernel)
        if trimmed is None:
            return None
        if trimmed.names.count <= MAX_NAMES:
            last = trimmed
    shared.trimmed = trimmed
    shared.memory = malloc(sizeof(pylbpf_memory))
    if shared.memory == NULL:
        raise MemoryError()
    if pylbpf_memory_open(<pylbpf_memory *>shared.memory, PyBytes_AS_STRING(trimmed.data), len(trimmed.data)):
        return None
    shared.path = (<pylbpf_memory *>shared.memory).path
    return shared


# For people

cdef int scan_buffer(object data, pylbpf_scan *found) except -1:
    """Scan bytes, or another buffer; to be given back with free_scan()."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    with nogil:
        scan(<const unsigned char *>view.buf, view.len, found)
    PyBuffer_Release(&view)
    return 0


def needs(data):
    """Say what opening and loading an object (its bytes) will cost, and which of the kernel's types it asks for."""
    cdef pylbpf_scan found
    scan_buffer(data, &found)
    try:
        return {
            "insns": found.insns, "programs": found.programs, "maps": found.maps, "relocations": found.relocations,
            "kinds": [kind for kind in range(32) if found.kinds >> kind & 1],
            "plain": None if found.plain == NULL else found.plain.decode(),
            "names": names_of(&found.names),
        }
    finally:
        free_scan(&found)


cdef set names_of(const pylbpf_names *names):
    """{("task_struct", 4), ...}: names with kinds as in linux/btf.h."""
    cdef const pylbpf_name *item
    cdef set result = set()
    cdef unsigned int i
    for i in range(names.count):
        item = &names.items[i]
        result.add((names.text[item.at:item.at + item.length].decode("utf-8", "surrogateescape"), item.kind))
    return result


def shared_btf(objects):
    """Make a SharedBtf for these objects (their bytes), but for those that need the kernel's whole BTF; None if there
    cannot be one."""
    cdef pylbpf_names names
    cdef pylbpf_scan found
    memset(&names, 0, sizeof(names))
    try:
        for data in objects:
            scan_buffer(data, &found)
            if found.plain == NULL and add_names(&names, &found) < 0:
                free_scan(&found)
                raise MemoryError()
            free_scan(&found)
        return share(&names)
    finally:
        free_names(&names)


cdef bytes bytes_of(object source):
    """An object's bytes, if they are sound."""
    cdef char problem[512]
    cdef bytes data
    cdef int code
    if isinstance(source, (str, _os.PathLike)):
        with open(source, "rb") as file:
            data = file.read()
    else:
        data = bytes(memoryview(source))
    code = check_object(<const unsigned char *>PyBytes_AS_STRING(data), len(data), problem, sizeof(problem))
    if code:
        raise error_class(-code)(-code, problem.decode("utf-8", "replace"), "read", subject_of(source))
    return data


cdef str subject_of(object source):
    return _os.fsdecode(source) if isinstance(source, (str, _os.PathLike)) else "<memory>"


cdef bytes trim(const unsigned char *data, size_t size, pylbpf_names *names, object subject):
    cdef unsigned char *result
    cdef size_t result_size
    cdef int code
    with nogil:
        code = pylbpf_trim(data, size, names, &result, &result_size)
    if code == -EINVAL:
        raise ValueError(f"{subject}: no sound BTF of this machine's byte order")
    if code:
        raise MemoryError()
    return take(result, result_size)


cdef bytes trim_running(pylbpf_names *names):
    cdef pylbpf_kernel kernel
    cdef int code
    with nogil:
        code = pylbpf_kernel_open(&kernel)
    if code:
        fail(-code, "read", PYLBPF_KERNEL_BTF.decode())
    try:
        return trim(kernel.data, kernel.size, names, PYLBPF_KERNEL_BTF.decode())
    finally:
        pylbpf_kernel_close(&kernel)


cdef bytes trim_other(object path, pylbpf_names *names):
    cdef bytes raw = path_bytes(path)
    cdef const char *c_path = raw
    cdef c_btf.btf *btf
    cdef unsigned int size
    cdef const unsigned char *data
    cdef Call call
    cdef int code
    enter(&call, NULL)
    with nogil:
        btf = c_btf.btf__parse(c_path, NULL)
        code = 0 if btf != NULL else -errno if errno else -EINVAL
    finish(&call, code, "parse", _os.fsdecode(raw))
    try:
        data = <const unsigned char *>c_btf.btf__raw_data(btf, &size)
        if data == NULL:
            raise MemoryError()
        return trim(data, size, names, _os.fsdecode(raw))
    finally:
        c_btf.btf__free(btf)


def trimmed_btf(objects, *, btf=None):
    """Return the part of a kernel's BTF that these objects (paths or bytes-like) need for their CO-RE relocations.

    As a file it serves as ``btf_custom_path`` for them, and for nothing else. `btf` is the path of another kernel's
    BTF, raw or in an ELF file; None means the kernel that runs. An object that can only be relocated against the whole
    BTF is a ValueError that says why: one with bpf_core_type_id_kernel() or bpf_core_type_matches(). A damaged object
    is a LibbpfError.
    Source: struct bpf_object_open_opts.
    """
    cdef pylbpf_names names
    cdef pylbpf_scan found
    if isinstance(objects, (str, bytes, bytearray, memoryview, _os.PathLike)):
        raise TypeError("objects must be a list of paths or bytes, not a single one")
    memset(&names, 0, sizeof(names))
    try:
        for source in objects:
            scan_buffer(bytes_of(source), &found)
            try:
                if found.plain != NULL:
                    raise ValueError(f"{subject_of(source)}: {found.plain.decode()}")
                if add_names(&names, &found) < 0:
                    raise MemoryError()
            finally:
                free_scan(&found)
        return trim_running(&names) if btf is None else trim_other(btf, &names)
    finally:
        free_names(&names)
