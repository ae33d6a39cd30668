"""Global variables that lie in an arena."""
import errno as _errno

from libc.stdlib cimport calloc
from libc.string cimport memset, strstr
from posix.unistd cimport _SC_PAGESIZE, close, sysconf

from .c cimport bpf, libbpf, uapi
from .call cimport note_missing
from .errors cimport fail
from .handle cimport Handle
from .spans cimport Span, note_span

from .errors import StateError

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    ARRAY = 2                   # enum bpf_map_type
    ARENA = 33
    SOCKET_FILTER = 1           # enum bpf_prog_type
    FAR = 1 << 30
    LOG_SIZE = 1024

cdef int far = -1               # whether this kernel has it, once it was asked


cdef libbpf.bpf_map *arena_with_variables(libbpf.bpf_object *object) noexcept:
    """The one arena that libbpf puts variables in, or NULL."""
    cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(object, NULL)
    cdef size_t size
    while map != NULL:
        if <int>libbpf.bpf_map__type(map) == ARENA and libbpf.bpf_map__initial_value(map, &size) != NULL and size:
            return map
        map = libbpf.bpf_object__next_map(object, map)
    return NULL


cdef char *memory_of(libbpf.bpf_map *map) noexcept:
    """Where libbpf has mapped an arena that is in the kernel; NULL if it has not."""
    cdef size_t size
    cdef char *start = <char *>libbpf.bpf_map__initial_value(map, &size)
    # Of an arena that was there before the object libbpf keeps what it would have copied into it.
    return NULL if <size_t>start % sysconf(_SC_PAGESIZE) else start


cdef void note_arenas(Handle handle) noexcept:
    """After a load: a forked child does not get what libbpf has mapped, and would unmap it when it drops the object."""
    cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(handle.ptr, NULL)
    cdef size_t count = 0
    cdef char *start
    if handle.arenas != NULL:       # it was prepared before
        return
    while map != NULL:
        count += <int>libbpf.bpf_map__type(map) == ARENA
        map = libbpf.bpf_object__next_map(handle.ptr, map)
    if count == 0:
        return
    handle.arenas = <Span *>calloc(count, sizeof(Span))
    map = libbpf.bpf_object__next_map(handle.ptr, NULL)
    while map != NULL and handle.arenas != NULL:
        start = memory_of(map) if <int>libbpf.bpf_map__type(map) == ARENA else NULL
        if start != NULL:
            note_span(&handle.arenas[handle.arena_count], start, libbpf.bpf_map__max_entries(map) * sysconf(_SC_PAGESIZE))
            handle.arena_count += 1
        map = libbpf.bpf_object__next_map(handle.ptr, map)


cdef char *variables_of(libbpf.bpf_map *map, size_t *size, object section) except NULL:
    """Where they are, of a map that is in the kernel: libbpf 1.7 puts them at its end where programs may reach so far."""
    cdef size_t page = sysconf(_SC_PAGESIZE)
    cdef char *start = memory_of(map)
    libbpf.bpf_map__initial_value(map, size)
    if start == NULL:
        raise StateError(_errno.EINVAL, "its arena was there before the object was loaded", "access", str(section))
    if (libbpf.libbpf_major_version(), libbpf.libbpf_minor_version()) >= (1, 7) and reaches_far():
        start += libbpf.bpf_map__max_entries(map) * page - (size[0] + page - 1) // page * page
    return start


cdef bint reaches_far() except -1:
    """Whether programs may have the address of any byte of an arena (Linux 7.0): what the kernel says to one that is not in
    an array tells."""
    global far
    cdef uapi.bpf_insn code[3]
    cdef bpf.bpf_prog_load_opts opts
    cdef char log[LOG_SIZE]
    cdef int map, program
    if far < 0:
        map = bpf.bpf_map_create(<uapi.bpf_map_type>ARRAY, NULL, 4, 1, 1, NULL)
        if map < 0:
            fail(-map, "ask the kernel about", "offsets in arenas")
        memset(code, 0, sizeof(code))
        code[0].code = 0x18             # r1 = the address of byte FAR of the map's value
        code[0].dst_reg = 1
        code[0].src_reg = 2             # BPF_PSEUDO_MAP_VALUE
        code[0].imm = map
        code[1].imm = FAR
        code[2].code = 0x95             # exit
        memset(&opts, 0, sizeof(opts))
        opts.sz = sizeof(opts)
        opts.log_buf = log
        opts.log_size = LOG_SIZE
        opts.log_level = 1
        log[0] = 0
        program = bpf.bpf_prog_load(<uapi.bpf_prog_type>SOCKET_FILTER, NULL, b"GPL", code, 3, &opts)
        close(map)
        if program >= 0:
            close(program)
        far = strstr(log, b"direct value offset of") == NULL
    return far
