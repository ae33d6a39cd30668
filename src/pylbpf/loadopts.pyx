"""The options of one program's load, as a prepare_load callback may change them."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
cimport cython

from .c cimport bpf, uapi
from .errors cimport lacks
from .handle cimport Handle
from .paths cimport number_of
from .targets cimport descriptor_of

cdef extern from "Python.h":
    int PyObject_GenericSetAttr(object owner, object name, object value) except -1

cdef extern from "<stddef.h>" nogil:
    size_t OFFSET_token_fd "offsetof(struct pylbpf_bpf_prog_load_opts, token_fd)"
    size_t OFFSET_fd_array_cnt "offsetof(struct pylbpf_bpf_prog_load_opts, fd_array_cnt)"


@cython.final
cdef class LoadOpts:
    """A live view of struct bpf_prog_load_opts inside prepare_load; once the callback returns, it raises ValueError.

    What a callback sets here is what BPF_PROG_LOAD gets, for this load only. Numbers out of the field's range raise
    OverflowError or ValueError. Buffers given to ``func_info``, ``line_info`` and ``fd_array`` are copied and kept
    until the load has ended. ``log_level``, ``log_size`` and ``log_buf`` are libbpf's to set right after the callback:
    they are read-only here, set ``Program.log_level`` before the load. Source: bpf_prog_load() in bpf.h of libbpf.
    """

    def __init__(self):
        raise TypeError("options are given to prepare_load")

    cdef bpf.bpf_prog_load_opts *live(self) except NULL:
        if self.ptr == NULL:
            raise ValueError("these load options are over: their prepare_load callback has returned")
        return self.ptr

    cdef int needs(self, size_t offset, const char *what, const char *since) except -1:
        # The struct is libbpf's own, as long as its version made it.
        if self.live().sz <= offset:
            lacks(what, since, None)
        return 0

    cdef const void *keep(self, object data, Py_ssize_t item, unsigned int *count) except? NULL:
        """Copy a buffer of whole items to where it stays until the load is over. Runs user code: live() comes after."""
        cdef bytes copy = memoryview(data).tobytes()
        if len(copy) % item:
            raise ValueError(f"{len(copy)} bytes are not a whole number of items of {item}")
        if self.handle.kept is None:
            self.handle.kept = []
        self.handle.kept.append(copy)
        count[0] = len(copy) // item
        return PyBytes_AS_STRING(copy) if len(copy) else NULL

    @property
    def expected_attach_type(self):
        """AttachType."""
        from .enums import AttachType
        return AttachType(<int>self.live().expected_attach_type)

    @expected_attach_type.setter
    def expected_attach_type(self, value):
        cdef unsigned int number = number_of(value, "expected_attach_type")
        self.live().expected_attach_type = <uapi.bpf_attach_type>number

    @property
    def attach_btf_id(self):
        """Type id of the attach target, in the kernel's BTF or that of attach_btf_obj_fd or attach_prog_fd."""
        return self.live().attach_btf_id

    @attach_btf_id.setter
    def attach_btf_id(self, value):
        cdef unsigned int number = number_of(value, "attach_btf_id")
        self.live().attach_btf_id = number

    @property
    def attach_btf_obj_fd(self):
        """BTF object, as of a kernel module, that attach_btf_id is in. Excludes attach_prog_fd."""
        return self.live().attach_btf_obj_fd

    @attach_btf_obj_fd.setter
    def attach_btf_obj_fd(self, value):
        cdef unsigned int number = descriptor_of(value, "attach_btf_obj_fd")
        self.live().attach_btf_obj_fd = number

    @property
    def attach_prog_fd(self):
        """Program whose function attach_btf_id is. Excludes attach_btf_obj_fd."""
        return self.live().attach_prog_fd

    @attach_prog_fd.setter
    def attach_prog_fd(self, value):
        cdef unsigned int number = descriptor_of(value, "attach_prog_fd")
        self.live().attach_prog_fd = number

    @property
    def prog_flags(self):
        """ProgramFlags."""
        from .enums import ProgramFlags
        return ProgramFlags(self.live().prog_flags)

    @prog_flags.setter
    def prog_flags(self, value):
        cdef unsigned int number = number_of(value, "prog_flags")
        self.live().prog_flags = number

    @property
    def prog_ifindex(self):
        """Network device to offload to, 0 for none."""
        return self.live().prog_ifindex

    @prog_ifindex.setter
    def prog_ifindex(self, value):
        cdef unsigned int number = number_of(value, "prog_ifindex")
        self.live().prog_ifindex = number

    @property
    def kern_version(self):
        """Kernel version as LINUX_VERSION_CODE; only kernels before 5.0 look at it."""
        return self.live().kern_version

    @kern_version.setter
    def kern_version(self, value):
        cdef unsigned int number = number_of(value, "kern_version")
        self.live().kern_version = number

    @property
    def prog_btf_fd(self):
        """BTF object that func_info and line_info are about."""
        return self.live().prog_btf_fd

    @prog_btf_fd.setter
    def prog_btf_fd(self, value):
        cdef unsigned int number = descriptor_of(value, "prog_btf_fd")
        self.live().prog_btf_fd = number

    @property
    def token_fd(self):
        """BPF token, 0 for none; set ProgramFlags.TOKEN_FD too. Needs libbpf 1.4."""
        self.needs(OFFSET_token_fd, b"token_fd", b"1.4")
        return self.live().token_fd

    @token_fd.setter
    def token_fd(self, value):
        cdef unsigned int number = descriptor_of(value, "token_fd")
        self.needs(OFFSET_token_fd, b"token_fd", b"1.4")
        self.live().token_fd = number

    @property
    def attempts(self):
        """How often the load is tried while the kernel answers EAGAIN; 0 is libbpf's default, 5."""
        return self.live().attempts

    @attempts.setter
    def attempts(self, value):
        cdef unsigned int number = number_of(value, "attempts")
        if number > 0x7fffffff:
            raise ValueError(f"attempts {value} is too large")
        self.live().attempts = number

    @property
    def func_info(self):
        """Raw func info as bytes, ``func_info_rec_size`` each; set a buffer of struct bpf_func_info, or None to clear."""
        cdef bpf.bpf_prog_load_opts *opts = self.live()
        return (<const char *>opts.func_info)[:opts.func_info_cnt * opts.func_info_rec_size] if opts.func_info != NULL else b""

    @func_info.setter
    def func_info(self, value):
        cdef unsigned int count = 0
        cdef const void *data = self.keep(b"" if value is None else value, sizeof(uapi.bpf_func_info), &count)
        cdef bpf.bpf_prog_load_opts *opts = self.live()
        opts.func_info = data
        opts.func_info_cnt = count
        opts.func_info_rec_size = sizeof(uapi.bpf_func_info) if count else 0

    @property
    def func_info_rec_size(self):
        """Bytes of one record of func_info."""
        return self.live().func_info_rec_size

    @property
    def line_info(self):
        """Raw line info as bytes, ``line_info_rec_size`` each; set a buffer of struct bpf_line_info, or None to clear."""
        cdef bpf.bpf_prog_load_opts *opts = self.live()
        return (<const char *>opts.line_info)[:opts.line_info_cnt * opts.line_info_rec_size] if opts.line_info != NULL else b""

    @line_info.setter
    def line_info(self, value):
        cdef unsigned int count = 0
        cdef const void *data = self.keep(b"" if value is None else value, sizeof(uapi.bpf_line_info), &count)
        cdef bpf.bpf_prog_load_opts *opts = self.live()
        opts.line_info = data
        opts.line_info_cnt = count
        opts.line_info_rec_size = sizeof(uapi.bpf_line_info) if count else 0

    @property
    def line_info_rec_size(self):
        """Bytes of one record of line_info."""
        return self.live().line_info_rec_size

    @property
    def fd_array(self):
        """Descriptors that instructions refer to by index. Reading needs their count: libbpf 1.6, else None."""
        cdef bpf.bpf_prog_load_opts *opts = self.live()
        if opts.fd_array == NULL or opts.sz <= OFFSET_fd_array_cnt or not opts.fd_array_cnt:
            return None
        return tuple([opts.fd_array[at] for at in range(opts.fd_array_cnt)])

    @fd_array.setter
    def fd_array(self, value):
        cdef unsigned int count = 0
        import array
        numbers = () if value is None else [descriptor_of(item, "fd_array") for item in value]
        cdef const void *data = self.keep(array.array("i", numbers), sizeof(int), &count)
        cdef bpf.bpf_prog_load_opts *opts = self.live()
        opts.fd_array = <const int *>data
        if opts.sz > OFFSET_fd_array_cnt:
            # With no count the kernel takes what the instructions use.
            opts.fd_array_cnt = 0

    @property
    def log_level(self):
        """Read-only: set Program.log_level before the load."""
        return self.live().log_level

    @property
    def log_size(self):
        """Read-only: libbpf makes the log's buffer, of any size that is needed."""
        return self.live().log_size

    def __setattr__(self, name, value):
        if name in ("log_level", "log_size", "log_buf"):
            raise AttributeError(f"{name} cannot be changed in prepare_load: libbpf overwrites it right afterwards; "
                                 f"set Program.log_level before the load")
        PyObject_GenericSetAttr(self, name, value)


cdef LoadOpts make_load_opts(Handle handle, bpf.bpf_prog_load_opts *opts):
    cdef LoadOpts view = LoadOpts.__new__(LoadOpts)
    view.handle = handle
    view.ptr = opts
    return view
