"""A loaded program at work: what the kernel says about it, what it writes, what it is bound to; and runs by hand."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.string cimport memset

from .c cimport bpf, libbpf
from .call cimport Call, enter, note_missing
from .errors cimport finish
from .info cimport program_info
from .link cimport Linked
from .paths cimport number_of
from .targets cimport Target, held
from .testrun cimport test_run

libbpf.pylbpf_on_missing = note_missing


cdef class AtWork(Linked):
    """What Program and KernelProgram inherit: everything that needs it loaded, but attaching."""

    def info(self):
        """What the kernel says about the loaded program now: a ProgramInfo.

        Its arrays are fetched when they are asked for, as long as the object is open.
        Source: bpf_obj_get_info_by_fd().
        """
        return program_info(self.fileno(), self)

    def test_run(self, data=None, ctx=None, *, repeat=1, cpu=None, flags=0, bint live_frames=False, batch_size=0,
                 data_size_out=None):
        """Run the loaded program on data that is made up, and return a TestRun.

        ``data`` (bytes-like) is the packet, ``ctx`` the context (bytes-like, as the type's struct of linux/bpf.h, or
        for raw tracepoints and fentry an array of 64-bit arguments). ``repeat`` runs it more often, ``cpu`` (raw
        tracepoints) on that processor. ``live_frames`` (XDP, kernel 5.18) sends the packets on, in batches of ``batch_size``: nothing comes
        back. ``data_size_out`` is the room for the data that comes back, by default 4096 bytes more than went in; if
        that is not enough, BpfError (ENOSPC), whose ``result`` has what fits. The object is not locked meanwhile.
        Minimum kernel 4.12, of many types newer. Source: bpf_prog_test_run_opts().
        """
        return test_run(self, self.kind(), data, ctx, repeat, cpu, flags,
                        batch_size, live_frames, data_size_out)

    def bind_map(self, map):
        """Have the kernel keep a map (a Map or descriptor) as long as the program, although it does not use it.

        Minimum kernel 5.10. Source: bpf_prog_bind_map().
        """
        cdef Target kept = held(map, "map")
        cdef int fd = kept.fd
        cdef int program
        cdef Call call
        cdef int code
        cdef str title = f"bind {map} to"
        cdef bint locked = self.begin("bind a map to")
        program = self.number()
        enter(&call, NULL)
        with nogil:
            code = bpf.bpf_prog_bind_map(program, fd, NULL)
            if code < 0:
                code = -errno
        self.unlock(locked)
        finish(&call, code, title, self)

    def assoc_struct_ops(self, map):
        """Have the kernel functions that this program calls work on a struct_ops Map, which it did not learn from attaching.

        Minimum kernel 7.0, libbpf 1.7. Source: bpf_program__assoc_struct_ops(), bpf_prog_assoc_struct_ops().
        """
        from .structops import assoc_struct_ops
        assoc_struct_ops(self, map)

    def read_stream(self, stream, *, size=65536):
        """What the program has written to its stream 1 (standard output) or 2 (errors), bytes of up to ``size``.

        What is read is gone; b"" if there is nothing. Minimum kernel 6.17, libbpf 1.6. Source: bpf_prog_stream_read().
        """
        cdef unsigned int number = number_of(stream, "stream")
        cdef unsigned int room = number_of(size, "size")
        cdef bpf.bpf_prog_stream_read_opts opts
        cdef bytes text
        cdef char *out
        cdef Call call
        cdef int code, program
        if not 1 <= room <= 1 << 24:
            raise ValueError(f"size is 1 to {1 << 24}, not {room}")
        text = PyBytes_FromStringAndSize(NULL, room)
        out = PyBytes_AS_STRING(text)
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        program = self.hold()           # which may raise
        enter(&call, NULL)
        with nogil:
            code = bpf.bpf_prog_stream_read(program, number, out, room, &opts)
        self.let_go()
        finish(&call, code, f"read stream {number} of", self)
        return text[:code]
