"""One program of an object."""
import errno as _errno

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
cimport cython
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from .attach cimport Attachable
from .c cimport bpf, libbpf, uapi
from .call cimport Call, enter, note_missing
from .errors cimport finish
from .handle cimport FAILED, Handle, LOADED, OPEN, OPENING, PREPARED, Record, no_handler
from .insns cimport Insns, check_insns_of, view_insns
from .kernelfd cimport pin_descriptor
from .paths cimport name_bytes, number_of, path_bytes, path_text
from .targets cimport descriptor_of, interface_index

from .errors import StateError

libbpf.pylbpf_on_missing = note_missing

cdef extern from "Python.h":
    object PyMethod_New(object function, object instance)

cdef enum:
    BEFORE_LOAD = 1 << OPENING | 1 << OPEN | 1 << PREPARED
    BEFORE_PREPARE = 1 << OPENING | 1 << OPEN
    MAX_INSNS = 1000000


@cython.final
cdef class FuncInfo:
    """Where a function begins: ``insn_off`` (index of an instruction) and ``type_id`` (in the object's BTF).

    struct bpf_func_info of linux/bpf.h.
    """

    cdef readonly unsigned int insn_off, type_id

    def __repr__(self):
        return f"FuncInfo(insn_off={self.insn_off}, type_id={self.type_id})"


@cython.final
cdef class LineInfo:
    """Which line of C an instruction came from.

    ``insn_off`` (index of the instruction), ``file_name_off`` and ``line_off`` (offsets of strings in the object's
    BTF), ``line`` and ``column``. struct bpf_line_info of linux/bpf.h.
    """

    cdef readonly unsigned int insn_off, file_name_off, line_off, line, column

    def __repr__(self):
        return f"LineInfo(insn_off={self.insn_off}, line={self.line}, column={self.column})"


@cython.final
cdef class Method:
    """A method of Program that is a function of another room, which is imported when it is first asked for."""

    cdef str room, name
    cdef object function

    def __cinit__(self, str room, str name):
        self.room = room
        self.name = name

    def __get__(self, program, owner):
        if self.function is None:
            from importlib import import_module
            self.function = getattr(import_module(f"pylbpf.{self.room}"), self.name)
        return self.function if program is None else PyMethod_New(self.function, program)


@cython.final
cdef class Program(Attachable):
    """One program of an object. It keeps the object alive, and two of the same program are equal.

    Setters work before load (also in the callbacks of a handler), and raise StateError afterwards. A program that a
    handler's ``setup`` gets is good for as long as the open succeeds: if it fails, everything on it raises ValueError.
    """

    attach_kprobe = Method("attach_probe", "attach_kprobe")
    attach_kprobe_multi = Method("attach_probe", "attach_kprobe_multi")
    attach_ksyscall = Method("attach_probe", "attach_ksyscall")
    attach_uprobe = Method("attach_probe", "attach_uprobe")
    attach_uprobe_multi = Method("attach_probe", "attach_uprobe_multi")
    attach_usdt = Method("attach_probe", "attach_usdt")
    attach_raw_tracepoint = Method("attach_trace", "attach_raw_tracepoint")
    attach_tracepoint = Method("attach_trace", "attach_tracepoint")
    attach_perf_event = Method("attach_trace", "attach_perf_event")
    attach_trace = Method("attach_trace", "attach_trace")
    attach_tracing_multi = Method("attach_trace", "attach_tracing_multi")
    attach_freplace = Method("attach_trace", "attach_freplace")
    attach_lsm = Method("attach_trace", "attach_lsm")
    attach_iter = Method("attach_trace", "attach_iter")
    iter = Method("attach_trace", "iter")
    attach_xdp = Method("attach_net", "attach_xdp")
    attach_tcx = Method("attach_net", "attach_tcx")
    attach_netkit = Method("attach_net", "attach_netkit")
    attach_cgroup = Method("attach_net", "attach_cgroup")
    attach_netns = Method("attach_net", "attach_netns")
    attach_sockmap = Method("attach_net", "attach_sockmap")
    attach_netfilter = Method("attach_net", "attach_netfilter")

    @staticmethod
    def open_pinned(path, *, flags=0, path_fd=None):
        """Open a program that is pinned in a BPF file system, as a KernelProgram.

        With ``path_fd`` (kernel 6.5, libbpf 1.3) the path is relative to that folder's descriptor.
        Source: bpf_obj_get(), bpf_obj_get_opts().
        """
        from .kernelprogram import open_pinned
        return open_pinned(path, flags, path_fd)

    @staticmethod
    def from_id(id):
        """Open a program by the number that the kernel gave it, as a KernelProgram.

        FileNotFoundError if there is none, PermissionError without CAP_SYS_ADMIN. Minimum kernel 4.13.
        Source: bpf_prog_get_fd_by_id().
        """
        from .kernelprogram import from_id
        return from_id(id)

    @staticmethod
    def from_fd(fd):
        """Make a KernelProgram of a descriptor, given as a number or an object with fileno(), which stays the caller's.

        ValueError if it is not a program's. Source: bpf_prog_get_info_by_fd().
        """
        from .kernelprogram import from_fd
        return from_fd(fd)

    def __eq__(self, other):
        # Memory is used again: of a closed object the pointer alone says nothing.
        return isinstance(other, Program) and self.own == (<Program>other).own and self.handle is (<Program>other).handle

    def __hash__(self):
        return hash(<size_t>self.own)

    def __str__(self):
        return f"program '{self.name}'"

    def __repr__(self):
        if not self.handle.usable():
            return "<Program: closed>"
        return f"<Program: {self.name}, section '{self.section}', {self.type.name}>"

    cdef bint enter(self, str operation) except -1:
        """Lock the object; true if it must be released. Callbacks are in already; if several threads load, each has only
        the program that it was called for."""
        cdef Handle handle = self.handle
        if handle.parallel and handle.inside():
            handle.check_alive()
            if handle.preparation(self.own) == NULL:
                raise StateError(_errno.EBUSY, "several threads load the object: a callback has only its own program",
                                 operation, str(self))
            return False
        return handle.enter(operation)

    cdef bint change(self, int phases, str what) except -1:
        """Lock the object for a setter; true if it must be released."""
        cdef bint locked = self.enter(f"set {what} of")
        try:
            self.live()
            self.handle.require(phases, f"set {what} of {self} in")
        except BaseException:
            if locked:
                self.handle.release()
            raise
        return locked

    cdef int done(self, bint locked, int code, str what) except -1:
        cdef Call call
        if locked:
            self.handle.release()
        enter(&call, NULL)
        return finish(&call, code, f"set {what} of", self)

    @property
    def object(self):
        """The Object it belongs to; None during setup, as the object does not exist before open returns."""
        return None if self.handle.owner is None or self.handle.phase == OPENING else self.handle.owner()

    @property
    def name(self):
        """Name of the C function. Source: bpf_program__name()."""
        return libbpf.bpf_program__name(self.live()).decode("utf-8", "surrogateescape")

    @property
    def section(self):
        """Name of the ELF section, without the leading "?". Source: bpf_program__section_name()."""
        return libbpf.bpf_program__section_name(self.live()).decode("utf-8", "surrogateescape")

    @property
    def type(self):
        """A ProgramType; set it before load, see set_type(). Source: bpf_program__type()."""
        from .enums import ProgramType
        return ProgramType(<int>libbpf.bpf_program__type(self.live()))

    @type.setter
    def type(self, value):
        self.set_type(value)

    def set_type(self, type, *, bint drop_handler=False):
        """Change the program's type, by default keeping its handler.

        libbpf itself drops the handler of a program whose type changes; ``drop_handler=True`` does that. An override
        of a built-in section cannot keep its handler, because it stands in libbpf's own table: ValueError then.
        Source: bpf_program__set_type().
        """
        cdef unsigned int number = number_of(type, "type")
        cdef Handle handle = self.handle
        cdef const Record *record
        cdef size_t at
        cdef int code
        if number >= 1 << 16:
            raise ValueError(f"{type!r} is not a program type")
        cdef bint locked = self.change(BEFORE_LOAD, "type")
        record = handle.record_of(self.own)
        if record != NULL and not drop_handler and record.override and <int>number != <int>libbpf.bpf_program__type(self.ptr):
            if locked:
                handle.release()
            raise ValueError(f"{self} is bound to an override of a built-in section, which a new type would drop; "
                             f"give the handler this program_type, or pass drop_handler=True")
        if <int>number != <int>libbpf.bpf_program__type(self.ptr):
            if handle.retyped is None:
                handle.retyped = set()
            handle.retyped.add(self.name)
        code = libbpf.bpf_program__set_type(self.ptr, <uapi.bpf_prog_type>number)
        if drop_handler and code == 0:
            for at in range(handle.bound):
                if handle.bindings[at].program == self.own:
                    # Of an override libbpf may still know where it was, which is nothing to be used after the load.
                    handle.bindings[at].record = no_handler() if record != NULL and record.override else NULL
        self.done(locked, code, "type")

    @property
    def expected_attach_type(self):
        """An AttachType; set it before load. Source: bpf_program__expected_attach_type()."""
        from .enums import AttachType
        return AttachType(<int>libbpf.bpf_program__expected_attach_type(self.live()))

    @expected_attach_type.setter
    def expected_attach_type(self, value):
        cdef unsigned int number = number_of(value, "expected_attach_type")
        cdef bint locked = self.change(BEFORE_LOAD, "expected_attach_type")
        self.done(locked, libbpf.bpf_program__set_expected_attach_type(self.ptr, <uapi.bpf_attach_type>number),
                  "expected_attach_type")

    @property
    def flags(self):
        """ProgramFlags for BPF_PROG_LOAD; set them before load. Source: bpf_program__flags()."""
        from .enums import ProgramFlags
        return ProgramFlags(libbpf.bpf_program__flags(self.live()))

    @flags.setter
    def flags(self, value):
        cdef unsigned int number = number_of(value, "flags")
        cdef bint locked = self.change(BEFORE_LOAD, "flags")
        self.done(locked, libbpf.bpf_program__set_flags(self.ptr, number), "flags")

    @property
    def autoload(self):
        """Whether load() loads it; set it before prepare(). Source: bpf_program__autoload()."""
        return libbpf.bpf_program__autoload(self.live()) or self.handle.stand_of(self.own) != NULL

    @autoload.setter
    def autoload(self, bint value):
        # libbpf would accept it once prepared, and load code that was never relocated.
        cdef bint locked = self.change(BEFORE_PREPARE, "autoload")
        self.done(locked, libbpf.bpf_program__set_autoload(self.ptr, value), "autoload")

    @property
    def autoattach(self):
        """Whether Object.attach() attaches it. Source: bpf_program__autoattach()."""
        return libbpf.bpf_program__autoattach(self.live())

    @autoattach.setter
    def autoattach(self, bint value):
        cdef bint locked = self.change(BEFORE_LOAD | 1 << LOADED, "autoattach")
        libbpf.bpf_program__set_autoattach(self.ptr, value)
        self.done(locked, 0, "autoattach")

    @property
    def ifindex(self):
        """Network device that the program is offloaded to, 0 for none; set it by name or index before load.

        Source: bpf_program__set_ifindex().
        """
        self.live()
        return 0 if self.handle.ifindexes is None else self.handle.ifindexes.get(self.name, 0)

    @ifindex.setter
    def ifindex(self, value):
        cdef unsigned int index = 0 if value == 0 else interface_index(value)
        cdef bint locked = self.change(BEFORE_LOAD, "ifindex")
        libbpf.bpf_program__set_ifindex(self.ptr, index)
        if self.handle.ifindexes is None:
            self.handle.ifindexes = {}
        self.handle.ifindexes[self.name] = index
        self.done(locked, 0, "ifindex")

    @property
    def log_level(self):
        """Detail of the verifier's log: 0 only on failure, 1, 2, 4 statistics. Source: bpf_program__log_level()."""
        return libbpf.bpf_program__log_level(self.live())

    @log_level.setter
    def log_level(self, value):
        cdef unsigned int number = number_of(value, "log_level")
        if number > 7:
            raise ValueError(f"log_level is 0 to 7, not {value}")
        cdef bint locked = self.change(BEFORE_LOAD, "log_level")
        self.handle.verbose = self.handle.verbose or number != 0
        self.done(locked, libbpf.bpf_program__set_log_level(self.ptr, number), "log_level")

    @property
    def log(self):
        """The verifier's log of the load as str: of a failure always, of a success if log_level was set; else ""."""
        self.handle.check_alive()
        return "" if self.handle.logs is None else self.handle.logs.get(self.name, "")

    @property
    def fd(self):
        """File descriptor, owned by the object; -1 if the program is not loaded. Source: bpf_program__fd()."""
        return max(libbpf.bpf_program__fd(self.live()), -1)

    def fileno(self):
        """Same as fd, but StateError if the program is not loaded."""
        cdef int fd = libbpf.bpf_program__fd(self.live())
        if fd < 0:
            raise StateError(_errno.EINVAL, "the program is not loaded", "fileno", str(self))
        return fd

    @property
    def handler(self):
        """The handler that the program was bound to when it was opened, or None."""
        self.live()
        cdef const Record *record = self.handle.record_of(self.own)
        return None if record == NULL or record.handler == NULL else <object>record.handler

    def set_attach_target(self, name, *, prog_fd=0):
        """Choose what a fentry, fexit, LSM, iterator or freplace program is loaded for.

        ``name`` is a kernel function or hook, or with ``prog_fd`` (a descriptor, or an object with fileno(), such as
        a loaded Program) a function of that program, which must stay open until load. Before load only.
        Source: bpf_program__set_attach_target().
        """
        cdef bytes raw = name_bytes(name, "attach target")
        cdef const char *c_name = raw
        cdef int fd = descriptor_of(prog_fd, "prog_fd")
        cdef Call call
        cdef int code
        cdef bint locked = self.change(BEFORE_LOAD, "attach target")
        cdef libbpf.bpf_program *program = self.ptr
        if fd and not isinstance(prog_fd, int):
            keep(self.handle, prog_fd)
        enter(&call, <PyObject *>self.handle)
        with nogil:
            code = libbpf.bpf_program__set_attach_target(program, fd, c_name)
        if code == 0:
            if self.handle.targets is None:
                self.handle.targets = {}
            self.handle.targets[self.name] = raw, fd
        if locked:
            self.handle.release()
        finish(&call, code, f"set attach target {raw.decode('utf-8', 'surrogateescape') if raw is not None else ''} of", self)

    @property
    def insn_count(self):
        """Number of instructions now: before prepare those of the section, then with sub-programs appended."""
        return libbpf.bpf_program__insn_cnt(self.live())

    @property
    def insns(self):
        """The instructions as an Insns view, without a copy: see there for how long it is good."""
        return view_insns(self.handle, self.live(), None)

    def view_insns(self, *, bint writable=False):
        """The instructions as an Insns view; ``writable=True`` only inside this program's prepare_load callback.

        A writable view ends with the callback: keeping a buffer of it is a BufferError.
        """
        cdef libbpf.bpf_program *program = self.live()
        cdef Call *call
        if not writable:
            return view_insns(self.handle, program, None)
        call = self.handle.preparation(self.own)
        if call == NULL:
            raise StateError(_errno.EINVAL, "instructions are writable only inside prepare_load", "view_insns", str(self))
        return view_insns(self.handle, program, <list>call.loan)

    def disassemble(self):
        """The instructions as text, one a line, as the kernel's verifier writes them."""
        return self.insns.disassemble()

    def set_insns(self, insns):
        """Replace all instructions by those of a bytes-like object, a view or a numpy array (8 bytes each).

        Legal once the object is prepared, and inside this program's prepare_load, where a change of length also
        clears the func and line info that no longer fit; StateError elsewhere, BufferError while views are in use,
        ValueError unless there are 1 to 1,000,000. The argument is copied. Source: bpf_program__set_insns().
        """
        cdef Handle handle = self.handle
        cdef Py_buffer buffer
        cdef uapi.bpf_insn *block
        cdef Py_ssize_t size
        cdef Call call
        cdef Call *preparation
        cdef int code
        cdef size_t before
        cdef bint locked
        cdef bytes plain
        # Where the argument is (part of) our own memory, libbpf would copy from what it has just freed.
        plain = (<Insns>insns).tobytes() if isinstance(insns, Insns) else memoryview(insns).tobytes()
        size = len(plain)
        if size % 8 or not 1 <= size // 8 <= MAX_INSNS:
            raise ValueError(f"{size} bytes are not 1 to {MAX_INSNS:,} instructions of 8 bytes")
        locked = self.enter("set instructions of")
        try:
            self.live()
            preparation = handle.preparation(self.own)
            if preparation == NULL:
                if handle.loading:
                    raise StateError(_errno.EBUSY, "prepare_load may replace the instructions of its own program only",
                                     "set instructions of", str(self))
                handle.require(1 << PREPARED, f"set instructions of {self} in")
            check_insns_of(handle, self.ptr, "set instructions of", self)
            handle.note_move(self.ptr)
        except BaseException:
            if locked:
                handle.release()
            raise
        block = <uapi.bpf_insn *>malloc(size)
        if block == NULL:
            if locked:
                handle.release()
            raise MemoryError()
        memcpy(block, <const char *>plain, size)
        before = libbpf.bpf_program__insn_cnt(self.ptr)
        enter(&call, <PyObject *>handle)
        code = libbpf.bpf_program__set_insns(self.ptr, block, size // 8)
        free(block)
        if code == 0 and preparation != NULL and before != <size_t>(size // 8):
            preparation.opts.func_info = NULL
            preparation.opts.func_info_cnt = preparation.opts.func_info_rec_size = 0
            preparation.opts.line_info = NULL
            preparation.opts.line_info_cnt = preparation.opts.line_info_rec_size = 0
        if locked:
            handle.release()
        finish(&call, code, "set instructions of", self)

    @property
    def func_info(self):
        """A tuple of FuncInfo. Needs libbpf 1.6. Source: bpf_program__func_info()."""
        cdef Call call
        cdef const uapi.bpf_func_info *info
        cdef unsigned int count, at
        cdef FuncInfo item
        cdef libbpf.bpf_program *program = self.live()
        self.handle.settle(program)
        enter(&call, NULL)
        count = libbpf.bpf_program__func_info_cnt(program)
        info = libbpf.bpf_program__func_info(program)
        finish(&call, -95 if call.missing != NULL else 0, "read func_info of", self)
        items = []
        for at in range(count if info != NULL else 0):
            item = FuncInfo.__new__(FuncInfo)
            item.insn_off = info[at].insn_off
            item.type_id = info[at].type_id
            items.append(item)
        return tuple(items)

    @property
    def line_info(self):
        """A tuple of LineInfo. Needs libbpf 1.6. Source: bpf_program__line_info()."""
        cdef Call call
        cdef const uapi.bpf_line_info *info
        cdef unsigned int count, at
        cdef LineInfo item
        cdef libbpf.bpf_program *program = self.live()
        self.handle.settle(program)
        enter(&call, NULL)
        count = libbpf.bpf_program__line_info_cnt(program)
        info = libbpf.bpf_program__line_info(program)
        finish(&call, -95 if call.missing != NULL else 0, "read line_info of", self)
        items = []
        for at in range(count if info != NULL else 0):
            item = LineInfo.__new__(LineInfo)
            item.insn_off = info[at].insn_off
            item.file_name_off = info[at].file_name_off
            item.line_off = info[at].line_off
            item.line = info[at].line_col >> 10
            item.column = info[at].line_col & 0x3ff
            items.append(item)
        return tuple(items)

    def pin(self, path, *, path_fd=None):
        """Pin the program in a BPF file system, so that the kernel keeps it; the file stays when the object is closed.

        With ``path_fd`` (kernel 6.5, libbpf 1.3) relative to that folder's descriptor.
        Source: bpf_program__pin(), bpf_obj_pin_opts().
        """
        if path_fd is None:
            self.pin_or_unpin(path, "pin")
        else:
            pin_descriptor(self.fileno(), path, path_fd, self)

    def unpin(self, path):
        """Remove a pin of this program. Source: bpf_program__unpin()."""
        self.pin_or_unpin(path, "unpin")

    cdef int pin_or_unpin(self, object path, str operation) except -1:
        cdef bytes raw = path_bytes(path)
        cdef const char *where = raw
        cdef bint pin = operation == "pin"
        cdef Call call
        cdef int code
        cdef bint locked = self.begin(operation)
        cdef str words = f"{self}, {path_text(raw)}"
        enter(&call, <PyObject *>self.handle)
        with nogil:
            code = libbpf.bpf_program__pin(self.ptr, where) if pin else libbpf.bpf_program__unpin(self.ptr, where)
        if locked:
            self.handle.release()
        finish(&call, code, operation, words)

    def unload(self):
        """Close the program's descriptor; the kernel frees it when nothing else holds it.

        Views of its instructions stay valid. Source: bpf_program__unload().
        """
        cdef bint locked = self.handle.enter("unload")
        try:
            self.handle.require(1 << LOADED, "unload")
            self.handle.wait_users()
            libbpf.bpf_program__unload(self.live())
        finally:
            if locked:
                self.handle.release()

    def clone(self):
        """Load the prepared program once more, and return its descriptor, which the caller owns and closes.

        Only while the object is prepared. Needs libbpf 1.8. Source: bpf_program__clone().
        """
        cdef Call call
        cdef int fd
        cdef bint locked = self.enter("clone")
        try:
            self.handle.require(1 << PREPARED, f"clone {self} of")
            self.live()
            enter(&call, <PyObject *>self.handle)
            with nogil:
                fd = libbpf.bpf_program__clone(self.ptr, NULL)
            finish(&call, fd, "clone", self)
        finally:
            if locked:
                self.handle.release()
        return fd


cdef int keep(Handle handle, object thing) except -1:
    if handle.kept is None:
        handle.kept = []
    handle.kept.append(thing)
    return 0


cdef Program make_program(Handle handle, libbpf.bpf_program *ptr):
    cdef Program program = Program.__new__(Program)
    program.handle = handle
    program.own = program.ptr = ptr
    return program
