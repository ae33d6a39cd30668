"""Instructions of a program, seen where libbpf keeps them."""
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.number cimport PyNumber_AsSsize_t
from cpython.object cimport PyObject
cimport cython

from .c cimport libbpf, uapi
from .handle cimport CLOSED, Handle, OPENING, Place, leave_place, phase_name, take_place
from .paths cimport index_of

import sys as _sys

cdef bint LITTLE_ENDIAN = _sys.byteorder == "little"
cdef object _dtype = None
cdef const char *FORMAT = b"T{B:code:B:regs:h:off:i:imm:}"


@cython.final
cdef class Insn:
    """One instruction, copied: ``code``, ``regs`` (both registers in one byte), ``off``, ``imm``, ``dst`` and ``src``.

    struct bpf_insn of linux/bpf.h. A 64-bit load of an immediate takes two of them.
    """

    cdef readonly int code, regs, off, imm

    def __init__(self, code, regs, off, imm):
        self.code = index_of(code, "code")
        self.regs = index_of(regs, "regs")
        self.off = index_of(off, "off")
        self.imm = index_of(imm, "imm")

    @property
    def dst(self):
        """Number of the destination register."""
        return self.regs & 15 if LITTLE_ENDIAN else self.regs >> 4

    @property
    def src(self):
        """Number of the source register, or a pseudo value that says what ``imm`` means."""
        return self.regs >> 4 if LITTLE_ENDIAN else self.regs & 15

    def __eq__(self, other):
        if not isinstance(other, Insn):
            return NotImplemented
        cdef Insn that = other
        return (self.code, self.regs, self.off, self.imm) == (that.code, that.regs, that.off, that.imm)

    def __hash__(self):
        return hash((self.code, self.regs, self.off, self.imm))

    def __repr__(self):
        return f"Insn(code={self.code:#04x}, dst={self.dst}, src={self.src}, off={self.off}, imm={self.imm})"


@cython.final
@cython.no_gc_clear     # the collector must not take the handle while a buffer is out: its release counts down there
cdef class Insns:
    """A program's instructions as a sequence of Insn and as a buffer, with no copy.

    Shape (n,), 8 bytes an item, struct format with the fields code, regs (u8), off (s16) and imm (s32):
    ``numpy.asarray(program.insns)["imm"]`` is a strided view of libbpf's own memory. Read-only, but for the view that
    ``Program.view_insns(writable=True)`` gives inside prepare_load. Slices are views too.

    While a buffer of it is in use (a memoryview, an array), whatever would move or free the instructions raises
    BufferError: prepare, load of an object that is not prepared, close, and set_insns of this program. A view that was asked for before
    such a move raises ValueError; ask the program again. During setup() the object does not exist yet: there the
    view is of a private copy, which stays valid for ever. Source: bpf_program__insns(), bpf_program__insn_cnt().
    """

    def __init__(self):
        raise TypeError("views of instructions come from Program.insns")

    cdef const uapi.bpf_insn *resolve(self) except NULL:
        """The address now, or an exception if this view is of another time."""
        if self.copy is not None:
            return <const uapi.bpf_insn *>PyBytes_AS_STRING(self.copy)
        self.handle.check_alive()
        if self.program == NULL:
            raise ValueError("this view was lent to a prepare_load callback, which has returned")
        self.handle.settle(self.program)
        if self.moves != self.handle.moves_of(self.program):
            raise ValueError(f"the instructions have moved since this view was taken; {self.handle.name} is now "
                             f"{phase_name(self.handle.phase)}")
        cdef const uapi.bpf_insn *insns = <const uapi.bpf_insn *>libbpf.bpf_program__insns(self.program)
        if insns == NULL:
            raise ValueError("the program has no instructions")
        return insns

    cdef int revoke(self) except -1:
        """End a loan; BufferError if somebody still holds a buffer of it."""
        self.program = NULL
        if self.exports:
            raise BufferError("a writable view of instructions was kept beyond prepare_load")
        return 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        cdef Py_ssize_t start, stop, step
        cdef const uapi.bpf_insn *insns
        cdef const unsigned char *raw
        cdef Py_ssize_t at
        cdef Insns part
        if isinstance(index, slice):
            start, stop, step = index.indices(self.count)
            part = Insns.__new__(Insns)
            part.handle = self.handle
            part.program = self.program
            part.copy = self.copy
            part.moves = self.moves
            part.writable = self.writable
            part.start = self.start + start * self.step
            part.step = self.step * step
            part.count = len(range(start, stop, step))
            part.loan = self.loan
            if self.loan is not None and self.program != NULL:
                self.loan.append(part)
            return part
        at = PyNumber_AsSsize_t(index, IndexError)
        if at < 0:
            at += self.count
        if not 0 <= at < self.count:
            raise IndexError(f"instruction {index} of {self.count}")
        insns = self.resolve() + self.start + at * self.step
        raw = <const unsigned char *>insns
        return Insn(raw[0], raw[1], insns.off, insns.imm)

    def __iter__(self):
        cdef Py_ssize_t at
        for at in range(self.count):
            yield self[at]

    def __eq__(self, other):
        if not isinstance(other, Insns):
            return NotImplemented
        return self.tobytes() == (<Insns>other).tobytes()

    __hash__ = None

    def __repr__(self):
        return f"<Insns: {self.count} instructions{', writable' if self.writable else ''}>"

    def tobytes(self):
        """Return a copy of the instructions as bytes, 8 for each."""
        if self.count and self.step == 1:
            return PyBytes_FromStringAndSize(<const char *>(self.resolve() + self.start), self.count * 8)
        return memoryview(self).tobytes()

    def to_numpy(self):
        """Return a structured numpy array, fields code, regs, off and imm, that is a view like this one: no copy.

        Faster than numpy.asarray(), which reads the buffer's format anew each time.
        """
        global _dtype
        import numpy
        if _dtype is None:
            _dtype = numpy.dtype([("code", "u1"), ("regs", "u1"), ("off", "i2"), ("imm", "i4")])
        return numpy.frombuffer(self, _dtype) if self.step == 1 and self.count else numpy.asarray(self)

    def disassemble(self):
        """Return the instructions as text, one a line, as the kernel's verifier writes them."""
        from .disasm import disassemble
        return disassemble(self.tobytes())

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef const uapi.bpf_insn *insns = self.resolve()
        if flags & PyBUF_WRITABLE and not self.writable:
            raise BufferError("instructions are read-only outside view_insns(writable=True) in prepare_load")
        if self.step != 1 and not (flags & PyBUF_STRIDES) == PyBUF_STRIDES:
            raise BufferError("a slice with a step needs a consumer that knows strides")
        self.shape[0] = self.count
        self.strides[0] = self.step * 8
        buffer.buf = <void *>(insns + self.start)
        buffer.obj = self
        buffer.len = self.count * 8
        buffer.itemsize = 8
        buffer.readonly = not self.writable
        buffer.ndim = 1
        buffer.format = <char *>FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = self.shape
        buffer.strides = self.strides
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self.exports += 1
        if self.copy is None:
            self.handle.exports += 1
            if self.exports == 1:
                self.place.owner = <PyObject *>self
                take_place(&self.place, &self.handle.viewed)

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
        if self.copy is None:
            self.handle.exports -= 1
            if self.exports == 0:
                leave_place(&self.place)


cdef Insns view_insns(Handle handle, libbpf.bpf_program *program, list loan):
    """A view, writable if it is added to a loan."""
    cdef Insns view = Insns.__new__(Insns)
    view.handle = handle
    view.program = program
    view.moves = handle.moves_of(program)
    view.count = libbpf.bpf_program__insn_cnt(program)
    view.step = 1
    view.writable = loan is not None
    view.loan = loan
    if handle.phase == OPENING:
        view.copy = PyBytes_FromStringAndSize(<const char *>libbpf.bpf_program__insns(program), view.count * 8)
    if loan is not None:
        loan.append(view)
    return view


cdef int check_insns_of(Handle handle, const libbpf.bpf_program *program, str operation, object name) except -1:
    cdef Place *place = handle.viewed.after
    cdef Insns view
    cdef Py_ssize_t exports = 0
    while place != &handle.viewed:
        view = <Insns>place.owner
        if view.program == program or view.program == NULL:
            exports += view.exports
        place = place.after
    if exports:
        raise BufferError(f"cannot {operation} {name}: {exports} views of its instructions are in use")
    return 0
