"""BPF tokens: rights that a mounted BPF file system hands on, to whoever may open it."""
import errno as _errno

cimport cython
from posix.fcntl cimport O_CLOEXEC, O_DIRECTORY, O_RDONLY
from posix.unistd cimport close as close_fd

from .c cimport bpf, libbpf
from .call cimport Call, enter, note_missing
from .errors cimport finish
from .handle cimport fork_generation
from .targets cimport Target, open_target

from .errors import StateError

libbpf.pylbpf_on_missing = note_missing


@cython.final
cdef class Token:
    """A BPF token of a BPF file system, given by path or descriptor, whose options delegate_cmds and its kin say for what.

    It stands for capabilities in a user namespace: open() takes the file system itself as ``token_path``, Map.create()
    the descriptor as ``token_fd``. A context manager; close() and losing the last reference close the descriptor. BpfError
    (ENOENT) if the file system delegates nothing, PermissionError in the wrong user namespace. Minimum kernel 6.9,
    libbpf 1.4. Source: bpf_token_create().
    """

    cdef int own
    cdef unsigned int generation

    def __cinit__(self, *_, **__):
        self.own = -1
        self.generation = fork_generation()

    def __init__(self, bpffs):
        if self.own >= 0:
            raise StateError(_errno.EINVAL, "made already", None, "Token")
        cdef Target folder = open_target(bpffs, O_RDONLY | O_DIRECTORY | O_CLOEXEC, "BPF file system")
        cdef Call call
        cdef int fd
        enter(&call, NULL)
        with nogil:
            fd = bpf.bpf_token_create(folder.fd, NULL)
        finish(&call, fd, "create token of", bpffs)
        self.own = fd

    def __dealloc__(self):
        if self.own >= 0:
            close_fd(self.own)

    def __repr__(self):
        return f"<Token: {'closed' if self.own < 0 else self.own}>"

    def __enter__(self):
        self.fileno()
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def fd(self):
        """The descriptor, owned by the token."""
        return self.fileno()

    def fileno(self):
        """Same as fd."""
        if self.own < 0:
            raise ValueError("the token is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child must make its own", None, "token")
        return self.own

    @property
    def closed(self):
        """True after close()."""
        return self.own < 0

    def close(self):
        """Close the descriptor; a second time does nothing. What was made with it stays."""
        cdef int fd = self.own
        self.own = -1
        if fd >= 0:
            close_fd(fd)
