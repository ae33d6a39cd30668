"""Attaching to functions, of the kernel and of programs: probes, alone and many by one link, and USDT."""
import os as _os

from cpython.object cimport PyObject
from libc.errno cimport errno
from libc.string cimport memset

from .c cimport libbpf
from .c.uapi cimport __u64
from .call cimport Call, enter, note_missing
from .errors cimport need
from .link cimport HIDDEN_EVENT
from .paths cimport name_bytes, number64_of, number_of, path_bytes, signed_of
from .program cimport Program
from .targets cimport Functions, functions_of, memory_of

libbpf.pylbpf_on_missing = note_missing


cdef str words(object path):
    return _os.fsdecode(path)


def attach_kprobe(Program self not None, function, *, offset=0, bint retprobe=False, cookie=0,
                  attach_mode=0):
    """Attach to a kernel function, at ``offset`` bytes or at its return.

    Without a function (None, libbpf 1.8) ``offset`` is the address itself. ``cookie`` needs kernel 5.15.
    ``attach_mode`` is a ProbeAttachMode (libbpf 1.2): by default the best that the kernel has.
    Source: bpf_program__attach_kprobe_opts().
    """
    cdef bytes raw = None if function is None else name_bytes(function, "function name")
    cdef const char *c_function = NULL
    cdef unsigned int mode = number_of(attach_mode, "attach_mode")
    cdef size_t at = number64_of(offset, "offset")
    cdef unsigned long long value = number64_of(cookie, "cookie")
    cdef libbpf.bpf_kprobe_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    if raw is None:
        if at == 0:
            raise ValueError("a kprobe needs a function, or an address as offset")
        need(1, 8, "a kprobe at an address")
    else:
        c_function = raw
    if mode:
        need(1, 2, "attach_mode")
    cdef str title = f"{'kretprobe' if retprobe else 'kprobe'} {'' if function is None else function}+{at}"
    cdef bint locked = self.begin("attach kprobe")
    # Up to 1.1 the struct ended before attach_mode; a longer one of zeros is accepted.
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.bpf_cookie = value
    opts.offset = at
    opts.retprobe = retprobe
    opts.attach_mode = <libbpf.probe_attach_mode>mode
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_kprobe_opts(self.ptr, c_function, &opts)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title, HIDDEN_EVENT)


def attach_kprobe_multi(Program self not None, pattern=None, *, syms=None, addrs=None, cookies=None, bint retprobe=False,
                        bint session=False, bint unique_match=False):
    """Attach to many kernel functions by one link: a ``pattern`` with * and ?, or names (``syms``), or addresses.

    ``cookies`` has one number for each of ``syms`` or ``addrs``. ``session`` (libbpf 1.5, kernel 6.10) calls the
    program at entry and return; the program's section must be kprobe.session. ``unique_match`` (libbpf 1.6): one
    function must match, no more. The program must be loaded for it: section kprobe.multi. Minimum kernel 5.18.
    Source: bpf_program__attach_kprobe_multi_opts().
    """
    cdef Functions many = functions_of(pattern, syms, addrs, "L", "addrs", None, cookies)
    cdef const char *c_pattern = <const char *>memory_of(many.raw)
    cdef libbpf.bpf_kprobe_multi_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    if session:
        need(1, 5, "session")
    if unique_match:
        need(1, 6, "unique_match")
    cdef str title = f"kprobe.multi {many.words}"
    cdef bint locked = self.begin("attach kprobe.multi")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.syms = <const char **>memory_of(many.syms)
    opts.addrs = <const unsigned long *>memory_of(many.numbers)
    opts.cookies = <const __u64 *>memory_of(many.cookies)
    opts.cnt = many.count
    opts.retprobe = retprobe
    opts.session = session
    opts.unique_match = unique_match
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_kprobe_multi_opts(self.ptr, c_pattern, &opts)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)


def attach_ksyscall(Program self not None, syscall, *, bint retprobe=False, cookie=0):
    """Attach to a system call ("nanosleep"), whatever the kernel's function for it is named.

    ``cookie`` needs kernel 5.15. Source: bpf_program__attach_ksyscall().
    """
    cdef bytes raw = name_bytes(syscall, "system call")
    cdef const char *name = raw
    cdef unsigned long long value = number64_of(cookie, "cookie")
    cdef libbpf.bpf_ksyscall_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef str title = f"{'kretsyscall' if retprobe else 'ksyscall'} {syscall}"
    cdef bint locked = self.begin("attach ksyscall")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.bpf_cookie = value
    opts.retprobe = retprobe
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_ksyscall(self.ptr, name, &opts)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title, HIDDEN_EVENT)


def attach_uprobe(Program self not None, path, *, pid=-1, offset=0, function=None, bint retprobe=False,
                  cookie=0, ref_ctr_offset=0, attach_mode=0):
    """Attach to a function, or an offset in bytes, of a binary or shared library.

    ``pid`` -1 is every process, 0 this one. A ``function`` is looked up in the ELF symbols, and a ``path`` without
    slash in the usual library and program folders. ``cookie`` needs kernel 5.15, ``ref_ctr_offset`` 4.20,
    ``attach_mode`` (a ProbeAttachMode) libbpf 1.2. Source: bpf_program__attach_uprobe_opts().
    """
    cdef bytes raw_path = path_bytes(path)
    cdef bytes raw_function = None if function is None else name_bytes(function, "function name")
    cdef const char *c_path = raw_path
    cdef unsigned int mode = number_of(attach_mode, "attach_mode")
    cdef size_t at = number64_of(offset, "offset")
    cdef size_t counter = number64_of(ref_ctr_offset, "ref_ctr_offset")
    cdef unsigned long long value = number64_of(cookie, "cookie")
    cdef int process = signed_of(pid, "pid")
    cdef libbpf.bpf_uprobe_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    if mode:
        need(1, 2, "attach_mode")
    cdef str title = f"{'uretprobe' if retprobe else 'uprobe'} {words(path)}:{function or ''}+{at:#x}"
    cdef bint locked = self.begin("attach uprobe")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.ref_ctr_offset = counter
    opts.bpf_cookie = value
    opts.retprobe = retprobe
    opts.attach_mode = <libbpf.probe_attach_mode>mode
    if raw_function is not None:
        opts.func_name = raw_function
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_uprobe_opts(self.ptr, process, c_path, at, &opts)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title, HIDDEN_EVENT)


def attach_uprobe_multi(Program self not None, path, pattern=None, *, pid=-1, syms=None, offsets=None, ref_ctr_offsets=None,
                        cookies=None, bint retprobe=False, bint session=False):
    """Attach to many functions of a binary by one link: a ``pattern`` with * and ?, or names, or ``offsets``.

    ``cookies`` and ``ref_ctr_offsets`` have one number for each of ``syms`` or ``offsets``. ``pid`` -1 is every
    process, 0 this one. ``session`` (libbpf 1.6, kernel 6.13) calls the program at entry and return. The program
    must be loaded for it: section uprobe.multi. Minimum kernel 6.6, libbpf 1.3.
    Source: bpf_program__attach_uprobe_multi().
    """
    cdef bytes raw_path = path_bytes(path)
    cdef const char *c_path = raw_path
    cdef Functions many = functions_of(pattern, syms, offsets, "L", "offsets", ref_ctr_offsets, cookies)
    cdef const char *c_pattern = <const char *>memory_of(many.raw)
    cdef int process = signed_of(pid, "pid")
    cdef libbpf.bpf_uprobe_multi_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    if session:
        need(1, 6, "session")
    cdef str title = f"uprobe.multi {words(path)}:{many.words}"
    cdef bint locked = self.begin("attach uprobe.multi")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.syms = <const char **>memory_of(many.syms)
    opts.offsets = <const unsigned long *>memory_of(many.numbers)
    opts.ref_ctr_offsets = <const unsigned long *>memory_of(many.counters)
    opts.cookies = <const __u64 *>memory_of(many.cookies)
    opts.cnt = many.count
    opts.retprobe = retprobe
    opts.session = session
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_uprobe_multi(self.ptr, process, c_path, c_pattern, &opts)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)


def attach_usdt(Program self not None, path, provider, name, *, pid=-1, cookie=0):
    """Attach to a USDT probe of a binary or shared library, at all places where it stands.

    ``pid`` -1 is every process, 0 this one. The link has no descriptor, so it cannot be pinned, and it is closed
    with the object at the latest. Source: bpf_program__attach_usdt().
    """
    cdef bytes raw_path = path_bytes(path)
    cdef bytes raw_provider = name_bytes(provider, "provider")
    cdef bytes raw_name = name_bytes(name, "probe name")
    cdef const char *c_path = raw_path
    cdef const char *c_provider = raw_provider
    cdef const char *c_name = raw_name
    cdef unsigned long long value = number64_of(cookie, "cookie")
    cdef int process = signed_of(pid, "pid")
    cdef libbpf.bpf_usdt_opts opts
    cdef libbpf.bpf_link *link
    cdef Call call
    cdef int code = 0
    cdef str title = f"usdt {words(path)}:{provider}:{name}"
    cdef bint locked = self.begin("attach usdt")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.usdt_cookie = value
    enter(&call, <PyObject *>self.handle)
    with nogil:
        link = libbpf.bpf_program__attach_usdt(self.ptr, process, c_path, c_provider, c_name, &opts)
        if link == NULL:
            code = -errno
    return self.end(&call, link, code, locked, title)
