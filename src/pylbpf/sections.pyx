"""The sections that libbpf knows by itself, and how names match patterns.

A handler that overrides such a section replaces all that libbpf would have done, and none of that can be called from
outside. So the table is here again, for every libbpf since 1.1; what libbpf does with the programs is in builtin and
autoattach. The tests compare the table with the libbpf in use.
"""
from libc.errno cimport ESRCH
from libc.string cimport memcmp, strlen

from .c cimport libbpf, uapi
from .paths cimport name_bytes

cdef extern from * nogil:
    """
    #define ROW(pattern, type, attach_type, attachment, traits) \\
        { pattern, BPF_PROG_TYPE_##type, attach_type, PYLBPF_##attachment, traits }
    #define S PYLBPF_SLEEPS
    #define R PYLBPF_RETURN
    #define N PYLBPF_SESSION
    #define T PYLBPF_TARGET
    #define F PYLBPF_FRAGS

    /* No name matches two of them, so their order means nothing. */
    static const struct pylbpf_section pylbpf_sections[] = {
        ROW("kprobe+",                KPROBE, 0, ON_KPROBE, 0),
        ROW("kretprobe+",             KPROBE, 0, ON_KPROBE, R),
        ROW("ksyscall+",              KPROBE, 0, ON_SYSCALL, 0),
        ROW("kretsyscall+",           KPROBE, 0, ON_SYSCALL, R),
        ROW("kprobe.multi+",          KPROBE, BPF_TRACE_KPROBE_MULTI, ON_KPROBES, 0),
        ROW("kretprobe.multi+",       KPROBE, BPF_TRACE_KPROBE_MULTI, ON_KPROBES, R),
        ROW("kprobe.session+",        KPROBE, PYLBPF_KPROBE_SESSION, ON_KPROBES, N),
        ROW("uprobe+",                KPROBE, 0, ON_UPROBE, 0),
        ROW("uprobe.s+",              KPROBE, 0, ON_UPROBE, S),
        ROW("uretprobe+",             KPROBE, 0, ON_UPROBE, R),
        ROW("uretprobe.s+",           KPROBE, 0, ON_UPROBE, R | S),
        ROW("uprobe.multi+",          KPROBE, PYLBPF_UPROBE_MULTI, ON_UPROBES, 0),
        ROW("uprobe.multi.s+",        KPROBE, PYLBPF_UPROBE_MULTI, ON_UPROBES, S),
        ROW("uretprobe.multi+",       KPROBE, PYLBPF_UPROBE_MULTI, ON_UPROBES, R),
        ROW("uretprobe.multi.s+",     KPROBE, PYLBPF_UPROBE_MULTI, ON_UPROBES, R | S),
        ROW("uprobe.session+",        KPROBE, PYLBPF_UPROBE_SESSION, ON_UPROBES, N),
        ROW("uprobe.session.s+",      KPROBE, PYLBPF_UPROBE_SESSION, ON_UPROBES, N | S),
        ROW("usdt+",                  KPROBE, 0, ON_USDT, 0),
        ROW("usdt.s+",                KPROBE, 0, ON_USDT, S),

        ROW("tp+",                    TRACEPOINT, 0, ON_TRACEPOINT, 0),
        ROW("tp.s+",                  TRACEPOINT, 0, ON_TRACEPOINT, S),
        ROW("tracepoint+",            TRACEPOINT, 0, ON_TRACEPOINT, 0),
        ROW("tracepoint.s+",          TRACEPOINT, 0, ON_TRACEPOINT, S),
        ROW("raw_tp+",                RAW_TRACEPOINT, 0, ON_RAW_TRACEPOINT, 0),
        ROW("raw_tp.s+",              RAW_TRACEPOINT, 0, ON_RAW_TRACEPOINT, S),
        ROW("raw_tp.w+",              RAW_TRACEPOINT_WRITABLE, 0, ON_RAW_TRACEPOINT, 0),
        ROW("raw_tracepoint+",        RAW_TRACEPOINT, 0, ON_RAW_TRACEPOINT, 0),
        ROW("raw_tracepoint.s+",      RAW_TRACEPOINT, 0, ON_RAW_TRACEPOINT, S),
        ROW("raw_tracepoint.w+",      RAW_TRACEPOINT_WRITABLE, 0, ON_RAW_TRACEPOINT, 0),

        ROW("tp_btf+",                TRACING, BPF_TRACE_RAW_TP, ON_FUNCTION, T),
        ROW("tp_btf.s+",              TRACING, BPF_TRACE_RAW_TP, ON_FUNCTION, T | S),
        ROW("fentry+",                TRACING, BPF_TRACE_FENTRY, ON_FUNCTION, T),
        ROW("fentry.s+",              TRACING, BPF_TRACE_FENTRY, ON_FUNCTION, T | S),
        ROW("fentry.multi+",          TRACING, PYLBPF_FENTRY_MULTI, ON_FUNCTIONS, 0),
        ROW("fentry.multi.s+",        TRACING, PYLBPF_FENTRY_MULTI, ON_FUNCTIONS, S),
        ROW("fexit+",                 TRACING, BPF_TRACE_FEXIT, ON_FUNCTION, T),
        ROW("fexit.s+",               TRACING, BPF_TRACE_FEXIT, ON_FUNCTION, T | S),
        ROW("fexit.multi+",           TRACING, PYLBPF_FEXIT_MULTI, ON_FUNCTIONS, 0),
        ROW("fexit.multi.s+",         TRACING, PYLBPF_FEXIT_MULTI, ON_FUNCTIONS, S),
        ROW("fsession+",              TRACING, PYLBPF_FSESSION, ON_FUNCTION, T),
        ROW("fsession.s+",            TRACING, PYLBPF_FSESSION, ON_FUNCTION, T | S),
        ROW("fsession.multi+",        TRACING, PYLBPF_FSESSION_MULTI, ON_FUNCTIONS, 0),
        ROW("fsession.multi.s+",      TRACING, PYLBPF_FSESSION_MULTI, ON_FUNCTIONS, S),
        ROW("fmod_ret+",              TRACING, BPF_MODIFY_RETURN, ON_FUNCTION, T),
        ROW("fmod_ret.s+",            TRACING, BPF_MODIFY_RETURN, ON_FUNCTION, T | S),
        ROW("freplace+",              EXT, 0, ON_FUNCTION, T),
        ROW("iter+",                  TRACING, BPF_TRACE_ITER, ON_ITERATOR, T),
        ROW("iter.s+",                TRACING, BPF_TRACE_ITER, ON_ITERATOR, T | S),
        ROW("lsm+",                   LSM, BPF_LSM_MAC, ON_LSM, T),
        ROW("lsm.s+",                 LSM, BPF_LSM_MAC, ON_LSM, T | S),
        ROW("lsm_cgroup+",            LSM, BPF_LSM_CGROUP, NOWHERE, T),

        ROW("perf_event",             PERF_EVENT, 0, NOWHERE, 0),
        ROW("syscall",                SYSCALL, 0, NOWHERE, S),
        ROW("struct_ops+",            STRUCT_OPS, 0, NOWHERE, 0),
        ROW("struct_ops.s+",          STRUCT_OPS, 0, NOWHERE, S),
        ROW("lirc_mode2",             LIRC_MODE2, BPF_LIRC_MODE2, NOWHERE, 0),

        ROW("xdp",                    XDP, BPF_XDP, NOWHERE, 0),
        ROW("xdp/cpumap",             XDP, BPF_XDP_CPUMAP, NOWHERE, 0),
        ROW("xdp/devmap",             XDP, BPF_XDP_DEVMAP, NOWHERE, 0),
        ROW("xdp.frags",              XDP, BPF_XDP, NOWHERE, F),
        ROW("xdp.frags/cpumap",       XDP, BPF_XDP_CPUMAP, NOWHERE, F),
        ROW("xdp.frags/devmap",       XDP, BPF_XDP_DEVMAP, NOWHERE, F),
        ROW("tc",                     SCHED_CLS, 0, NOWHERE, 0),
        ROW("tc/ingress",             SCHED_CLS, PYLBPF_TCX_INGRESS, NOWHERE, 0),
        ROW("tc/egress",              SCHED_CLS, PYLBPF_TCX_EGRESS, NOWHERE, 0),
        ROW("tcx/ingress",            SCHED_CLS, PYLBPF_TCX_INGRESS, NOWHERE, 0),
        ROW("tcx/egress",             SCHED_CLS, PYLBPF_TCX_EGRESS, NOWHERE, 0),
        ROW("netkit/primary",         SCHED_CLS, PYLBPF_NETKIT_PRIMARY, NOWHERE, 0),
        ROW("netkit/peer",            SCHED_CLS, PYLBPF_NETKIT_PEER, NOWHERE, 0),
        ROW("classifier",             SCHED_CLS, 0, NOWHERE, 0),
        ROW("action",                 SCHED_ACT, 0, NOWHERE, 0),
        ROW("socket",                 SOCKET_FILTER, 0, NOWHERE, 0),
        ROW("lwt_in",                 LWT_IN, 0, NOWHERE, 0),
        ROW("lwt_out",                LWT_OUT, 0, NOWHERE, 0),
        ROW("lwt_xmit",               LWT_XMIT, 0, NOWHERE, 0),
        ROW("lwt_seg6local",          LWT_SEG6LOCAL, 0, NOWHERE, 0),
        ROW("flow_dissector",         FLOW_DISSECTOR, BPF_FLOW_DISSECTOR, NOWHERE, 0),
        { "netfilter", PYLBPF_PROG_NETFILTER, PYLBPF_NETFILTER, PYLBPF_NOWHERE, 0 },
        ROW("sockops",                SOCK_OPS, BPF_CGROUP_SOCK_OPS, NOWHERE, 0),
        ROW("sk_msg",                 SK_MSG, BPF_SK_MSG_VERDICT, NOWHERE, 0),
        ROW("sk_skb",                 SK_SKB, 0, NOWHERE, 0),
        ROW("sk_skb/stream_parser",   SK_SKB, BPF_SK_SKB_STREAM_PARSER, NOWHERE, 0),
        ROW("sk_skb/stream_verdict",  SK_SKB, BPF_SK_SKB_STREAM_VERDICT, NOWHERE, 0),
        ROW("sk_skb/verdict",         SK_SKB, BPF_SK_SKB_VERDICT, NOWHERE, 0),
        ROW("sk_lookup",              SK_LOOKUP, BPF_SK_LOOKUP, NOWHERE, 0),
        ROW("sk_reuseport",           SK_REUSEPORT, BPF_SK_REUSEPORT_SELECT, NOWHERE, 0),
        ROW("sk_reuseport/migrate",   SK_REUSEPORT, BPF_SK_REUSEPORT_SELECT_OR_MIGRATE, NOWHERE, 0),

        ROW("cgroup_skb/ingress",     CGROUP_SKB, BPF_CGROUP_INET_INGRESS, NOWHERE, 0),
        ROW("cgroup_skb/egress",      CGROUP_SKB, BPF_CGROUP_INET_EGRESS, NOWHERE, 0),
        ROW("cgroup/skb",             CGROUP_SKB, 0, NOWHERE, 0),
        ROW("cgroup/dev",             CGROUP_DEVICE, BPF_CGROUP_DEVICE, NOWHERE, 0),
        ROW("cgroup/sysctl",          CGROUP_SYSCTL, BPF_CGROUP_SYSCTL, NOWHERE, 0),
        ROW("cgroup/getsockopt",      CGROUP_SOCKOPT, BPF_CGROUP_GETSOCKOPT, NOWHERE, 0),
        ROW("cgroup/setsockopt",      CGROUP_SOCKOPT, BPF_CGROUP_SETSOCKOPT, NOWHERE, 0),
        ROW("cgroup/sock",            CGROUP_SOCK, BPF_CGROUP_INET_SOCK_CREATE, NOWHERE, 0),
        ROW("cgroup/sock_create",     CGROUP_SOCK, BPF_CGROUP_INET_SOCK_CREATE, NOWHERE, 0),
        ROW("cgroup/sock_release",    CGROUP_SOCK, BPF_CGROUP_INET_SOCK_RELEASE, NOWHERE, 0),
        ROW("cgroup/post_bind4",      CGROUP_SOCK, BPF_CGROUP_INET4_POST_BIND, NOWHERE, 0),
        ROW("cgroup/post_bind6",      CGROUP_SOCK, BPF_CGROUP_INET6_POST_BIND, NOWHERE, 0),
        ROW("cgroup/bind4",           CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_BIND, NOWHERE, 0),
        ROW("cgroup/bind6",           CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_BIND, NOWHERE, 0),
        ROW("cgroup/connect4",        CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, NOWHERE, 0),
        ROW("cgroup/connect6",        CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_CONNECT, NOWHERE, 0),
        ROW("cgroup/connect_unix",    CGROUP_SOCK_ADDR, PYLBPF_UNIX_CONNECT, NOWHERE, 0),
        ROW("cgroup/sendmsg4",        CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_SENDMSG, NOWHERE, 0),
        ROW("cgroup/sendmsg6",        CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_SENDMSG, NOWHERE, 0),
        ROW("cgroup/sendmsg_unix",    CGROUP_SOCK_ADDR, PYLBPF_UNIX_SENDMSG, NOWHERE, 0),
        ROW("cgroup/recvmsg4",        CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_RECVMSG, NOWHERE, 0),
        ROW("cgroup/recvmsg6",        CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_RECVMSG, NOWHERE, 0),
        ROW("cgroup/recvmsg_unix",    CGROUP_SOCK_ADDR, PYLBPF_UNIX_RECVMSG, NOWHERE, 0),
        ROW("cgroup/getpeername4",    CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETPEERNAME, NOWHERE, 0),
        ROW("cgroup/getpeername6",    CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_GETPEERNAME, NOWHERE, 0),
        ROW("cgroup/getpeername_unix", CGROUP_SOCK_ADDR, PYLBPF_UNIX_GETPEERNAME, NOWHERE, 0),
        ROW("cgroup/getsockname4",    CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETSOCKNAME, NOWHERE, 0),
        ROW("cgroup/getsockname6",    CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_GETSOCKNAME, NOWHERE, 0),
        ROW("cgroup/getsockname_unix", CGROUP_SOCK_ADDR, PYLBPF_UNIX_GETSOCKNAME, NOWHERE, 0),
    };
    #undef ROW
    #undef S
    #undef R
    #undef N
    #undef T
    #undef F

    enum { PYLBPF_SECTIONS = sizeof(pylbpf_sections) / sizeof(pylbpf_sections[0]) };
    """
    const Section *SECTIONS "pylbpf_sections"
    enum:
        COUNT "PYLBPF_SECTIONS"


# ---------------------------------------------------------------- names

cdef bint covers(const char *pattern, const char *name, size_t length) noexcept nogil:
    cdef size_t own = strlen(pattern)
    cdef char form = pattern[own - 1] if own else 0
    if form == c'+':
        own -= 1
    if own > length or memcmp(pattern, name, own) != 0:
        return False
    return own == length or form == c'/' or (form == c'+' and name[own] == c'/')


cdef bint overlap(const char *pattern, const char *other) noexcept nogil:
    """Whether a name matches both. Each matches what it is without the plus, so one must match that of the other."""
    cdef size_t length = strlen(pattern)
    cdef size_t other_length = strlen(other)
    if length and pattern[length - 1] == c'+':
        length -= 1
    if other_length and other[other_length - 1] == c'+':
        other_length -= 1
    return covers(pattern, other, other_length) or covers(other, pattern, length)


cdef const Section *find(const char *name) noexcept nogil:
    cdef size_t length = strlen(name)
    cdef int i
    for i in range(COUNT):
        if SECTIONS[i].pattern[0] == name[0] and covers(SECTIONS[i].pattern, name, length):
            return &SECTIONS[i]
    return NULL


cdef int match(const char *pattern, const char *name) noexcept nogil:
    return pattern == NULL or covers(pattern, name, strlen(name))


cdef bint overlaps_builtin(const char *pattern) noexcept nogil:
    cdef int i
    if pattern != NULL:
        for i in range(COUNT):
            if overlap(pattern, SECTIONS[i].pattern):
                return True
    return False


cdef bint is_builtin(const char *name) noexcept nogil:
    return find(name) != NULL


cdef int builtin_type(const char *name, int *program_type, int *expected_attach_type) noexcept nogil:
    cdef const Section *section = find(name)
    if section == NULL:
        return -ESRCH
    program_type[0] = section.program_type
    expected_attach_type[0] = section.attach_type
    return 0


cdef int pattern_type(const char *pattern, int *program_type, int *expected_attach_type) noexcept nogil:
    cdef int i
    program_type[0] = expected_attach_type[0] = 0
    if pattern == NULL:
        return -ESRCH
    for i in range(COUNT):
        if not overlap(pattern, SECTIONS[i].pattern):
            continue
        if program_type[0] == 0:
            program_type[0] = SECTIONS[i].program_type
            expected_attach_type[0] = SECTIONS[i].attach_type
        elif program_type[0] != SECTIONS[i].program_type:
            program_type[0] = expected_attach_type[0] = 0
            return -ESRCH
        elif expected_attach_type[0] != SECTIONS[i].attach_type:
            expected_attach_type[0] = 0
    return 0 if program_type[0] else -ESRCH


# ---------------------------------------------------------------- for Python

def section_builtin(name):
    """Return the numbers of the program type and the expected attach type that libbpf gives a section by itself.

    None if no libbpf up to 1.8 knows the name. A known section may still be too new for the libbpf that runs.
    """
    cdef int program_type, attach_type
    if builtin_type(name_bytes(name, "section name"), &program_type, &attach_type) < 0:
        return None
    return program_type, attach_type


def builtin_patterns():
    """Return the patterns of all sections that libbpf up to 1.8 knows, as it writes them: "xdp", "kprobe+"."""
    return tuple([SECTIONS[i].pattern.decode() for i in range(COUNT)])


# The rest is for the tests.

def _match(pattern, name):
    return bool(match(pattern.encode(), name.encode())) if pattern is not None else bool(match(NULL, name.encode()))


def _overlap(pattern, other):
    return bool(overlap(pattern.encode(), other.encode()))


def _overlaps_builtin(pattern):
    return bool(overlaps_builtin(pattern.encode())) if pattern is not None else bool(overlaps_builtin(NULL))


def _pattern_type(pattern):
    cdef int program_type, attach_type
    if pattern_type(pattern.encode(), &program_type, &attach_type) < 0:
        return None
    return program_type, attach_type


def _ask_libbpf(name):
    cdef uapi.bpf_prog_type program_type
    cdef uapi.bpf_attach_type attach_type
    if libbpf.libbpf_prog_type_by_name(name.encode(), &program_type, &attach_type) < 0:
        return None
    return <int>program_type, <int>attach_type


def _libbpf_version():
    return libbpf.libbpf_major_version(), libbpf.libbpf_minor_version()
