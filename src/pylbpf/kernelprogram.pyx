"""A program known by a descriptor: opened from a pin, by its number or from somebody else's descriptor."""
import errno as _errno

cimport cython
from libc.string cimport memset
from posix.unistd cimport close as close_fd

from .attach_hook cimport Hooking
from .c cimport bpf, libbpf
from .call cimport Call, enter, note_missing
from .errors cimport finish
from .handle cimport fork_generation
from .info cimport ProgramInfo, program_info
from .kernelfd cimport PROGRAM, open_number, open_pin, pin_descriptor
from .link cimport link_of_descriptor
from .paths cimport is_of_kind, name_bytes, number64_of, number_of, path_bytes, path_text
from .targets cimport descriptor_of, duplicate_fd

from .errors import StateError

libbpf.pylbpf_on_missing = note_missing


@cython.final
@cython.no_gc
cdef class KernelProgram(Hooking):
    """A program that the kernel holds, whoever loaded it: from Program.open_pinned(), from_id() and from_fd().

    It owns a descriptor, which close(), leaving a ``with`` block or losing the last reference closes; the kernel frees a
    program when nothing uses it. It can be looked at, run by hand, pinned, attached by its descriptor, and stand wherever
    a loaded Program or its descriptor can: in Link.update(), as a target of freplace, in xdp, in a program array. The
    attach methods that libbpf has for the programs of an object are not for it; link_create() is.
    """

    cdef int own
    cdef int users                  # calls in the kernel, of which the last one closes what was closed meanwhile
    cdef bint over
    cdef unsigned int generation    # of forks
    cdef ProgramInfo known          # what does not change as long as the program exists
    cdef object where
    cdef object __weakref__

    def __cinit__(self):
        self.own = -1
        self.generation = fork_generation()

    def __init__(self):
        raise TypeError("made by Program.open_pinned(), Program.from_id() and Program.from_fd()")

    def __dealloc__(self):
        if self.own >= 0:
            close_fd(self.own)

    def __str__(self):
        return f"program '{self.name}'"

    def __repr__(self):
        return "<KernelProgram: closed>" if self.closed else f"<KernelProgram {self.id}: {self.name}, {self.type.name}>"

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *_):
        self.close()

    cdef int check(self) except -1:
        if self.own < 0 or self.over:
            raise ValueError(f"{self} is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child must open its own", None, str(self))
        return 0

    cdef bint begin(self, str operation) except -1:
        self.check()
        self.users += 1
        return True

    cdef void unlock(self, bint locked) noexcept:
        self.users -= locked
        if self.over and not self.users and self.own >= 0:
            close_fd(self.own)
            self.own = -1

    cdef int number(self) noexcept:
        return self.own

    cdef int hold(self) except -1:
        self.begin("use")
        return self.own

    cdef void let_go(self) noexcept:
        self.unlock(True)

    cdef int kind(self) except -1:
        return self.known.raw.type

    def close(self):
        """Close the descriptor; a second time does nothing."""
        self.over = True
        self.unlock(False)

    @property
    def closed(self):
        """True after close()."""
        return self.over

    @property
    def fd(self):
        """The file descriptor, owned by this object."""
        self.check()
        return self.own

    def fileno(self):
        """Same as fd."""
        self.check()
        return self.own

    @property
    def name(self):
        """Name as the kernel has it, of at most 15 bytes. struct bpf_prog_info of linux/bpf.h."""
        return self.known.name

    @property
    def type(self):
        """A ProgramType. struct bpf_prog_info of linux/bpf.h."""
        return self.known.type

    @property
    def id(self):
        """The number that the kernel has given it. struct bpf_prog_info of linux/bpf.h."""
        return self.known.id

    def disassemble(self):
        """The instructions as the kernel runs them, as text, one a line. Source: bpf_obj_get_info_by_fd()."""
        return self.info().disassemble()

    @property
    def pin_path(self):
        """Where this object has pinned it, or found it pinned; else None."""
        self.check()
        return self.where

    def pin(self, path, *, path_fd=None):
        """Pin it in a BPF file system; with ``path_fd`` (kernel 6.5, libbpf 1.3) relative to that folder's descriptor.

        Source: bpf_obj_pin(), bpf_obj_pin_opts().
        """
        import os
        self.check()
        locked = self.begin("pin")
        try:
            pin_descriptor(self.own, path, path_fd, self)
        finally:
            self.unlock(locked)
        if path_fd is None:
            self.where = path_text(path_bytes(path))

    def unpin(self, path=None):
        """Remove a pin, by default the one at pin_path. As bpf_program__unpin() does it: unlink(2)."""
        import os
        self.check()
        path = path or self.where
        if path is None:
            raise ValueError(f"{self} has no pin_path: give a path")
        os.unlink(path)
        if path_text(path_bytes(path)) == self.where:
            self.where = None

    def attach_raw_tracepoint(self, name=None, *, cookie=0):
        """Attach to a raw tracepoint by name, or with None to what the program was loaded for (tp_btf, fentry, LSM).

        ``cookie``: kernel 6.9, libbpf 1.4. Minimum kernel 4.17, to look at the Link 5.8.
        Source: bpf_raw_tracepoint_open(), bpf_raw_tracepoint_open_opts().
        """
        cdef bytes raw = None if name is None else name_bytes(name, "tracepoint name")
        cdef const char *c_name = NULL
        cdef bpf.bpf_raw_tp_opts opts
        cdef Call call
        cdef int fd
        if raw is not None:
            c_name = raw
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.tp_name = c_name
        opts.cookie = number64_of(cookie, "cookie")
        cdef str title = f"raw_tracepoint {name or ''}".strip()
        cdef bint locked = self.begin("attach raw_tracepoint")
        enter(&call, NULL)
        with nogil:
            if opts.cookie:
                fd = bpf.bpf_raw_tracepoint_open_opts(self.own, &opts)
            else:
                fd = bpf.bpf_raw_tracepoint_open(c_name, self.own)
        self.unlock(locked)
        finish(&call, fd, f"attach {title}", self)
        return link_of_descriptor(fd, None, self, title)


cdef KernelProgram own_program(int fd, object words):
    """Take over a descriptor; close it if it is not of a program."""
    cdef KernelProgram made = KernelProgram.__new__(KernelProgram)
    made.own = fd
    if not is_of_kind(fd, "bpf-prog"):
        raise ValueError(f"{words} is not a BPF program")
    made.known = program_info(fd, None)
    return made


def open_pinned(path, flags, path_fd):
    """What Program.open_pinned() does."""
    import os
    cdef KernelProgram made = own_program(open_pin(path, path_fd, number_of(flags, "flags")), path)
    if path_fd is None:
        made.where = path_text(path_bytes(path))
    return made


def from_id(id):
    """What Program.from_id() does."""
    return own_program(open_number(PROGRAM, id, 0), f"program {id}")


def from_fd(fd):
    """What Program.from_fd() does."""
    cdef int number = descriptor_of(fd, "program")
    words = f"descriptor {number}"
    return own_program(duplicate_fd(number), words)
