"""What libbpf does with the programs of its own sections at open and before load, built from public functions."""
from libc.errno cimport EBADF, EINVAL, ENOENT, ENOMEM, EOPNOTSUPP, ESRCH, errno
from libc.stdio cimport snprintf
from libc.string cimport memset, strchr, strncmp
from posix.unistd cimport close

from .c cimport bpf, btf, libbpf, uapi
from .log cimport warn
from .sections cimport LOAD_FLAGS, ON_FUNCTIONS, ON_USDT, Section, TARGET, UPROBE_MULTI, find

cdef extern from * nogil:
    """
    #include <linux/bpf.h>

    static int pylbpf_knowledge;
    #define pylbpf_recall() __atomic_load_n(&pylbpf_knowledge, __ATOMIC_RELAXED)
    #define pylbpf_learn(value) __atomic_store_n(&pylbpf_knowledge, value, __ATOMIC_RELAXED)
    """
    enum:
        KPROBE "BPF_PROG_TYPE_KPROBE"
        EXT "BPF_PROG_TYPE_EXT"
    int recall "pylbpf_recall"()
    void learn "pylbpf_learn"(int value)


cdef const char *target_of(const libbpf.bpf_program *program) noexcept nogil:
    """What comes after the slash, or NULL."""
    cdef const char *slash = strchr(libbpf.bpf_program__section_name(program), c'/')
    if slash != NULL:
        slash += 1
    return slash


cdef int explain(int code, const libbpf.bpf_program *program, const char *text) noexcept nogil:
    """Return the code, having said why in a warning, as libbpf does."""
    cdef char line[512]
    snprintf(line, sizeof(line), b"prog '%.128s': section '%.256s' %s\n",
             libbpf.bpf_program__name(program), libbpf.bpf_program__section_name(program), text)
    warn(line)
    return code


cdef bint try_uprobe_multi(int program, unsigned int pid, int expected) noexcept nogil:
    """Whether attaching to the folder / fails with the expected number."""
    cdef bpf.bpf_link_create_opts opts
    cdef unsigned long offset = 0
    cdef int link
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.uprobe_multi.path = b"/"
    opts.uprobe_multi.offsets = &offset
    opts.uprobe_multi.cnt = 1
    opts.uprobe_multi.pid = pid
    link = bpf.bpf_link_create(program, -1, <uapi.bpf_attach_type>UPROBE_MULTI, &opts)
    if link >= 0:
        close(link)
        return False
    return errno == expected


cdef bint usdt_is_multi() noexcept nogil:
    """Whether libbpf will attach USDT programs as multi-uprobes, for which they must have been loaded.

    It does from 1.3 on, where the kernel has them. From 1.4.5 on it insists that the kernel minds the process id in
    them (Linux 6.10, and stable kernels since), seen by its refusing -1; the number after 1.4 it does not tell.
    """
    cdef uapi.bpf_insn insns[2]
    cdef bpf.bpf_prog_load_opts opts
    cdef unsigned int version
    cdef int program
    cdef bint able
    if recall():
        return recall() > 0
    # In hundreds, so that 1.10 comes after 1.9.
    version = 100 * libbpf.libbpf_major_version() + libbpf.libbpf_minor_version()
    if version < 103:
        return False
    memset(insns, 0, sizeof(insns))
    insns[0].code = 0xb7        # r0 = 0
    insns[1].code = 0x95        # exit
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.expected_attach_type = <uapi.bpf_attach_type>UPROBE_MULTI
    program = bpf.bpf_prog_load(<uapi.bpf_prog_type>KPROBE, NULL, b"GPL", insns, 2, &opts)
    if program < 0:
        return False            # perhaps for want of rights, which may come: not to be remembered
    able = try_uprobe_multi(program, 0, EBADF)
    if able and version >= 104:
        able = try_uprobe_multi(program, <unsigned int>-1, EINVAL)
    close(program)
    learn(1 if able else -1)
    return able


cdef int builtin_setup(libbpf.bpf_program *program) noexcept nogil:
    cdef const Section *section = find(libbpf.bpf_program__section_name(program))
    cdef const char *target
    cdef unsigned int flags
    cdef int attach_type
    cdef int code = 0
    if section == NULL:
        return 0
    attach_type = section.attach_type
    if section.attachment == ON_USDT and usdt_is_multi():
        attach_type = UPROBE_MULTI
    # Another type makes libbpf forget the handler, unless that is the fallback.
    if <int>libbpf.bpf_program__type(program) != section.program_type:
        code = libbpf.bpf_program__set_type(program, <uapi.bpf_prog_type>section.program_type)
    if code >= 0 and <int>libbpf.bpf_program__expected_attach_type(program) != attach_type:
        code = libbpf.bpf_program__set_expected_attach_type(program, <uapi.bpf_attach_type>attach_type)
    flags = libbpf.bpf_program__flags(program)
    if code >= 0 and section.traits & LOAD_FLAGS & ~flags:
        code = libbpf.bpf_program__set_flags(program, flags | (section.traits & LOAD_FLAGS))
    if code < 0:
        return code
    # Extensions name a function of a program that is to be given later.
    if section.traits & TARGET and section.program_type != EXT and libbpf.bpf_program__autoload(program):
        target = target_of(program)
        # libbpf looks only when it loads; by then the target may have been set otherwise, as to a function of a
        # program. So it is no error yet if there is none of that name.
        if target != NULL and libbpf.bpf_program__set_attach_target(program, 0, target) == -ENOMEM:
            return -ENOMEM
    return 0


cdef int find_in_program(libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts) noexcept nogil:
    """The target's number in the BTF of the program that it is a function of."""
    cdef const char *target = target_of(program)
    cdef const uapi.btf_type *type
    cdef uapi.bpf_prog_info info
    cdef uapi.__u32 length = sizeof(info)
    cdef btf.btf *types
    cdef int found
    memset(&info, 0, sizeof(info))
    if bpf.bpf_obj_get_info_by_fd(opts.attach_prog_fd, &info, &length) < 0:
        return -errno
    if info.btf_id == 0:
        return explain(-EINVAL, program, b"needs a target program with BTF")
    types = btf.btf__load_from_kernel_by_id(info.btf_id)
    if types == NULL:
        return -errno
    # A number is already there if the caller gave a name with the program, or if setup found that of a kernel
    # function with the name of the section; the kernel's functions have numbers beyond those of a program's types.
    type = btf.btf__type_by_id(types, opts.attach_btf_id) if opts.attach_btf_id else NULL
    if type == NULL or btf.btf_kind(type) != uapi.BTF_KIND_FUNC:
        found = -EINVAL if target == NULL else btf.btf__find_by_name_kind(types, target, uapi.BTF_KIND_FUNC)
        if found > 0:
            opts.attach_btf_id = found
    else:
        found = opts.attach_btf_id
    btf.btf__free(types)
    opts.attach_btf_obj_fd = 0
    return 0 if found > 0 else explain(found if found else -ESRCH, program, b"names no function of the target program")


cdef int builtin_prepare_load(libbpf.bpf_program *program, bpf.bpf_prog_load_opts *opts) noexcept nogil:
    cdef const Section *section = find(libbpf.bpf_program__section_name(program))
    cdef const char *target = target_of(program)
    cdef int found
    if section == NULL:
        return 0
    if section.attachment == ON_FUNCTIONS and target != NULL and strchr(target, c':') != NULL:
        # Only libbpf itself can say which descriptor it holds of a module's BTF.
        return 0 if opts.attach_btf_obj_fd else explain(-EOPNOTSUPP, program, b"is of a module: set attach_btf_obj_fd")
    if not section.traits & TARGET:
        return 0
    if opts.attach_prog_fd:
        return find_in_program(program, opts)
    if section.program_type == EXT:
        return explain(-EINVAL, program, b"needs a target program: set_attach_target()")
    if opts.attach_btf_id:
        return 0
    if target == NULL:
        return explain(-EINVAL, program, b"names no target: add it, or use set_attach_target()")
    # Modules can only be searched by set_attach_target(), which comes too late here.
    if strncmp(target, b"vmlinux:", 8) == 0:
        target += 8
    found = libbpf.libbpf_find_vmlinux_btf_id(target, libbpf.bpf_program__expected_attach_type(program))
    if found == 0 or found == -ENOENT:
        found = -ESRCH      # as libbpf's own search ends
    if found < 0:
        return explain(found, program, b"names nothing in the kernel's BTF")
    opts.attach_btf_id = found
    opts.attach_btf_obj_fd = 0
    return 0
