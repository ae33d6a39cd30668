"""Static linking: several BPF object files made into one."""
import errno as _errno
import os as _os
from tempfile import mkstemp as _mkstemp

cimport cython
from libc.errno cimport errno

from .c cimport libbpf
from .call cimport Call, enter, note_missing
from .elf import check
from .errors cimport finish
from .handle cimport fork_generation
from .paths cimport path_bytes

from .errors import BpfError, StateError

libbpf.pylbpf_on_missing = note_missing


@cython.final
cdef class Linker:
    """Links object files into one at ``path``, which is written as a whole by finalize(), or not at all.

    A context manager: leaving it without finalize() leaves nothing behind. Source: struct bpf_linker of libbpf.
    """

    cdef libbpf.bpf_linker *ptr
    cdef readonly str path
    cdef str temporary
    cdef bint used              # a thread is in a call
    cdef bint broken            # adding has failed: what is there is half of something
    cdef unsigned int generation

    def __init__(self, path):
        cdef bytes raw
        cdef const char *name
        cdef Call call
        cdef int code = 0
        cdef libbpf.bpf_linker *linker
        if self.path is not None:
            raise StateError(_errno.EINVAL, "already made", "link", self.path)
        raw = path_bytes(path)
        target = _os.path.abspath(_os.fsdecode(raw))
        fd, temporary = _mkstemp(prefix=".", suffix=".tmp", dir=_os.path.dirname(target) or ".")
        _os.close(fd)
        self.generation = fork_generation()
        self.path = target
        self.temporary = temporary
        raw = path_bytes(temporary)
        name = raw
        enter(&call, NULL)
        with nogil:
            linker = libbpf.bpf_linker__new(name, NULL)
            if linker == NULL:
                code = -errno
        self.ptr = linker
        try:
            finish(&call, code, "link", self.path)
        except BaseException:
            self.close()
            raise

    def __dealloc__(self):
        if self.ptr != NULL:
            libbpf.bpf_linker__free(self.ptr)

    def __del__(self):
        self.close()

    def __enter__(self):
        self.live()
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<Linker: {self.path}, {'closed' if self.ptr == NULL else 'open'}>"

    cdef libbpf.bpf_linker *live(self) except NULL:
        if self.ptr == NULL:
            raise ValueError(f"the linker of {self.path} is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child may only drop it", "link", self.path)
        if self.used:
            raise StateError(_errno.EBUSY, "another thread is in a call", "link", self.path)
        if self.broken:
            raise StateError(_errno.EINVAL, "a file could not be added: begin anew", "link", self.path)
        return self.ptr

    def add_file(self, path):
        """Add an object file. BpfError if it is none, or does not fit to the others. Source: bpf_linker__add_file()."""
        cdef bytes raw = path_bytes(path)
        cdef const char *name = raw
        with open(path, "rb") as file:
            self.check(file.read(), _os.fsdecode(raw))
        self.add(name, _os.fsdecode(raw))

    def add_buffer(self, data, *, name="buffer"):
        """Add an object file from memory (bytes-like); ``name`` is for errors.

        Source: bpf_linker__add_file() on a file in memory, because bpf_linker__add_buf() is of libbpf 1.6.
        """
        cdef bytes raw
        cdef bytes code = memoryview(data).tobytes()
        cdef const char *where
        self.check(code, name)
        fd = _os.memfd_create("linker", _os.MFD_CLOEXEC)
        try:
            with _os.fdopen(fd, "wb", closefd=False) as file:
                file.write(code)
            raw = f"/proc/self/fd/{fd}".encode()
            where = raw
            self.add(where, name)
        finally:
            _os.close(fd)

    cdef int check(self, bytes code, str name) except -1:
        """libbpf was not written for files that are damaged or forged."""
        self.live()
        problem = check(code)
        if problem is not None:
            raise BpfError(_errno.EINVAL, problem, f"link {name} into", self.path)
        return 0

    cdef int add(self, const char *file, str name) except -1:
        cdef libbpf.bpf_linker *linker = self.live()
        cdef Call call
        cdef int code
        self.used = True
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_linker__add_file(linker, file, NULL)
        self.used = False
        self.broken = code < 0
        return finish(&call, code, f"link {name} into", self.path)

    def finalize(self):
        """Write the result to its path, in the place of what is there, and close. Source: bpf_linker__finalize()."""
        cdef libbpf.bpf_linker *linker = self.live()
        cdef Call call
        cdef int code
        self.used = True
        enter(&call, NULL)
        with nogil:
            code = libbpf.bpf_linker__finalize(linker)
        self.used = False
        try:
            finish(&call, code, "link", self.path)
            mask = _os.umask(0)
            _os.umask(mask)
            _os.chmod(self.temporary, 0o666 & ~mask)
            _os.replace(self.temporary, self.path)
            self.temporary = None
        finally:
            self.close()

    def close(self):
        """Give up without a result, if there is none yet; a second time does nothing. Source: bpf_linker__free()."""
        cdef libbpf.bpf_linker *linker = self.ptr
        if self.generation != fork_generation():
            self.temporary = None       # it is the parent's
            if self.used:
                self.ptr = NULL
                return
        if self.used:
            raise StateError(_errno.EBUSY, "another thread is in a call", "close linker of", self.path)
        self.ptr = NULL
        if linker != NULL:
            libbpf.bpf_linker__free(linker)
        if self.temporary is not None:
            temporary, self.temporary = self.temporary, None
            try:
                _os.unlink(temporary)
            except OSError:
                pass


def link_files(output, *inputs):
    """Link object files, paths or bytes-like, into one at ``output``, which is written as a whole or not at all.

    BpfError says which of them does not fit. Source: bpf_linker__new(), bpf_linker__add_file(), bpf_linker__finalize().
    """
    if not inputs:
        raise ValueError("nothing to link")
    with Linker(output) as linker:
        for each in inputs:
            if isinstance(each, str) or hasattr(each, "__fspath__"):
                linker.add_file(each)
            else:
                linker.add_buffer(each)
        linker.finalize()
