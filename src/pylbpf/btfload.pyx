"""Where types come from: the running kernel, its modules, numbers, files and bytes."""
import os as _os

from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport errno
from libc.string cimport memset, strcmp
from posix.unistd cimport close

from .btf cimport Btf, own_btf
from .c cimport bpf, uapi
from .c cimport btf as c_btf
from .call cimport Call, enter
from .errors cimport fail, finish
from .paths cimport name_bytes, number_of, path_bytes, path_text

from .btffile import read_btf
from .errors import LibbpfError

cdef enum:
    HEADER = 24
    NO_BTF = 4001                   # LIBBPF_ERRNO__FORMAT
    NAME_ROOM = 64                  # of the kernel's modules

# The kernel's, once it was asked for. Its megabytes are read once.
cdef Btf kernel_btf = None


def kernel():
    global kernel_btf
    cdef c_btf.btf *ptr
    cdef Call call
    cdef int code
    if kernel_btf is None:
        enter(&call, NULL)
        with nogil:
            ptr = c_btf.btf__load_vmlinux_btf()
            code = 0 if ptr != NULL else -errno
        finish(&call, code, "read types of", "the kernel")
        made = own_btf(ptr, None, "the kernel", True)
        if kernel_btf is None:      # no other thread was faster
            kernel_btf = made
    return kernel_btf


def module(name):
    cdef bytes raw = name_bytes(name, "module name")
    cdef const char *c_name = raw
    cdef Btf base
    cdef c_btf.btf *ptr
    cdef Call call
    cdef int code
    if b"/" in raw or len(raw) >= NAME_ROOM:
        raise ValueError(f"{name!r} is not the name of a module")
    base = kernel()
    enter(&call, NULL)
    with nogil:
        ptr = c_btf.btf__load_module_btf(c_name, base.ptr)
        code = 0 if ptr != NULL else -errno
    finish(&call, code, "read types of", f"module {name}")
    return own_btf(ptr, base, f"module {name}", False)


def from_id(id):
    cdef unsigned int number = number_of(id, "id")
    cdef uapi.bpf_btf_info info
    cdef unsigned int length = sizeof(info)
    cdef char name[NAME_ROOM]
    cdef Btf base = None
    cdef c_btf.btf *base_ptr = NULL
    cdef c_btf.btf *ptr
    cdef Call call
    cdef int fd, code
    subject = f"BTF {number}"
    with nogil:
        fd = bpf.bpf_btf_get_fd_by_id(number)
    if fd < 0:
        fail(-fd, "read types of", subject)
    memset(&info, 0, sizeof(info))
    memset(name, 0, NAME_ROOM)
    info.name = <unsigned long long><size_t>name
    info.name_len = NAME_ROOM
    code = bpf.bpf_obj_get_info_by_fd(fd, &info, &length)
    close(fd)
    if code < 0:
        fail(-code, "read types of", subject)
    if info.kernel_btf and strcmp(name, b"vmlinux"):
        base = kernel()
        base_ptr = base.ptr
    enter(&call, NULL)
    with nogil:
        ptr = c_btf.btf__load_from_kernel_by_id_split(number, base_ptr)
        code = 0 if ptr != NULL else -errno
    finish(&call, code, "read types of", subject)
    return own_btf(ptr, base, subject, False)


def parse(path, base):
    label = path_text(path_bytes(path))
    data, own_base = read_btf(path)
    if own_base is not None:
        if base is not None:
            raise ValueError(f"{label} has a base of its own, .BTF.base: its types do not continue another one")
        base = parse_bytes(own_base, None, f"{label} (.BTF.base)")
    return parse_bytes(data, base, label)


def parse_bytes(bytes data, object base, str label):
    """Raw BTF, on top of a base or None."""
    cdef Btf under
    cdef c_btf.btf *ptr
    cdef const void *start = PyBytes_AS_STRING(data)
    cdef unsigned int size
    cdef bytes path
    cdef const char *c_path
    cdef Call call
    cdef int code
    check_header(data, label)
    size = <unsigned int>len(data)
    if base is None:
        enter(&call, NULL)
        with nogil:
            ptr = c_btf.btf__new(start, size)
            code = 0 if ptr != NULL else -errno
        finish(&call, code, "read types of", label)
        return own_btf(ptr, None, label, False)
    if not isinstance(base, Btf):
        raise TypeError(f"base must be a Btf, not {type(base).__name__}")
    under = base
    if under.handle is not None:
        raise ValueError("the base cannot be an object's: make a copy, Btf.from_bytes(obj.btf.tobytes())")
    under.made()
    # btf__new_split() is not exported before libbpf 1.4: a file in memory serves them all.
    fd = _os.memfd_create("btf", _os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        path = f"/proc/self/fd/{fd}".encode()
        c_path = path
        enter(&call, NULL)
        with nogil:
            ptr = c_btf.btf__parse_raw_split(c_path, under.ptr)
            code = 0 if ptr != NULL else -errno
        finish(&call, code, "read types of", label)
    finally:
        _os.close(fd)
    return own_btf(ptr, under, label, False)


cdef int check_header(bytes data, str label) except -1:
    """What libbpf takes for granted, or says less clearly."""
    order = "little" if data[:2] == b"\x9f\xeb" else "big"
    if len(data) < HEADER or (order == "big" and data[:2] != b"\xeb\x9f"):
        raise LibbpfError(NO_BTF, "not BTF: it has no header", "read types of", label)
    header, type_at, type_size, text_at, text_size = (
        int.from_bytes(data[at:at + 4], order) for at in range(4, HEADER, 4))
    if header < HEADER or header % 4:
        raise ValueError(f"BTF of {label}: the header has {header} bytes, not a multiple of 4 from {HEADER} on")
    if len(data) >= 1 << 32 or header + type_at + type_size > len(data) or header + text_at + text_size > len(data):
        raise ValueError(f"BTF of {label}: it is cut off, {len(data)} bytes of "
                         f"{header + max(type_at + type_size, text_at + text_size)}")
    if type_at % 4 or type_at + type_size > text_at:
        raise ValueError(f"BTF of {label}: {type_size} bytes of types from byte {type_at} on, strings from {text_at} on")
    return 0
