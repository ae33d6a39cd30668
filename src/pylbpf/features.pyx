"""What this kernel can do, found out by trying, and remembered for the life of the process."""
from libc.errno cimport E2BIG, EINVAL, EMFILE, ENFILE, ENOMEM, EPERM, errno
from libc.stdlib cimport calloc, free
from libc.string cimport memset, strstr
from posix.unistd cimport close as close_fd

from .c cimport bpf, btf as c_btf, libbpf, uapi
from .call cimport Call, enter
from .errors cimport fail, finish
from .paths cimport name_bytes, number_of

__all__ = ["program_type", "map_type", "helper", "kfunc", "link_type", "instructions", "all"]

cdef enum:
    SOCKET_FILTER = 1       # enum bpf_prog_type
    ARRAY = 2               # enum bpf_map_type
    ENOTSUPP = 524          # of the kernel alone


cdef extern from * nogil:
    """
    #define pylbpf_set_errno(number) (errno = (number))
    """
    void set_errno "pylbpf_set_errno"(int number)

cdef dict _known = {}

# Kinds of links cannot be tried without a target: a function of the kernel that only it has.
cdef dict RELEASERS = {
    1: "bpf_raw_tp_link_release", 2: "bpf_tracing_link_release", 3: "bpf_cgroup_link_release", 4: "bpf_iter_link_release",
    5: "bpf_netns_link_release", 6: "bpf_xdp_link_release", 7: "bpf_perf_link_release",
    8: "bpf_kprobe_multi_link_release", 9: "bpf_struct_ops_map_link_dealloc", 10: "bpf_nf_link_release",
    11: "tcx_link_release", 12: "bpf_uprobe_multi_link_release", 13: "netkit_link_release", 14: "sock_map_link_release",
}


# Sets of instructions: the smallest program that has one of them, as pairs of numbers (code with registers, offset,
# immediate), in the order in which kernels learned them.
cdef tuple ZERO = (0xb7, 0, 0)            # r0 = 0
cdef tuple EXIT = (0x95, 0, 0)
cdef tuple STORE = (0x0a7a, -8, 0)        # *(u64 *)(r10 - 8) = 0
cdef dict INSTRUCTIONS = {
    "v1": (ZERO, EXIT),
    "v2": (ZERO, (0xa5, 0, 1), EXIT),                                   # if r0 < 1 goto +0
    "subprograms": ((0x1085, 0, 1), EXIT, ZERO, EXIT),                  # call pc+1
    "v3": (ZERO, (0x16, 0, 1), EXIT),                                   # if w0 == 1 goto +0
    "large": (ZERO,) * 5000 + (EXIT,),                                  # more than 4096 of them
    "bounded_loops": ((0xb7, 0, 9), (0x07, 0, -1), (0x55, -2, 0), EXIT),    # do r0 -= 1 while r0 != 0
    "atomics": (ZERO, STORE, (0x0adb, -8, 1), EXIT),                    # r0 = fetch_add(r10 - 8, r0)
    "v4": (ZERO, (0x00bf, 8, 0), EXIT),                                 # r0 = (s8)r0
    "may_goto": (ZERO, (0xe5, 1, 0), ZERO, EXIT),                       # may_goto +1; nowhere came later
    "load_acquire": (STORE, (0xa0db, -8, 0x100), EXIT),                 # r0 = load_acquire(r10 - 8)
}


cdef int check_askable() except -1:
    """libbpf's probes take what this process may not do, or has no descriptor for, for what the kernel does not know."""
    cdef uapi.bpf_insn code[2]
    cdef int fd
    memset(code, 0, sizeof(code))
    code[0].code = 0xb7     # r0 = 0
    code[1].code = 0x95     # exit
    with nogil:
        fd = bpf.bpf_prog_load(<uapi.bpf_prog_type>SOCKET_FILTER, NULL, b"GPL", code, 2, NULL)
        if fd >= 0:
            close_fd(fd)
            fd = bpf.bpf_map_create(<uapi.bpf_map_type>ARRAY, NULL, 4, 4, 1, NULL)
        if fd >= 0:
            close_fd(fd)
    if fd < 0:
        fail(-fd, "probe", "what the kernel knows")
    return 0


cdef int check_no(int number) except -1:
    """After a no: whether this process might have had a yes with more rights, or more descriptors."""
    if number == EMFILE or number == ENFILE or number == ENOMEM:
        fail(number, "probe", "what the kernel knows")
    from .rights import missing
    lacking = missing("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")
    if lacking:
        fail(EPERM, "probe", f"what the kernel knows: without {' and '.join(lacking)} a no is not sure")
    return 0


cdef bint probe(str kind, unsigned int first, unsigned int second) except -1:
    """Ask once. What cannot be asked (no rights, no memory) is an error, and not remembered."""
    cdef Call call
    cdef int code, number
    key = kind, first, second
    found = _known.get(key)
    if found is not None:
        return found
    check_askable()
    cdef bint of_map = kind == "map type"
    cdef bint of_program = kind == "program type"
    enter(&call, NULL)
    with nogil:
        set_errno(0)
        if of_map:
            code = libbpf.libbpf_probe_bpf_map_type(<uapi.bpf_map_type>first, NULL)
        elif of_program:
            code = libbpf.libbpf_probe_bpf_prog_type(<uapi.bpf_prog_type>first, NULL)
        else:
            code = libbpf.libbpf_probe_bpf_helper(<uapi.bpf_prog_type>first, <uapi.bpf_func_id>second, NULL)
        number = errno if code == 0 else 0
    finish(&call, code, "probe", f"{kind} {second or first}")
    if code == 0:
        check_no(number)
    _known[key] = code > 0
    return code > 0


def program_type(type):
    """Whether the kernel knows a ProgramType. BpfError (EOPNOTSUPP) for one that the running libbpf does not know.

    Source: libbpf_probe_bpf_prog_type().
    """
    return probe("program type", number_of(type, "program type"), 0)


def map_type(type):
    """Whether the kernel knows a MapType. BpfError (EOPNOTSUPP) for one that the running libbpf does not know.

    Source: libbpf_probe_bpf_map_type().
    """
    return probe("map type", number_of(type, "map type"), 0)


def helper(type, id):
    """Whether programs of a ProgramType may call a helper, given by name ("bpf_xdp_adjust_head") or number (enum bpf_func_id).

    Names are those that the types of the running kernel have: another is a ValueError. BpfError (EOPNOTSUPP) for types that libbpf cannot try: tracing, extensions, LSM, struct_ops.
    Source: libbpf_probe_bpf_helper().
    """
    cdef unsigned int kind = number_of(type, "program type")
    cdef unsigned int number = helper_number(id) if isinstance(id, str) else number_of(id, "helper")
    key = "helper", kind, number
    if key not in _known and probe("helper", kind, number) and refused(kind, number):
        _known[key] = False
    return probe("helper", kind, number)


cdef unsigned int helper_number(str name) except? 0:
    if "helpers" not in _known:
        from .btf import Btf
        types = Btf.kernel()
        _known["helpers"] = {member.removeprefix("BPF_FUNC_"): value
                             for member, value in types.enumerators(types.find("bpf_func_id")).items()}
    number = _known["helpers"].get(name.removeprefix("bpf_"))
    if not number:
        raise ValueError(f"the kernel has no helper '{name}'")
    return number


cdef bint refused(unsigned int type, unsigned int helper) noexcept:
    """Whether the kernel says what libbpf before 1.5 did not know: that the helper is for other types."""
    cdef uapi.bpf_insn code[2]
    cdef bpf.bpf_prog_load_opts opts
    cdef char log[4096]
    cdef int fd
    memset(code, 0, sizeof(code))
    code[0].code = 0x85     # call
    code[0].imm = helper
    code[1].code = 0x95     # exit
    log[0] = 0
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.log_buf = log
    opts.log_size = sizeof(log)
    opts.log_level = 1
    with nogil:
        fd = bpf.bpf_prog_load(<uapi.bpf_prog_type>type, NULL, b"GPL", code, 2, &opts)
    if fd >= 0:
        close_fd(fd)
        return False
    return strstr(log, b"cannot use helper") != NULL


def instructions(name):
    """Whether the kernel knows a set of instructions, by loading one of them.

    "v1" to "v4" are clang's -mcpu=; "subprograms" (calls between functions; kernel 4.16), "large" (more than 4096
    instructions; 5.2), "bounded_loops" (5.3), "atomics" (that return the value; 5.12), "may_goto" (6.9), "load_acquire"
    (6.15) come with neither. ValueError for others, PermissionError without CAP_BPF. Source: bpf_prog_load().
    """
    if name not in INSTRUCTIONS:
        raise ValueError(f"instructions are {', '.join(INSTRUCTIONS)}, not {name!r}")
    key = "instructions", name
    if key not in _known:
        _known[key] = loads(INSTRUCTIONS[name], name)
    return _known[key]


cdef bint loads(tuple program, str name) except -1:
    cdef size_t count = len(program)
    cdef size_t at
    cdef int fd
    cdef bpf.bpf_prog_load_opts opts
    cdef uapi.bpf_insn *code = <uapi.bpf_insn *>calloc(count, sizeof(uapi.bpf_insn))
    if code == NULL:
        raise MemoryError()
    for at in range(count):
        word, offset, immediate = program[at]
        code[at].code = word & 0xff
        code[at].dst_reg = word >> 8 & 0xf
        code[at].src_reg = word >> 12
        code[at].off = offset
        code[at].imm = immediate
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    with nogil:
        fd = bpf.bpf_prog_load(<uapi.bpf_prog_type>SOCKET_FILTER, NULL, b"GPL", code, count, &opts)
    free(code)
    if fd >= 0:
        close_fd(fd)
    elif fd != -EINVAL and fd != -E2BIG and fd != -ENOTSUPP:
        fail(-fd, "probe", f"instructions {name}")
    else:
        check_no(0)
    return fd >= 0


def link_type(type):
    """Whether the kernel has a LinkType, as its list of symbols (/proc/kallsyms) says; None if that is empty.

    A kind of a module that is not loaded counts as missing.
    """
    cdef unsigned int number = number_of(type, "link type")
    if number not in RELEASERS:
        return False
    if "symbols" not in _known:
        wanted = set(RELEASERS.values())
        with open("/proc/kallsyms") as file:
            found = {name for line in file for name in (line.split()[2],) if name in wanted}
        _known["symbols"] = found
    return RELEASERS[number] in _known["symbols"] if _known["symbols"] else None


def kfunc(name):
    """Whether the kernel itself (not a module) has a function of this name that programs may call. Source: btf__find_by_name_kind().

    As its types say: they are marked since kernel 6.9; before, None for any function that there is. FileNotFoundError
    without types of the kernel.
    """
    cdef bytes raw = name_bytes(name, "function")
    if "kfuncs" not in _known:
        _known["kfuncs"] = read_kfuncs()
    functions, marked = _known["kfuncs"]
    if raw not in functions:
        return False
    return raw in marked if marked else None


cdef tuple read_kfuncs():
    """The names of all functions of the kernel's types, and of those that are marked "bpf_kfunc"."""
    cdef c_btf.btf *types
    cdef const uapi.btf_type *type
    cdef const char *name
    cdef unsigned int at, count
    cdef Call call
    cdef int code = 0
    enter(&call, NULL)
    with nogil:
        types = c_btf.btf__load_vmlinux_btf()
        if types == NULL:
            code = -errno
    finish(&call, code, "read types of", "the kernel")
    functions = set()
    marked = set()
    try:
        count = c_btf.btf__type_cnt(types)
        for at in range(1, count):
            type = c_btf.btf__type_by_id(types, at)
            if c_btf.btf_kind(type) == uapi.BTF_KIND_FUNC:
                functions.add(<bytes>c_btf.btf__name_by_offset(types, type.name_off))
            elif c_btf.btf_kind(type) == uapi.BTF_KIND_DECL_TAG:
                name = c_btf.btf__name_by_offset(types, type.name_off)
                if name != NULL and name[:9] == b"bpf_kfunc":
                    type = c_btf.btf__type_by_id(types, type.type)
                    marked.add(<bytes>c_btf.btf__name_by_offset(types, type.name_off))
    finally:
        c_btf.btf__free(types)
    return frozenset(functions), frozenset(marked)


def all():
    """All program, map and link types, each a dictionary of members and whether the kernel has it, and instructions by name.

    None is what cannot be asked.
    """
    from .enums import LinkType, MapType, ProgramType

    def ask(question, members):
        found = {}
        for member in members:
            if member:
                try:
                    found[member] = question(member)
                except OSError:
                    found[member] = None
        return found

    return {"program_types": ask(program_type, ProgramType), "map_types": ask(map_type, MapType),
            "link_types": ask(link_type, LinkType), "instructions": ask(instructions, INSTRUCTIONS)}
