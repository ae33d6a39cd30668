"""What kinds of maps mean by keys and values that are more than numbers: descriptors, prefixes, devices, stacks."""

from libc.errno cimport errno
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_CLOEXEC, open as open_fd

from .c cimport uapi
from .codec cimport Codec, RAW, UNSIGNED, int_codec
from .errors cimport fail
from .paths cimport is_path, number_of, path_bytes
from .targets cimport interface_index

cdef extern from "<fcntl.h>" nogil:
    int O_PATH

cdef enum:
    # enum bpf_map_type
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    CGROUP_ARRAY = 8
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    SOCKMAP = 15
    CPUMAP = 16
    XSKMAP = 17
    SOCKHASH = 18
    REUSEPORT_SOCKARRAY = 20
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    DEVMAP_HASH = 25
    RINGBUF = 27
    INODE_STORAGE = 28
    TASK_STORAGE = 29
    BLOOM_FILTER = 30
    USER_RINGBUF = 31
    CGRP_STORAGE = 32
    ARENA = 33
    INSN_ARRAY = 34
    STACK_BUILD_ID = 1 << 5     # flag of BPF_MAP_CREATE


cdef int descriptor_in(object value, str what) except -1:
    if isinstance(value, bool):
        number = None
    elif hasattr(value, "__index__"):
        number = value.__index__()
    elif hasattr(value, "fileno"):
        number = value.fileno()
    else:
        number = getattr(value, "fd", None)
    if number is None:
        raise TypeError(f"{what} is a descriptor, or what has fileno(), not {type(value).__name__}")
    if not 0 <= number < 1 << 31:
        raise ValueError(f"{what}: {value!r} is no descriptor, and has none")
    return number


cdef class Borrowed(Codec):
    """A descriptor: a number, or what has fileno(); where files are meant, a path too. Read back is what the kernel tells."""
    cdef bint files

    cdef int encode(self, object value, char *out) except -1:
        cdef int fd
        cdef bytes path
        if isinstance(value, (bytes, bytearray, memoryview)) and len(value) == self.size:
            return self.copy(value, out)
        if self.files and is_path(value):
            path = path_bytes(value)
            if self.opened >= 0:
                self.close_opened()
            fd = open_fd(<const char *>path, O_PATH | O_CLOEXEC)     # which no file waits in, and needs no right to read
            if fd < 0:
                fail(errno, "open", value)
            self.opened = fd
        else:
            fd = descriptor_in(value, self.what)
        memset(out, 0, self.size)
        memcpy(out, &fd, 4)
        return 0

    cdef object decode(self, const char *data):
        return Codec.decode(self, data)


cdef class Inner(Borrowed):
    """A map in a map."""

    cdef object decode(self, const char *data):
        from .map import Map        # which is made of this
        return Map.from_id((<const unsigned int *>data)[0])


cdef class Prefix(Codec):
    """An IP network, as text or as ipaddress has it, or a pair of the prefix's bits and bytes."""

    cdef int encode(self, object value, char *out) except -1:
        cdef Py_ssize_t room = self.size - 4
        cdef unsigned int bits
        cdef bytes address
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.copy(value, out)
        if isinstance(value, str):
            import ipaddress
            value = ipaddress.ip_network(value, strict=False)
        if hasattr(value, "network_address"):
            address, length = value.network_address.packed, value.prefixlen
        elif hasattr(value, "packed"):
            address, length = value.packed, value.max_prefixlen
        elif isinstance(value, tuple) and len(value) == 2:
            length, address = number_of(value[0], "the number of bits"), bytes(memoryview(value[1]))
        else:
            raise TypeError(f"{self.what} is a network, or bits and bytes, not {type(value).__name__}")
        if len(address) != room:
            raise ValueError(f"{self.what} has addresses of {room} bytes, not {len(address)}")
        if not 0 <= length <= 8 * room:
            raise ValueError(f"{self.what} has at most {8 * room} bits, not {length}")
        bits = length
        memcpy(out, &bits, 4)
        memcpy(out + 4, <const char *>address, room)
        return 0

    cdef object decode(self, const char *data):
        cdef unsigned int bits
        cdef bytes address = data[4:self.size]
        memcpy(&bits, data, 4)
        if self.size in (8, 20) and bits <= 8 * (self.size - 4):
            import ipaddress
            return (ipaddress.IPv4Network if self.size == 8 else ipaddress.IPv6Network)((address, bits), strict=False)
        return bits, address


cdef class Device(Codec):
    """Of device and CPU maps: a device's index or name, or the size of a queue; with a program if values have room for one."""
    cdef bint named

    cdef int encode(self, object value, char *out) except -1:
        cdef unsigned int number
        cdef int program = -1
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.copy(value, out)
        if isinstance(value, tuple) and len(value) == 2 and self.size == 8:
            value, handler = value
            number = self.number(value)
            if handler is not None:
                program = descriptor_in(handler, f"the program of {self.what}")     # last: it may run code of the user's
        else:
            number = self.number(value)
        memcpy(out, &number, 4)
        if self.size == 8:
            memcpy(out + 4, &program, 4)
        return 0

    cdef unsigned int number(self, object value) except? 0xffffffff:
        return interface_index(value) if self.named else number_of(value, f"the queue of {self.what}")

    cdef object decode(self, const char *data):
        cdef const unsigned int *words = <const unsigned int *>data
        if self.size == 4 or words[1] == 0:
            return words[0]
        return words[0], words[1]


cdef class Trace(Codec):
    """A stack: a list of addresses, or of (build id, offset) and addresses."""
    cdef bint build_ids

    cdef int encode(self, object value, char *out) except -1:
        return self.copy(value, out)

    cdef object decode(self, const char *data):
        cdef list found = []
        cdef Py_ssize_t at
        cdef const unsigned long long *words = <const unsigned long long *>data
        if not self.build_ids:
            for at in range(self.size // 8):
                if words[at] == 0:
                    break
                found.append(words[at])
            return found
        for at in range(self.size // 32):       # struct bpf_stack_build_id
            status = (<const int *>(data + 32 * at))[0]
            if status == 0:
                break
            offset = (<const unsigned long long *>(data + 32 * at + 24))[0]
            found.append((data[32 * at + 4:32 * at + 24], offset) if status == 1 else offset)
        return found


cdef Codec fill(Codec codec, Py_ssize_t size, str what):
    codec.form = UNSIGNED if size == 4 or size == 8 else RAW
    codec.size = size
    codec.what = what
    codec.opened = -1
    codec.borrows = isinstance(codec, Borrowed)
    return codec


cdef Codec borrowed(Py_ssize_t size, str what, bint files):
    cdef Borrowed codec = Borrowed.__new__(Borrowed)
    codec.files = files
    return fill(codec, size, what)


cdef Codec key_codec_of_kind(int type, Py_ssize_t size, str what):
    if type in (SK_STORAGE, TASK_STORAGE):
        return borrowed(size, what, False)
    if type in (INODE_STORAGE, CGRP_STORAGE):
        return borrowed(size, what, True)
    if type == LPM_TRIE:
        return fill(Prefix.__new__(Prefix), size, what)
    if size == 4 and type in (ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, PERCPU_ARRAY, STACK_TRACE, CGROUP_ARRAY, ARRAY_OF_MAPS,
                              DEVMAP, SOCKMAP, CPUMAP, XSKMAP, REUSEPORT_SOCKARRAY, DEVMAP_HASH, INSN_ARRAY):
        return int_codec(4, False, what)
    return None


cdef Codec value_codec_of_kind(int type, Py_ssize_t size, unsigned int flags, str what):
    cdef Device device
    cdef Trace trace
    if type in (PROG_ARRAY, PERF_EVENT_ARRAY, XSKMAP, SOCKMAP, SOCKHASH, REUSEPORT_SOCKARRAY):
        return borrowed(size, what, False)
    if type == CGROUP_ARRAY:
        return borrowed(size, what, True)
    if type in (ARRAY_OF_MAPS, HASH_OF_MAPS):
        return fill(Inner.__new__(Inner), size, what)
    if type in (DEVMAP, DEVMAP_HASH, CPUMAP):
        device = Device.__new__(Device)
        device.named = type != CPUMAP
        return fill(device, size, what)
    if type == STACK_TRACE:
        trace = Trace.__new__(Trace)
        trace.build_ids = flags & STACK_BUILD_ID
        return fill(trace, size, what)
    return None
