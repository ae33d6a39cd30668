"""Programs run by hand, on data that is made up."""
cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport ENOSPC, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from .c cimport bpf
from .errors cimport fail
from .link cimport Linked
from .paths cimport get_buffer, number_of

from .errors import error_class

cdef enum:
    XDP_LIVE_FRAMES = 1 << 1        # BPF_F_TEST_XDP_LIVE_FRAMES
    RUN_ON_CPU = 1 << 0             # BPF_F_TEST_RUN_ON_CPU
    # enum bpf_prog_type
    XDP = 6
    RAW_TRACEPOINT = 17
    TRACING = 26
    STRUCT_OPS = 27
    SYSCALL = 31
    # What a program may add to its data: more than any headroom and tail of one page.
    GROWTH = 4096
    SMALL = 8192                    # bytes of output that fit on the stack


@cython.final
@cython.freelist(8)
cdef class TestRun:
    """What became of Program.test_run().

    ``retval`` (what the program returned, an unsigned number), ``data`` and ``ctx`` as the program left them (bytes, None
    where there were none), ``duration`` (nanoseconds of one run, the mean of all; 0 where the kernel does not measure).
    """

    cdef readonly unsigned int retval
    cdef readonly unsigned int duration
    cdef readonly bytes data
    cdef readonly bytes ctx

    def __init__(self):
        raise TypeError("made by Program.test_run()")

    def __repr__(self):
        return f"<TestRun: retval {self.retval}, {self.duration} ns>"


cdef object test_run(Linked program, int type, object data, object ctx, object repeat, object cpu, object flags,
                     object batch_size, bint live_frames, object data_size_out):
    cdef bpf.bpf_test_run_opts opts
    cdef Py_buffer data_in, ctx_in
    cdef char room[SMALL]
    cdef char *out = room
    cdef size_t data_room = 0
    cdef size_t ctx_room = 0
    cdef unsigned int times
    cdef int code, fd
    cdef bint has_data = False
    cdef bint has_ctx = False
    # No data, no repeating, no output but SYSCALL's ctx.
    cdef bint quiet = type in (RAW_TRACEPOINT, TRACING, STRUCT_OPS, SYSCALL)
    cdef TestRun result
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    times = number_of(repeat, "repeat")
    if not 1 <= times <= 0x7fffffff:
        raise ValueError(f"repeat is 1 or more, not {times}")
    opts.repeat = times if times > 1 else 0        # which is 1 too, and all types take it
    opts.flags = number_of(flags, "flags")
    opts.batch_size = number_of(batch_size, "batch_size")
    if cpu is not None:
        opts.cpu = number_of(cpu, "cpu")
        if type == XDP or type == SYSCALL:
            raise ValueError("cpu is for raw tracepoints: the kernel runs such a program where the caller is")
        if type == RAW_TRACEPOINT:
            opts.flags |= RUN_ON_CPU
    if live_frames:
        opts.flags |= XDP_LIVE_FRAMES
    try:
        if data is not None:
            get_buffer(data, &data_in, False, "data")
            has_data = True
            if data_in.len > 0x7fffffff - GROWTH:
                raise ValueError(f"{data_in.len} bytes of data are too many")
            opts.data_in = data_in.buf
            opts.data_size_in = data_in.len
        if ctx is not None:
            get_buffer(ctx, &ctx_in, False, "ctx")
            has_ctx = True
            if ctx_in.len > 1 << 20:
                raise ValueError(f"{ctx_in.len} bytes of context are too many")
            opts.ctx_in = ctx_in.buf
            opts.ctx_size_in = ctx_in.len
        if not opts.flags & XDP_LIVE_FRAMES:
            if data_size_out is not None:
                data_room = number_of(data_size_out, "data_size_out")
                if data_room > 1 << 30:
                    raise ValueError(f"data_size_out of {data_room} bytes is too much")
                if type == TRACING or type == STRUCT_OPS:
                    data_room = 0       # which the kernel neither fills nor refuses
            elif has_data and not quiet:
                data_room = data_in.len + GROWTH
            if has_ctx and (not quiet or type == SYSCALL):
                ctx_room = ctx_in.len
        if data_room + ctx_room > SMALL:
            out = <char *>malloc(data_room + ctx_room)
            if out == NULL:
                raise MemoryError()
        if ctx_room:
            memcpy(out, ctx_in.buf, ctx_room)       # for types that the kernel takes it of and gives none back
        if type == SYSCALL:
            # Its context is written back to where it came from.
            opts.ctx_in = out if has_ctx else NULL
        elif ctx_room:
            opts.ctx_out = out
            opts.ctx_size_out = ctx_room
        if data_room:
            opts.data_out = out + ctx_room
            opts.data_size_out = data_room
        fd = program.hold()         # after the last code of others, which may have closed it
        with nogil:
            code = bpf.bpf_prog_test_run_opts(fd, &opts)
            if code < 0:
                code = errno
        program.let_go()
        if code and code != ENOSPC:
            fail(code, "test run", program)
        result = TestRun.__new__(TestRun)
        result.retval = opts.retval
        result.duration = opts.duration
        if data_room:
            result.data = PyBytes_FromStringAndSize(out + ctx_room, min(<size_t>opts.data_size_out, data_room))
        if ctx_room:
            result.ctx = PyBytes_FromStringAndSize(out, ctx_room if type == SYSCALL
                                                   else min(<size_t>opts.ctx_size_out, ctx_room))
        if code:
            # The program has run: a second time might not be harmless.
            error = error_class(code)(code, f"its data has {opts.data_size_out} bytes, more than data_size_out", "test run",
                                      str(program))
            error.result = result
            raise error
        return result
    finally:
        if out != room:
            free(out)
        if has_data:
            PyBuffer_Release(&data_in)
        if has_ctx:
            PyBuffer_Release(&ctx_in)
